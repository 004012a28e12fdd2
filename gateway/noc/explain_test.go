package noc

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestExplain(t *testing.T) {
	r := newRig(t)
	text := "open sesame"
	q := ExplainRequest{From: "+447700900099", To: "00447700900042", Text: &text, ESME: "bank", ProtocolID: 0x41}
	masked, clear := q, q
	masked.From, masked.To = "+4477••••0099", "00447••••0042"
	plainly := func(s string) string { return s }
	for _, c := range []struct {
		unmask bool
		q      ExplainRequest
	}{{false, masked}, {true, clear}} {
		want, err := r.gateway.Explain(&c.q, plainly)
		if err != nil {
			t.Fatal(err)
		}
		got, err := r.Explain(t.Context(), &q, c.unmask)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("Explain, unmasked %t (-want +got):\n%s", c.unmask, diff)
		}
	}
	_, body := r.raw("POST", "/v1/explain", `{"from":"ACME","to":"+447700900042","text":"open sesame"}`)
	if strings.Contains(body, "sesame") || strings.Contains(body, "447700900042") || !strings.Contains(body, `"reason":"protocol-id"`) {
		t.Errorf("POST /v1/explain = %s, want a reason, no text and the number masked", body)
	}
	r.gateway.refuse = errors.New("text: does not fit into the alphabet of data_coding")
	_, err := r.Explain(t.Context(), &q, false)
	wantProblem(t, "Explain refused", err, 400, CodeInvalid, "data_coding")
	if strings.Contains(r.log.String(), "sesame") {
		t.Errorf("log = %s, want no text", r.log)
	}
}

func TestAddressMask(t *testing.T) {
	for a, want := range map[string]string{
		"ACME": "ACME", "112": "112", "": "", "+447700900042": "+4477••••0042", "447700900042": "44770••••0042",
		"44-7700-900042": "44-77••••0042", "BANK*": "BANK*", "+4477*": "+4477*", "4477009*": "••••",
	} {
		if got := address(a, false); got != want {
			t.Errorf("address(%q) = %q, want %q", a, got, want)
		}
		if got := address(a, true); got != a {
			t.Errorf("address(%q), unmasked = %q", a, got)
		}
	}
}
