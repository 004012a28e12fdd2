package gateway

import (
	"io"
	"net/http"
	"strings"
	"testing"
)

// TestMetricsOfARunningGateway asks a real gateway over TCP after one submit for
// a number that nobody registered.
func TestMetricsOfARunningGateway(t *testing.T) {
	n := newNode(t, func(text string) string {
		return strings.Replace(text, "socket = \"noc.sock\"", "socket = \"noc.sock\"\nlisten = \"127.0.0.1:0\"", 1)
	})
	n.run()
	e := bind(t, n.addr(), "shop", 0x34)
	e.submit(submitTo("447700900123", nil))
	resp, err := http.Get("http://" + n.g.web.Addr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`shunt_submits_total{account="shop",reason="unregistered"} 1`, `shunt_binds{bind="transceiver"} 1`} {
		if !strings.Contains(string(b), want+"\n") {
			t.Errorf("/metrics has no line %s:\n%s", want, b)
		}
	}
	if strings.Contains(string(b), "447700900123") {
		t.Error("/metrics shows a number")
	}
}
