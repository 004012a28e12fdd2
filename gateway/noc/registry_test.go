package noc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shunt/gateway/msg"
	"shunt/store/registry"
)

func TestPutGetRemove(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	made := r.put(alice, Put{App: "chat", Platform: "fcm", Token: "push-token-1"})
	if len(made.Bearer) < 43 || made.Device == "" || made.Number != alice.Masked() || made.State != "active" {
		t.Errorf("put = %+v, want a bearer, a device, the number masked, active", made)
	}
	if n, d, err := r.reg.ByBearer(made.Bearer); n != alice || d.ID != made.Device || err != nil {
		t.Errorf("ByBearer(the made one) = %s %s %v, want %s %s", n, d.ID, err, alice, made.Device)
	}
	given := r.put(alice, Put{App: "chat", Platform: "apns", Token: "push-token-2", Device: "phone", Bearer: "bearer-of-the-phone", State: "inactive", Sandbox: true})
	if given.Bearer != "" || given.Device != "phone" || len(given.Devices) != 2 {
		t.Errorf("put with a bearer = %+v, want it not repeated, and two devices", given)
	}
	again := r.put(alice, Put{App: "chat", Platform: "apns", Token: "push-token-3", Device: "phone"})
	if again.Bearer != "" {
		t.Errorf("put of a known device = %+v, want no bearer", again)
	}
	if _, d, err := r.reg.ByBearer("bearer-of-the-phone"); d.Token != "push-token-3" || err != nil {
		t.Errorf("ByBearer(the kept one) = %+v %v, want the new token", d, err)
	}

	got, err := r.Get(ctx, alice.String(), true)
	if err != nil {
		t.Fatal(err)
	}
	if got.Number != alice.String() || len(got.Devices) != 2 || got.Devices[1].Platform != "apns" || got.Devices[1].State != "active" {
		t.Errorf("get = %+v, want the whole number and both devices", got)
	}
	count, err := r.Count(ctx)
	if want := (Count{Numbers: 1, Active: 1, Devices: 2, Ready: true}); count != want || err != nil {
		t.Errorf("count = %+v %v, want %+v", count, err, want)
	}
	for _, path := range []string{"/v1/registry", "/v1/registry/+447700900042", "/v1/registry?unmask=1"} {
		_, body := r.raw("GET", path, "")
		for _, secret := range []string{"push-token", "bearer", made.Bearer} {
			if strings.Contains(body, secret) {
				t.Errorf("GET %s = %s, want no %s in it", path, body, secret)
			}
		}
		if whole := strings.Contains(body, "447700900042"); whole != strings.Contains(path, "unmask") {
			t.Errorf("GET %s = %s, whole number shown: %v", path, body, whole)
		}
	}
	if text := r.log.String(); strings.Contains(text, made.Bearer) || strings.Contains(text, "push-token") || strings.Contains(text, "447700900042") {
		t.Errorf("log = %s, want no bearer, token or whole number", text)
	}

	wantProblem(t, "rm of an unknown device", r.Remove(ctx, alice.String(), "watch", false), 404, CodeNotFound, "registry get")
	if err := r.Remove(ctx, alice.String(), "phone", false); err != nil {
		t.Errorf("rm of a device: %v", err)
	}
	if err := r.Remove(ctx, alice.String(), "", false); err != nil {
		t.Errorf("rm of the number: %v", err)
	}
	wantProblem(t, "rm of an unknown number", r.Remove(ctx, alice.String(), "", false), 404, CodeNotFound, "+4477••••0042", "nothing to remove")
	_, err = r.Get(ctx, alice.String(), false)
	wantProblem(t, "get of an unknown number", err, 404, CodeNotFound, "registry put")
}

func TestPutRefusals(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	r.put(alice, Put{App: "chat", Platform: "fcm", Token: "t", Device: "phone", Bearer: "bearer-of-the-phone"})
	_, err := r.Put(ctx, bob.String(), Put{App: "chat", Platform: "fcm", Token: "t", Bearer: "bearer-of-the-phone"}, false)
	wantProblem(t, "put of somebody's bearer", err, 409, CodeConflict, "give another")
	for i := 1; i < registry.MaxDevices; i++ {
		r.put(alice, Put{App: "chat", Platform: "fcm", Token: "t", Device: fmt.Sprint("d", i)})
	}
	_, err = r.Put(ctx, alice.String(), Put{App: "chat", Platform: "fcm", Token: "t"}, false)
	wantProblem(t, "put of a device too many", err, 409, CodeConflict, "registry rm")
	if err := r.reg.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = r.Put(ctx, alice.String(), Put{App: "chat", Platform: "fcm", Token: "t", Device: "phone"}, false)
	wantProblem(t, "put while stopping", err, 503, CodeUnavailable, "stopping")
}

func TestListPages(t *testing.T) {
	r := newRig(t)
	ctx := t.Context()
	var all []msg.Number
	var puts []registry.Put
	for i := range 25 {
		n := alice + msg.Number(i)
		all = append(all, n)
		puts = append(puts, registry.Put{Number: n, App: "chat", Platform: registry.FCM, Token: "t", Active: true})
	}
	if _, err := r.reg.PutAll(ctx, puts); err != nil {
		t.Fatal(err)
	}
	for _, clear := range []bool{false, true} {
		var want, got []string
		for _, n := range all {
			want = append(want, shown(n, clear))
		}
		after, pages := "", 0
		for ; pages < 9; pages++ {
			p, err := r.List(ctx, after, 10, clear)
			if err != nil {
				t.Fatal(err)
			}
			for _, reg := range p.Registrations {
				got = append(got, reg.Number)
			}
			if after = p.Next; after == "" {
				break
			}
			if _, err := msg.ParseNumber(after); (err == nil) != clear {
				t.Errorf("next = %q, unmasked %v", after, clear)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" || pages != 2 {
			t.Errorf("list, unmasked %v, in %d pages (-want +got):\n%s", clear, pages+1, diff)
		}
	}
	exact, err := r.List(ctx, "", 25, false)
	if err != nil || exact.Next != "" {
		t.Errorf("list of all = next %q, %v, want none", exact.Next, err)
	}
	behind, err := r.List(ctx, all[24].String(), 25, false)
	if err != nil || len(behind.Registrations) != 0 || behind.Registrations == nil {
		t.Errorf("list behind the last = %+v, %v, want an empty list", behind, err)
	}
	_, err = r.List(ctx, strings.Repeat("0", 32), 25, false)
	wantProblem(t, "a forged cursor", err, 400, CodeInvalid, "begin again")
}

func bulkLine(n msg.Number, bearer string) string {
	return fmt.Sprintf(`{"number":"%s","app":"chat","platform":"fcm","token":"secret-token","bearer":"%s"}`, n, bearer)
}

func TestBulk(t *testing.T) {
	r := newRig(t)
	var b strings.Builder
	const lines = bulkChunk + 10
	for i := range lines {
		fmt.Fprintln(&b, bulkLine(alice+msg.Number(i), fmt.Sprintf("bearer-of-number-%06d", i)))
		if i%1000 == 0 {
			b.WriteString("\n  \n") // blank lines are nothing
		}
	}
	put, err := r.Bulk(t.Context(), strings.NewReader(strings.TrimSpace(b.String())))
	if put != lines || err != nil {
		t.Fatalf("bulk = %d, %v, want %d", put, err, lines)
	}
	if n := r.reg.Count(); n.Numbers != lines || n.Active != lines {
		t.Errorf("count = %+v, want %d active numbers", n, lines)
	}
	if n, _, err := r.reg.ByBearer("bearer-of-number-008005"); n != alice+8005 || err != nil {
		t.Errorf("ByBearer of line 8006 = %s, %v", n, err)
	}
	left, err := os.ReadDir(r.server.o.TempDir)
	if len(left) != 0 || err != nil {
		t.Errorf("temporary files = %v, %v, want none", left, err)
	}
}

func TestBulkRefusesWholly(t *testing.T) {
	r := newRig(t)
	good := bulkLine(alice, "bearer-of-number-1")
	text := strings.Join([]string{
		good,
		``,
		`{"number":"12","app":"chat","platform":"fcm","token":"secret-token","bearer":"bearer-of-number-2"}`,
		`{"number":"+447700900043","app":"chat","platform":"fcm","token":"secret-token"}`,
		`not json secret-token`,
		`{"number":"+447700900043","app":"chat","platform":"fcm","token":"secret-token","bearer":"short"}`,
		`{"number":"+447700900043","app":"chat","platform":"fcm","token":"secret-token","bearer":"bearer-of-number-2","colour":1}`,
	}, "\n")
	_, err := r.Bulk(t.Context(), strings.NewReader(text))
	wantProblem(t, "bulk", err, 400, CodeInvalid, "5 of 6 lines", "nothing was put")
	var p *Problem
	if !errors.As(err, &p) {
		t.Fatal(err)
	}
	var got []string
	for _, l := range p.Lines {
		got = append(got, fmt.Sprintf("%d %.30s", l.Line, l.Text))
	}
	want := []string{
		`3 number "••••": not an E.164 nu`, `4 bearer: is missing: a bulk mak`, `5 invalid character 'o' in liter`,
		`6 bearer: want 16 to 512 printab`, `7 unknown field "colour"`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
	if strings.Contains(err.Error(), "secret-token") {
		t.Errorf("bulk = %v, want no token in it", err)
	}

	many := strings.Repeat("{}\n", 50)
	_, err = r.Bulk(t.Context(), strings.NewReader(many))
	if !errors.As(err, &p) || len(p.Lines) != maxLineFaults {
		t.Errorf("bulk of 50 wrong lines = %v, want the first %d", err, maxLineFaults)
	}
	_, err = r.Bulk(t.Context(), strings.NewReader(good+"\n"+strings.Repeat("x", maxBulkLine+1)))
	wantProblem(t, "bulk with a long line", err, 413, CodeTooLarge, "line 2", "nothing was put")

	r.server.limits = bulkLimits{octets: 1 << 20, lines: 3}
	_, err = r.Bulk(t.Context(), strings.NewReader(strings.Repeat(good+"\n", 4)))
	wantProblem(t, "bulk of too many lines", err, 413, CodeTooLarge, "more than 3 lines")
	r.server.limits = bulkLimits{octets: 200, lines: 30}
	_, err = r.Bulk(t.Context(), strings.NewReader(strings.Repeat(good+"\n", 4)))
	wantProblem(t, "bulk of too many octets", err, 413, CodeTooLarge, "more than 200 octets")
	if n := r.reg.Count(); n.Numbers != 0 {
		t.Errorf("numbers after refused bulks = %d, want 0", n.Numbers)
	}
}

// What only the registry can know stops a bulk half way, and the answer says
// where.
func TestBulkRefusedByTheRegistry(t *testing.T) {
	r := newRig(t)
	text := bulkLine(alice, "bearer-of-number-1") + "\n" + bulkLine(bob, "bearer-of-number-1")
	_, err := r.Bulk(t.Context(), strings.NewReader(text))
	wantProblem(t, "bulk with one bearer twice", err, 409, CodeConflict, "1 of 2 lines are put", "bearer belongs to another device")
	if n := r.reg.Count(); n.Numbers != 1 {
		t.Errorf("numbers = %d, want 1", n.Numbers)
	}
}

// blocked is a body that waits until it may end.
type blocked struct {
	begun chan struct{}
	end   chan struct{}
	once  bool
}

func (b *blocked) Read(p []byte) (int, error) {
	if !b.once {
		b.once = true
		close(b.begun)
		return copy(p, "\n"), nil
	}
	<-b.end
	return 0, context.Canceled
}

func TestOneBulkAtATime(t *testing.T) {
	r := newRig(t)
	r.server.bulk <- struct{}{} // a bulk is under way
	_, err := r.Bulk(t.Context(), strings.NewReader(bulkLine(alice, "bearer-of-number-1")))
	wantProblem(t, "second bulk", err, 409, CodeConflict, "another bulk")
	<-r.server.bulk
	if put, err := r.Bulk(t.Context(), strings.NewReader(bulkLine(alice, "bearer-of-number-1"))); put != 1 || err != nil {
		t.Errorf("bulk afterwards = %d, %v, want 1", put, err)
	}
}

// A body that breaks off leaves nothing behind and frees the way.
func TestBulkBreaksOff(t *testing.T) {
	r := newRig(t)
	body := &blocked{begun: make(chan struct{}), end: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := r.Bulk(ctx, body)
		ended <- err
	}()
	<-body.begun
	cancel()
	close(body.end)
	if err := <-ended; err == nil {
		t.Error("bulk that breaks off = nil, want an error")
	}
	r.server.bulk <- struct{}{} // until the broken one has ended
	<-r.server.bulk
	if n := r.reg.Count(); n.Numbers != 0 {
		t.Errorf("numbers = %d, want 0", n.Numbers)
	}
}

// checkPut and the registry refuse the same.
func TestCheckPutIsTheRegistrys(t *testing.T) {
	r := newRig(t)
	base := registry.Put{Number: alice, App: "chat", Platform: registry.FCM, Token: "t", Device: "phone", Bearer: strings.Repeat("b", 16), Active: true}
	texts := []string{
		"", "x", "a b", "a/b", "a\x7fb", "ä", "\n", "~!", strings.Repeat("x", 15), strings.Repeat("x", 16), strings.Repeat("x", 64),
		strings.Repeat("x", 65), strings.Repeat("x", 512), strings.Repeat("x", 513), strings.Repeat("x", 4096), strings.Repeat("x", 4097),
	}
	var refused, taken int
	for field, set := range map[string]func(*registry.Put, string){
		"app":    func(p *registry.Put, s string) { p.App = s },
		"token":  func(p *registry.Put, s string) { p.Token = s },
		"device": func(p *registry.Put, s string) { p.Device = s },
		"bearer": func(p *registry.Put, s string) { p.Bearer = s },
	} {
		for _, text := range texts {
			p := base
			set(&p, text)
			if p.Bearer == "" {
				continue // a bulk's own rule
			}
			ours := checkPut(&p)
			_, theirs := r.reg.Put(t.Context(), p)
			if (ours != nil) != errors.Is(theirs, registry.ErrInvalid) {
				t.Errorf("%s of %d octets %.10q: checkPut = %v, registry = %v", field, len(text), text, ours, theirs)
			}
			if ours != nil {
				refused++
				if !strings.HasPrefix(ours.Error(), field+": ") {
					t.Errorf("%s of %d octets: checkPut = %v, want it to name %s", field, len(text), ours, field)
				}
			} else {
				taken++
				if _, err := r.reg.Remove(t.Context(), alice, ""); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if refused < 20 || taken < 15 {
		t.Errorf("refused %d, taken %d: the table tests nothing", refused, taken)
	}
}

// BenchmarkBulk is a line of a bulk, checked, put and on stable storage.
func BenchmarkBulk(b *testing.B) {
	r := newRig(b)
	var text strings.Builder
	for i := range b.N {
		fmt.Fprintln(&text, bulkLine(alice+msg.Number(i), fmt.Sprintf("bearer-of-number-%09d", i)))
	}
	b.ResetTimer()
	if put, err := r.Bulk(b.Context(), strings.NewReader(text.String())); put != b.N || err != nil {
		b.Fatalf("bulk = %d, %v, want %d", put, err, b.N)
	}
}
