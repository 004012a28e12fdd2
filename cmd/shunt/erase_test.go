package main

import (
	"strings"
	"testing"
	"time"

	"shunt/gateway/noc"
)

func TestErase(t *testing.T) {
	r := newRig(t)
	r.gateway.pending = 2
	got := r.fails("registry", "erase", "+447700900042")
	if got.code != 1 || !strings.Contains(got.err, "2 pending") || !strings.Contains(got.out, "+4477••••0042") || !strings.Contains(got.out, "Backups made before") {
		t.Errorf("erase with two pending = %+v, want exit 1, what was done, and what is left to do", got)
	}
	defer func(was time.Duration) { eraseEvery = was }(eraseEvery)
	eraseEvery = time.Millisecond
	r.gateway.erasures = 0
	var e noc.Erased
	decode(t, r.ok("registry", "erase", "+447700900042", "--wait", "1m", "--json", "--unmask"), &e)
	if e.Pending != 0 || !e.Registered || e.Messages != 6 || e.CDRLines != 9 || e.Number != "+447700900042" {
		t.Errorf("erase that waits = %+v, want what three rounds did", e)
	}
	for _, args := range [][]string{{"registry", "erase"}, {"registry", "erase", "12"}, {"registry", "erase", "+447700900042", "--wait", "-1s"}} {
		if got := r.fails(args...); got.code != 2 {
			t.Errorf("shunt %q = %+v, want exit 2", args, got)
		}
	}
}

func TestWatch(t *testing.T) {
	r := newRig(t)
	out := r.ok("trace", "--watch", "+447700900042", "--for", "1m")
	for _, want := range []string{"submit_sm ", "Bank → +4477••••0042", "submit_sm_resp", "ESME_ROK  77  1.5 ms"} {
		if !strings.Contains(out, want) {
			t.Errorf("trace --watch = %s, want %q", out, want)
		}
	}
	for _, args := range [][]string{{"trace", "--watch", "s01"}, {"trace", "--watch", "+447700900042", "--for", "0s"}, {"trace", "+447700900042", "--for", "1m"}} {
		if got := r.fails(args...); got.code != 2 {
			t.Errorf("shunt %q = %+v, want exit 2", args, got)
		}
	}
}
