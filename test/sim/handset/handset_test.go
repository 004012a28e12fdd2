package handset

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"shunt/test/sim/books"
)

// scripted is a gateway's API and a provider's control listener, over real
// sockets, that answers as the test says. Its maps belong to mu.
type scripted struct {
	mu     sync.Mutex
	calls  map[string]int // by method and path
	claim  func(id string, n int) (int, string)
	hidden bool // the list is empty
	pushes chan string
	// expires is that of the last push.
	expires time.Time
	api     *httptest.Server
	push    *httptest.Server
}

const (
	bearer = "secret-bearer"
	lateBy = time.Millisecond // after its push expired
)

func newScripted(t *testing.T) *scripted {
	t.Helper()
	s := &scripted{calls: map[string]int{}, pushes: make(chan string, 1000)}
	s.claim = func(id string, _ int) (int, string) {
		return 200, `{"id":"` + id + `","from":"CHAT","text":"Grüße ` + id + `"}`
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/messages/{id}/claim", func(w http.ResponseWriter, r *http.Request) {
		status, body := s.claim(r.PathValue("id"), s.count(r))
		if r.Header.Get("Authorization") != "Bearer "+bearer {
			status, body = 401, ""
		}
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	})
	mux.HandleFunc("PUT /v1/messages/{id}/receipts/{kind}", func(w http.ResponseWriter, r *http.Request) {
		if s.count(r) == 1 && r.PathValue("id") == "s-busy" {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	mux.HandleFunc("GET /v1/messages", func(w http.ResponseWriter, r *http.Request) {
		s.count(r)
		switch {
		case s.hidden:
			_, _ = w.Write([]byte(`{"messages":[]}`))
		case r.URL.Query().Get("after") == "":
			_, _ = w.Write([]byte(`{"messages":[{"id":"s-other"}],"next":"s-other"}`))
		default:
			_, _ = w.Write([]byte(`{"messages":[{"id":"s-1"}]}`))
		}
	})
	s.api = httptest.NewServer(mux)
	s.push = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(200)
		_ = http.NewResponseController(w).Flush()
		for {
			select {
			case line := <-s.pushes:
				if line == "" {
					return
				}
				_, _ = fmt.Fprintln(w, line)
				_ = http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				return
			}
		}
	}))
	t.Cleanup(func() {
		s.push.CloseClientConnections()
		s.push.Close()
		s.api.Close()
	})
	return s
}

func (s *scripted) count(r *http.Request) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := r.Method + " " + r.URL.Path
	s.calls[key]++
	return s.calls[key]
}

func (s *scripted) notify(id, token string) {
	s.expires = time.Now().Add(20 * time.Millisecond)
	s.pushes <- fmt.Sprintf(`{"token":%q,"id":%q,"from":"CHAT","expires":%q}`, token, id, s.expires.Format(time.RFC3339Nano))
}

// run runs the phones until ok says so of a summary, and returns the book.
func (s *scripted) run(t *testing.T, o Options, ids []string, done func(map[string]int) bool) (Summary, map[string]books.HandsetLine) {
	t.Helper()
	dir := t.TempDir()
	o.Devices, o.Book, o.ReadyFile = filepath.Join(dir, "devices"), filepath.Join(dir, "book"), filepath.Join(dir, "ready")
	device := fmt.Sprintf(`{"number":"+447700900001","platform":"apns","token":"tok","device":"d1","bearer":%q}`, bearer)
	if err := os.WriteFile(o.Devices, []byte(device+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o.API, o.Pushes = s.api.URL, []string{strings.TrimPrefix(s.push.URL, "http://")}
	o.LateBy, o.RetryFor = lateBy, 5*time.Second
	for _, id := range ids {
		s.notify(id, "tok")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	go func() { // the end: every call that the test waits for was made
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for range tick.C {
			s.mu.Lock()
			ok := done(s.calls)
			s.mu.Unlock()
			if ok || ctx.Err() != nil {
				cancel()
				return
			}
		}
	}()
	sum, err := Run(ctx, o)
	if err != nil {
		t.Fatalf("Run: %v", err)
	}
	if _, err := os.Stat(o.ReadyFile); err != nil {
		t.Errorf("ready-file: %v", err)
	}
	list, err := books.Read[books.HandsetLine](o.Book)
	if err != nil {
		t.Fatal(err)
	}
	lines := map[string]books.HandsetLine{}
	for _, l := range list {
		lines[l.ID] = l
	}
	return sum, lines
}

const (
	claim1     = "POST /v1/messages/s-1/claim"
	delivered1 = "PUT /v1/messages/s-1/receipts/delivered"
	read1      = "PUT /v1/messages/s-1/receipts/read"
)

func TestBehaviours(t *testing.T) {
	sum := books.Sum([]byte("Grüße s-1"))
	for name, tc := range map[string]struct {
		o     Options
		done  func(map[string]int) bool
		calls map[string]int
		check func(l books.HandsetLine, expires time.Time) bool
	}{
		"claims, acknowledges, reads": {
			Options{Read: 1},
			func(c map[string]int) bool { return c[read1] > 0 },
			map[string]int{claim1: 1, delivered1: 1, read1: 1},
			func(l books.HandsetLine, _ time.Time) bool {
				return l.Claim == 200 && l.Delivered == 204 && l.Read == 204 && l.Text == sum && l.From == "CHAT"
			},
		},
		"never acknowledges": {
			Options{NeverAck: 1},
			func(c map[string]int) bool { return c[claim1] > 0 },
			map[string]int{claim1: 1},
			func(l books.HandsetLine, _ time.Time) bool { return l.Claim == 200 && l.Delivered == 0 },
		},
		"claims twice": {
			Options{Twice: 1},
			func(c map[string]int) bool { return c[delivered1] > 0 },
			map[string]int{claim1: 2, delivered1: 1},
			func(l books.HandsetLine, _ time.Time) bool { return l.Replay == 200 && l.ReplaySum == sum },
		},
		"syncs": {
			Options{Sync: 1},
			func(c map[string]int) bool { return c[delivered1] > 0 },
			map[string]int{"GET /v1/messages": 2, claim1: 1, delivered1: 1},
			func(l books.HandsetLine, _ time.Time) bool { return l.Claim == 200 && l.Fault == "" },
		},
		"late": {
			Options{Late: 1},
			func(c map[string]int) bool { return c[delivered1] > 0 },
			map[string]int{claim1: 1, delivered1: 1},
			func(l books.HandsetLine, expires time.Time) bool { return !l.ClaimedAt.Before(expires.Add(lateBy)) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScripted(t)
			got, lines := s.run(t, tc.o, []string{"s-1"}, tc.done)
			l := lines["s-1"]
			if !tc.check(l, s.expires) || l.Fault != "" || got.Faults != 0 || l.Number != "447700900001" {
				t.Errorf("book %+v, summary %+v", l, got)
			}
			for call, n := range tc.calls {
				if s.calls[call] != n {
					t.Errorf("%s was called %d times, want %d", call, s.calls[call], n)
				}
			}
			if len(s.calls) != len(tc.calls) {
				t.Errorf("calls %v, want %v", s.calls, tc.calls)
			}
		})
	}
}

func TestOfflineCallsNothing(t *testing.T) {
	s := newScripted(t)
	o := Options{Offline: 0.5}
	var ids, last []string
	for i := 0; len(ids) < 3 || len(last) == 0; i++ {
		if id := fmt.Sprintf("s-%d", i); o.behaviour(id) == offline {
			ids = append(ids, id)
		} else {
			last = []string{id}
		}
	}
	// Pushes are taken in their order: the last one's claim tells that all were.
	end := "PUT /v1/messages/" + last[0] + "/receipts/delivered"
	all := append(append(ids, ids[0]), last[0])
	sum, lines := s.run(t, o, all, func(c map[string]int) bool { return c[end] > 0 })
	if sum.Behaviours[offline] != len(ids) || sum.Repeated != 1 || len(lines) != len(ids)+1 || len(s.calls) > 3 {
		t.Errorf("summary %+v, calls %v, want %d offline, one repeated push, calls for %v only", sum, s.calls, len(ids), last)
	}
}

func TestWhatAPhoneFindsWrong(t *testing.T) {
	for name, tc := range map[string]struct {
		o     Options
		spoil func(*scripted)
		fault string
		claim int
	}{
		"superseded is no fault": {Options{}, func(s *scripted) {
			s.claim = func(string, int) (int, string) { return 409, `{"code":"superseded"}` }
		}, "", 409},
		"unauthorized": {Options{}, func(s *scripted) { s.claim = func(string, int) (int, string) { return 401, "" } }, "401", 401},
		"unknown":      {Options{}, func(s *scripted) { s.claim = func(string, int) (int, string) { return 404, "" } }, "404", 404},
		"another id": {Options{NeverAck: 1}, func(s *scripted) {
			s.claim = func(string, int) (int, string) { return 200, `{"id":"s-2","text":"x"}` }
		}, "another id", 200},
		"not in the list": {Options{Sync: 1}, func(s *scripted) { s.hidden = true }, "list", 200},
		"busy, then well": {Options{NeverAck: 1}, func(s *scripted) {
			s.claim = func(id string, n int) (int, string) {
				if n < 3 {
					return 503, ""
				}
				return 200, `{"id":"` + id + `","text":"x"}`
			}
		}, "", 200},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScripted(t)
			tc.spoil(s)
			want := 1
			if strings.HasPrefix(name, "busy") {
				want = 3
			}
			sum, lines := s.run(t, tc.o, []string{"s-1"}, func(c map[string]int) bool {
				return c[claim1] >= want && (tc.claim != 200 || tc.o.NeverAck == 1 || c[delivered1] > 0)
			})
			l := lines["s-1"]
			if l.Claim != tc.claim || !strings.Contains(l.Fault, tc.fault) || (l.Fault == "") != (tc.fault == "") || (sum.Faults == 0) != (tc.fault == "") {
				t.Errorf("book %+v, summary %+v, want status %d and fault %q", l, sum, tc.claim, tc.fault)
			}
		})
	}
}

// A stream that breaks is read again; an unknown token is counted.
func TestSubscribesAgain(t *testing.T) {
	s := newScripted(t)
	s.pushes <- "" // the first stream ends at once
	s.notify("s-x", "unknown")
	s.notify("s-busy", "tok")
	const last = "PUT /v1/messages/s-busy/receipts/delivered"
	sum, lines := s.run(t, Options{}, nil, func(c map[string]int) bool { return c[last] >= 2 })
	if sum.Resubscribed != 1 || sum.UnknownToken != 1 || sum.Retries == 0 || lines["s-busy"].Delivered != 204 {
		t.Errorf("summary %+v, lines %v, want one more subscription, one unknown token, a repeated receipt", sum, lines)
	}
}

func TestShares(t *testing.T) {
	o := Options{Seed: 5, Offline: 0.2, Late: 0.1, NeverAck: 0.1, Twice: 0.3, Sync: 0.1}
	n := map[string]int{}
	for i := range 20_000 {
		n[o.behaviour(fmt.Sprintf("s%026d", i))]++
	}
	for b, want := range map[string]int{offline: 4000, late: 2000, neverAck: 2000, twice: 6000, syncs: 2000, claims: 4000} {
		if n[b] < want*9/10 || n[b] > want*11/10 {
			t.Errorf("%s: %d of 20000, want about %d", b, n[b], want)
		}
	}
	for i, o := range []Options{{}, {API: "a", Pushes: []string{"b"}, Devices: "c", Offline: 0.6, Late: 0.6}} {
		if o.check() == nil {
			t.Errorf("options %d: no error", i)
		}
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"no json": "x", "no bearer": `{"token":"t"}`} {
		path := filepath.Join(dir, "d")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readDevices(path); err == nil || !strings.Contains(err.Error(), ":1:") {
			t.Errorf("%s: %v, want an error with the line", name, err)
		}
	}
}
