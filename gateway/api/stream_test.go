package api

import (
	"bufio"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"shunt/gateway/msg"
	"shunt/store/spool"
)

// withStreams serves an API with streams in front of the rig's stores. ended has
// the end of each stream, once the gateway has let go of it.
func (r *rig) withStreams(limit int) (s *Streams, ended <-chan struct{}) {
	s = NewStreams(limit)
	api := New(Options{Spool: r.spool, Devices: r.reg, Text: textOf, Log: r.logger(), Streams: s})
	ends := make(chan struct{}, 100)
	r.base = r.serve(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		api.ServeHTTP(w, q)
		if q.URL.Path == "/v1/stream" {
			ends <- struct{}{}
		}
	}), r.logger())
	return s, ends
}

// follow opens a stream and gives its events as "event id", without comments.
func (r *rig) follow(bearer, last string) (events <-chan string, status int) {
	r.t.Helper()
	req, err := http.NewRequestWithContext(r.t.Context(), "GET", r.base+"/v1/stream", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+bearer)
	if last != "" {
		req.Header.Set("Last-Event-ID", last)
	}
	res, err := r.http.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { res.Body.Close() })
	got := make(chan string, 64)
	if res.StatusCode != 200 {
		return got, res.StatusCode
	}
	go func() {
		defer close(got)
		name, id := "", ""
		for lines := bufio.NewScanner(res.Body); lines.Scan(); {
			k, v, _ := strings.Cut(lines.Text(), ": ")
			switch {
			case k == "event":
				name = v
			case k == "id":
				id = v
			case k == "data" && name == "superseded":
				got <- name + " " + v
			case k == "data":
				got <- name + " " + id
			}
		}
	}()
	return got, 200
}

func next(t *testing.T, events <-chan string, want string) {
	t.Helper()
	select {
	case got, ok := <-events:
		if got != want {
			t.Fatalf("event %q, %v, want %q", got, ok, want)
		}
	case <-time.After(20 * time.Second):
		t.Fatalf("no event, want %q", want)
	}
}

// TestStream: what waits comes first, then what is announced; whoever comes back
// gets what came after its last event, also a message that waited for an earlier
// one and has an older id; what another has is taken back.
func TestStream(t *testing.T) {
	r := newRig(t)
	s, _ := r.withStreams(10)
	announce := func(id msg.ID) {
		rec, err := r.spool.Get(id)
		if err != nil || !s.Announce(&rec) {
			t.Fatalf("Announce(%s) = false, %v", id, err)
		}
	}
	first := r.message(alice)
	r.message(bob)
	events, _ := r.follow(bearerA, "")
	next(t, events, "message "+first.String())
	second := r.message(alice)
	announce(second)
	next(t, events, "message "+second.String())

	held := func(m *spool.Message) { m.From = "SAME" }
	front := r.message(alice, held)
	behind := r.message(alice, held) // HELD behind front
	after := r.message(alice)
	announce(front)
	announce(after)
	next(t, events, "message "+front.String())
	next(t, events, "message "+after.String())
	r.event(front, msg.EvPushBegin)
	if a := r.do("POST", path(front, "/claim"), bearerB, nil); a.status != 200 {
		t.Fatalf("claim = %d", a.status)
	}
	r.awaitState(behind, msg.Accepted)
	again, _ := r.follow(bearerA, after.String())
	next(t, again, "message "+behind.String())
	all, _ := r.follow(bearerB, "s00000000000000000000000000")
	for _, id := range []msg.ID{first, second, behind, after} {
		next(t, all, "message "+id.String())
	}
	rec, _ := r.spool.Get(front)
	s.Observe(&spool.Change{From: msg.Pushing, To: msg.Claimed, Record: rec})
	next(t, again, fmt.Sprintf(`superseded {"id":"%s","reason":"claimed"}`, front))
	rec, _ = r.spool.Get(second)
	s.Observe(&spool.Change{From: msg.Accepted, To: msg.Fallback, Record: rec})
	next(t, all, fmt.Sprintf(`superseded {"id":"%s","reason":"sms"}`, second)) // and not its own claim
}

// TestStreamLimits: no more than so many streams, two of a device, the newest;
// one that does not read is cut.
func TestStreamLimits(t *testing.T) {
	r := newRig(t)
	s, ended := r.withStreams(3)
	oldest, _ := r.follow(bearerA, "")
	r.follow(bearerA, "")
	r.follow(bearerA, "")
	if got, open := <-oldest; open {
		t.Errorf("the oldest of three: %q, want its end", got)
	}
	<-ended
	if n := s.Open(); n != 2 {
		t.Fatalf("%d streams are open, want 2", n)
	}
	r.follow(bearerB, "")
	if _, status := r.follow(bearerBob, ""); status != 503 {
		t.Errorf("one stream too many = %d, want 503", status)
	}
	wantProblem(t, "a stream of nobody", r.do("GET", "/v1/stream", "", nil), 401, codeUnauthorized)

	st, err := NewStreams(1).add(caller{number: alice})
	if err != nil {
		t.Fatal(err)
	}
	slow := &Streams{open: map[owner][]*stream{st.owner: {st}}}
	slow.n.Store(1)
	rec := spool.Record{To: alice}
	for range streamQueue {
		slow.Announce(&rec)
	}
	if slow.Announce(&rec) {
		t.Error("a stream that does not read took one more")
	}
	<-st.cut
}

// An open stream shows that its device is there, for as long as it is open.
func TestStreamIsEvidence(t *testing.T) {
	r := newRig(t)
	s := NewStreams(10)
	s.beat = time.Millisecond
	shown := make(chan string)
	over := make(chan struct{})
	r.base = r.serve(New(Options{
		Spool: r.spool, Devices: r.reg, Text: textOf, Log: r.logger(), Streams: s,
		Owners: Owners{Evidence: func(n msg.Number, device, app string) {
			select {
			case shown <- fmt.Sprint(n, " ", device, " ", app):
			case <-over:
			}
		}},
	}), r.logger())
	defer close(over)
	go r.follow(bearerA, "")
	for i := range 5 { // the request itself, and then the stream
		select {
		case got := <-shown:
			if want := fmt.Sprint(alice, " phone chat"); got != want {
				t.Errorf("evidence %d of %q, want %q", i, got, want)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("no evidence after %d", i)
		}
	}
}
