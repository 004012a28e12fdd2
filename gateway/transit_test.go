package gateway

import (
	"context"
	"log/slog"
	"math"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"shunt/smpp/pdu"
)

// A node that starts on a full disk passes everything, for registered numbers
// too, says so on its page and in its metrics, and goes on when there is room.
func TestTransit(t *testing.T) {
	n := newNode(t, withPage(""))
	cfg := n.g.cfg
	n.g.close()
	g, err := newTransit(cfg, slog.New(slog.NewJSONHandler(&n.said, nil)), "test", nil)
	if err != nil {
		t.Fatal(err)
	}
	var free atomic.Uint64
	free.Store(math.Float64bits(0.03))
	g.free = func(string) (float64, error) { return math.Float64frombits(free.Load()), nil }
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- g.transit(ctx) }()

	e := bind(t, g.addrs()[0], "shop", 0x34)
	for range 3 { // the answer to each is timed
		if id := e.submit(submitTo(registeredNumber, nil)); ours(id) {
			t.Errorf("message_id %s, want the SMSC's", id)
		}
	}
	if got := len(n.smsc.of("shop")); got != 3 {
		t.Errorf("the SMSC has %d messages, want 3", got)
	}
	at := "http://" + g.web.Addr().String()
	for path, want := range map[string][]string{
		"/":                       {"edge-1", "The disk is full, everything passes and nothing is diverted.", ">shop<", "disk-low", "3 %", "spool-full", "the SMSC"},
		"/message?id=s01":         {"No diverted message"},
		"/message?id=" + stranger: {"The stores are not open"},
		"/metrics":                {`shunt_submits_total{account="shop",reason="spool-full"} 3`, `shunt_fail_open{reason="spool-full"} 1`, `shunt_submit_response_seconds_count{leg="smpp"} 3`},
		"/healthz":                {"alive"},
	} {
		_, body := fetch(t, http.DefaultClient, at+path)
		for _, w := range want {
			if !strings.Contains(body, w) {
				t.Errorf("GET %s has no %q:\n%s", path, w, body)
			}
		}
		if strings.Contains(body, "Set divert") {
			t.Errorf("GET %s has switches", path)
		}
	}
	if code, body := fetch(t, http.DefaultClient, at+"/readyz"); code != http.StatusOK || !strings.Contains(body, `"fail_open":["spool-full"]`) {
		t.Errorf("GET /readyz = %d %s, want it ready: messages pass", code, body)
	}
	free.Store(math.Float64bits(0.5))
	if err := <-ended; err != nil {
		t.Errorf("transit() = %v", err)
	}
	if !n.said.has("disk has room again, starting to divert") {
		t.Error("the log does not say that there is room again")
	}
	http.DefaultClient.CloseIdleConnections()

	// The bind that passed through is over, and the same addresses serve the real one.
	next := n.again()
	next.register(subscriber, nil)
	if id := bind(t, next.addr(), "shop", 0x34).submit(submitTo(registeredNumber, func(m *pdu.SM) { m.RegisteredDelivery = 1 })); !ours(id) {
		t.Errorf("message_id %s, want one of ours", id)
	}
}
