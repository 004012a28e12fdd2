package noc

import (
	"context"
	"errors"
	"fmt"
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
	for _, c := range []struct{ app, want string }{
		{"chta", `app: invalid registration: "chta" is not in the configuration: want chat, bank or bavard`},
		{"Chat", `"Chat" is not`},
		{"", `app: `},
		{strings.Repeat("x", 9000), "is not in the configuration"},
	} {
		_, err := r.Put(ctx, alice.String(), Put{App: c.app, Platform: "fcm", Token: "t"}, false)
		wantProblem(t, "put of an unknown app", err, 400, CodeInvalid, c.want)
		if len(err.Error()) > 300 {
			t.Errorf("put of an app of %d octets = an error of %d", len(c.app), len(err.Error()))
		}
	}
	if n := r.reg.Count(); n.Numbers != 0 {
		t.Errorf("%d numbers are registered for unknown apps, want none", n.Numbers)
	}
	r.gateway.apps = nil
	_, err := r.Put(ctx, alice.String(), Put{App: "chat", Platform: "fcm", Token: "t"}, false)
	wantProblem(t, "put without any app", err, 400, CodeInvalid, "app:", `"chat"`, "has no [[app]]")
	r.gateway.apps = []string{"chat"}
	_, err = r.Put(ctx, alice.String(), Put{App: "bank", Platform: "fcm", Token: "t"}, false)
	wantProblem(t, "put of another app than the one", err, 400, CodeInvalid, "want chat")
	r.put(alice, Put{App: "chat", Platform: "fcm", Token: "t", Device: "phone", Bearer: "bearer-of-the-phone"})
	_, err = r.Put(ctx, bob.String(), Put{App: "chat", Platform: "fcm", Token: "t", Bearer: "bearer-of-the-phone"}, false)
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
