package gateway

import (
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"shunt/gateway/msg"
	"shunt/smpp/pdu"
)

// TestTraces: a diverted message's life, from its submit to the receipt that its
// ESME took, is one trace at a real endpoint; a forwarded one is none.
func TestTraces(t *testing.T) {
	var mu sync.Mutex
	names := make(map[string][]string) // by trace
	all := ""
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var req collector.ExportTraceServiceRequest
		body, err := gzip.NewReader(r.Body)
		if err == nil {
			var b []byte
			if b, err = io.ReadAll(body); err == nil {
				err = proto.Unmarshal(b, &req)
			}
		}
		if err != nil {
			t.Errorf("request: %v", err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, rs := range req.ResourceSpans {
			for _, ss := range rs.ScopeSpans {
				for _, span := range ss.Spans {
					names[string(span.TraceId)] = append(names[string(span.TraceId)], span.Name)
					all += span.String()
				}
			}
		}
	}))
	defer s.Close()
	n := newAppNode(t, func(text string) string { return text + "[otel]\nendpoint = \"" + s.URL + "\"\n" })
	e := bind(t, n.addr(), "shop", 0x34)
	if id := e.submit(submitTo(stranger, nil)); ours(id) {
		t.Fatalf("a stranger's message is diverted: %s", id)
	}
	id := e.submit(submitTo("447700900042", func(m *pdu.SM) { m.RegisteredDelivery = 1 }))
	n.await(id, msg.Pushed)
	n.claim(id)
	n.acknowledge(id, "delivered")
	parsed, err := msg.ParseID(id)
	if err != nil {
		t.Fatal(err)
	}
	const want = "spool queue push claim deliver message receipt"
	n.until("the trace is whole", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return strings.Join(names[string(parsed[:])], " ") == want
	})
	n.until("seven spans are counted as sent", func() bool {
		c := (&control{n.g}).Status().Counters.Traces
		return c != nil && c.Sent == 7 && c.Dropped == 0
	})
	mu.Lock()
	defer mu.Unlock()
	if len(names) != 1 {
		t.Errorf("%d traces, want that of the diverted message alone", len(names))
	}
	for _, secret := range []string{"Your parcel", "447700900042", n.bearer, "Parcel24"} {
		if strings.Contains(all, secret) {
			t.Errorf("spans hold %q", secret)
		}
	}
}
