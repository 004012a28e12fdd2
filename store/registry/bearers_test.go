package registry

import (
	"errors"
	"testing"

	"shunt/gateway/msg"
)

// A bearer that is remembered counts as long as nothing of its number changes.
func TestRememberedBearer(t *testing.T) {
	const alice msg.Number = 447700900042
	r := start(t, Options{})
	p := Put{Number: alice, App: "chat", Platform: APNs, Token: "token-1", Device: "phone", Bearer: "bearer-of-alice-1", Active: true}
	mustPut(t, r, p)
	for range 2 {
		if n, d, err := r.ByBearer(p.Bearer); err != nil || n != alice || d.Token != "token-1" {
			t.Fatalf("ByBearer = %s, %+v, %v", n, d, err)
		}
	}
	known := 0
	for i := range r.bearers {
		if r.bearers[i][0].Load() != nil {
			known++
		}
	}
	if known != 1 {
		t.Fatalf("%d bearers are remembered, want 1", known)
	}
	p.Token = "token-2"
	mustPut(t, r, p)
	if _, d, err := r.ByBearer(p.Bearer); err != nil || d.Token != "token-2" {
		t.Errorf("after a new token: %+v, %v", d, err)
	}
	old := p.Bearer
	p.Bearer = "bearer-of-alice-2"
	mustPut(t, r, p)
	if _, _, err := r.ByBearer(old); !errors.Is(err, ErrNotFound) {
		t.Errorf("the bearer before = %v, want ErrNotFound", err)
	}
	if _, _, err := r.ByBearer(p.Bearer); err != nil {
		t.Errorf("the new bearer = %v", err)
	}
	if _, err := r.Remove(t.Context(), alice, ""); err != nil {
		t.Fatal(err)
	}
	if _, _, err := r.ByBearer(p.Bearer); !errors.Is(err, ErrNotFound) {
		t.Errorf("after the removal = %v, want ErrNotFound", err)
	}
}
