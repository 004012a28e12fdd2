package noc

import (
	"errors"
	"strings"
	"testing"
)

func TestErase(t *testing.T) {
	r := newRig(t)
	e, err := r.Erase(t.Context(), alice.String(), false)
	if err != nil || e.Number != alice.Masked() || e.Messages != 3 || e.Pending != 1 || !e.Registered {
		t.Errorf("erase = %+v, %v, want what the gateway did, the number masked", e, err)
	}
	if e, err := r.Erase(t.Context(), alice.String(), true); err != nil || e.Number != alice.String() {
		t.Errorf("erase, unmasked = %+v, %v", e, err)
	}
	if got := r.gateway.erased; len(got) != 2 || got[0] != alice {
		t.Errorf("the gateway erased %v, want alice twice", got)
	}
	r.gateway.refuse = errors.New("the disk is broken")
	_, err = r.Erase(t.Context(), bob.String(), false)
	wantProblem(t, "an erasure that fails", err, 500, CodeInternal, "erase it again")
	_, err = r.Erase(t.Context(), "12", false)
	wantProblem(t, "no number", err, 400, CodeInvalid, "number")
	if text := r.log.String(); strings.Contains(text, "447700900042") || strings.Contains(text, "447700900043") {
		t.Errorf("log = %s, want no whole number", text)
	}
}
