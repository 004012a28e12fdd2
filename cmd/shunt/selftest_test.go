package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"shunt/gateway/msg"
	"shunt/gateway/noc"
	"shunt/store/spool"
)

// Each thing that is broken gets the words for it.
func TestSelftestJudges(t *testing.T) {
	for want, break_ := range map[string]func(*noc.Status){
		"shunt undrain":           func(st *noc.Status) { st.Drain = true },
		"free space":              func(st *noc.Status) { st.FailOpen = []string{"spool-full"} },
		"fallback_smsc":           func(st *noc.Status) { st.Own[0].State, st.Own[0].LastError = "unbound", "refused" },
		"the app's keys":          func(st *noc.Status) { st.Push[0].Breaker = "open" },
		"look at the disk":        func(st *noc.Status) { st.Spool.LastError, st.Spool.LastErrorAt = errors.New("EIO"), time.Now() },
		"restore the registry":    func(st *noc.Status) { st.Registered.Corrupt = 1 },
		"wait until the registry": func(st *noc.Status) { st.FailOpen = []string{"index-loading"} },
	} {
		st := noc.Status{
			Divert: "on", Own: []noc.OwnBind{{SMSC: "own", State: "bound"}},
			Push: []noc.PushLane{{App: "chat", Provider: "apns", Breaker: "closed"}}, Spool: spool.Stats{},
		}
		for _, f := range judgeStatus(&st) {
			if !f.OK || f.Result != resultOK || f.Do != "" {
				t.Errorf("a sound gateway: %+v", f)
			}
		}
		break_(&st)
		var do []string
		for _, f := range judgeStatus(&st) {
			if !f.OK {
				do = append(do, f.Do)
			}
		}
		if len(do) != 1 || !strings.Contains(do[0], want) {
			t.Errorf("broken: do %q, want one with %q", do, want)
		}
	}
}

// What simulators cannot prove is said too.
func TestSelftestSimulators(t *testing.T) {
	if f := runDemo(t.Context(), filepath.Join(t.TempDir(), "none"), time.Minute); f.OK || !strings.Contains(f.Do, "--shuntsim") {
		t.Errorf("no shuntsim: %+v", f)
	}
	lying := filepath.Join(t.TempDir(), "shuntsim")
	if err := os.WriteFile(lying, []byte("#!/bin/sh\necho 'waiting for the gateway: it ended'\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	if f := runDemo(t.Context(), lying, time.Minute); f.OK || !strings.Contains(f.Detail, "it ended") || f.Do == "" {
		t.Errorf("a demo that fails: %+v", f)
	}
}

// A followed trace shows what is there, then each new step once, and ends when
// the message has ended.
func TestTraceFollows(t *testing.T) {
	r := newRig(t)
	if got := r.fails("trace", "-f", "+447700900042"); got.code != 1 {
		t.Errorf("trace -f of nobody = %+v, want exit 1", got)
	}
	now := time.Now()
	m := &spool.Message{
		ID: r.spool.NewID(), Account: msg.Account{SystemID: "bank"}, To: alice, App: "chat", From: "ACME", PDU: []byte("secret text"),
		ReceivedAt: now, ClaimBy: now.Add(time.Hour), ExpiresAt: now.Add(2 * time.Hour),
	}
	m.WireID = m.ID.String()
	put := make(chan error, 1)
	r.spool.Put(m, func(err error) { put <- err })
	if err := <-put; err != nil {
		t.Fatal(err)
	}
	var out, errs buffer
	ended := make(chan int, 1)
	go func() {
		ended <- execute(t.Context(), []string{"trace", "-f", "--socket", r.socket, m.WireID}, streams{strings.NewReader(""), &out, &errs}, startGateway)
	}()
	late := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(out.String(), "accept") {
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("nothing is shown: %q, %q", out.String(), errs.String())
		}
	}
	if res := r.spool.Do(t.Context(), spool.Event{ID: m.ID, Kind: msg.EvCancel, Reason: msg.ReasonESME}); res.Err != nil {
		t.Fatal(res.Err)
	}
	select {
	case code := <-ended:
		if code != 0 || strings.Count(out.String(), "  accept  ") != 1 || strings.Count(out.String(), "  cancel  CANCELLED  esme") != 1 {
			t.Errorf("trace -f = exit %d, %q, %q, want each step once", code, out.String(), errs.String())
		}
	case <-late:
		t.Fatal("trace -f does not end")
	}
}
