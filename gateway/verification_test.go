package gateway

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"shunt/smpp/coding"
	"shunt/smpp/pdu"
)

var sixDigits = regexp.MustCompile(`[0-9]{6}`)

func inJSON(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// codeSMS begins a verification and gives the SMS that the SMSC got, as a phone
// would show it.
func (n *node) codeSMS(body map[string]string) (sm pdu.SM, text string) {
	n.t.Helper()
	before := len(n.smsc.of("shunt"))
	if st, v := n.ask("", "POST", "/v1/verifications", body); st != http.StatusAccepted {
		n.t.Fatalf("verification of %v: %d %v", body, st, v)
	}
	if err := sm.Decode(n.fallbacks(before + 1)[before]); err != nil {
		n.t.Fatal(err)
	}
	alphabet, ok := coding.OfDataCoding(sm.DataCoding, coding.GSM7)
	if !ok {
		n.t.Fatalf("data_coding %#x", sm.DataCoding)
	}
	text, err := coding.Decode(alphabet, sm.ShortMessage)
	if err != nil {
		n.t.Fatal(err)
	}
	return sm, text
}

// TestCodesThatPhonesFillIn: the SMS that leaves has the last line that Android's
// SMS Retriever, or Apple's domain-bound codes, look for, and is a single SMS.
func TestCodesThatPhonesFillIn(t *testing.T) {
	long := strings.Repeat("w", 63) // an app's id may be so long
	n := newNode(t, func(text string) string {
		text = strings.Replace(text, `id = "chat"`, `id = "`+long+`"`, 1)
		return text + verifying + `text = "Dein Code für {app} lautet {code}. Gib ihn niemandem weiter, auch nicht uns."` + "\n"
	}).run()
	for _, c := range []struct {
		body      map[string]string
		last      string // {code} is the code of the text
		plainLast bool
	}{
		{map[string]string{"number": "+447700900050", "format": "android", "hash": "FA+9qCX9VSu"}, "FA+9qCX9VSu", false},
		{map[string]string{"number": "+447700900051", "format": "domain", "domain": "example.com"}, "@example.com #{code}", false},
		{map[string]string{"number": "+447700900052", "format": "domain", "domain": strings.Repeat("d", 56) + ".com"}, "@" + strings.Repeat("d", 56) + ".com #{code}", false},
		{map[string]string{"number": "+447700900053"}, "", true},
	} {
		c.body["app"] = long
		sm, text := n.codeSMS(c.body)
		code := sixDigits.FindString(text)
		if code == "" {
			t.Errorf("%v: no code in %q", c.body, text)
		}
		lines := strings.Split(text, "\n")
		switch {
		case c.plainLast && len(lines) != 1:
			t.Errorf("%v: %q has %d lines, want one", c.body, text, len(lines))
		case !c.plainLast && (len(lines) != 2 || lines[1] != strings.ReplaceAll(c.last, "{code}", code)):
			t.Errorf("%v: %q, want the last line %q", c.body, text, c.last)
		}
		if len(text) > 140 && c.body["format"] == "android" {
			t.Errorf("%v: %d octets, the SMS Retriever takes 140", c.body, len(text))
		}
		most := 160 // septets (3GPP TS 23.040 §9.2.3.16), one an octet here
		if sm.DataCoding == 8 {
			most = 140
		}
		if len(sm.ShortMessage) > most || sm.ESMClass != 0 || len(sm.TLVs) > 0 {
			t.Errorf("%v: %d octets of data_coding %d, want at most %d and a single SMS", c.body, len(sm.ShortMessage), sm.DataCoding, most)
		}
		if string(sm.Source.Addr) != "Shunt" || sm.Source.TON != pdu.TONAlphanumeric || "+"+string(sm.Dest.Addr) != c.body["number"] {
			t.Errorf("%v: from %+v to %+v", c.body, sm.Source, sm.Dest)
		}
	}
	for what, body := range map[string]map[string]string{
		"a hash of ten":        {"format": "android", "hash": "FA+9qCX9VS"},
		"no hash":              {"format": "android"},
		"a domain in capitals": {"format": "domain", "domain": "Example.com"},
		"a hash without need":  {"hash": "FA+9qCX9VSu"},
	} {
		body["app"], body["number"] = long, "+447700900054"
		if st, p := n.ask("", "POST", "/v1/verifications", body); st != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %v, want 422", what, st, p)
		}
	}
}

// TestNumbersAsTheyAreWritten: however the user writes his number, the code goes
// to it, and what is no number costs no SMS.
func TestNumbersAsTheyAreWritten(t *testing.T) {
	n := newNode(t, func(text string) string {
		return strings.Replace(text, `id = "chat"`, "id = \"chat\"\ndefault_country = \"GB\"", 1) + verifying
	}).run()
	for written, want := range map[string]string{
		"07700 900061": "447700900061", "+44 (0)7700 900062": "447700900062", "00447700900063": "447700900063", "447700900064": "447700900064",
		"+33 6 12 34 56 78": "33612345678",
	} {
		if sm, _ := n.codeSMS(map[string]string{"number": written, "app": "chat"}); string(sm.Dest.Addr) != want || sm.Dest.TON != pdu.TONInternational {
			t.Errorf("%q: the code went to %+v, want %s", written, sm.Dest, want)
		}
	}
	sent := len(n.smsc.of("shunt"))
	for written, want := range map[string]string{
		"+44770090": "has 6 digits behind +44, want 7, 9 or 10", "0770090": "want 7, 9 or 10 digits behind the 0", "+999123456789": "no country",
		"call me": "want digits", "999": "want 7 to 15 digits",
	} {
		st, p := n.ask("", "POST", "/v1/verifications", map[string]string{"number": written, "app": "chat"})
		if st != http.StatusUnprocessableEntity || !strings.Contains(inJSON(t, p), want) || !strings.Contains(inJSON(t, p), "body.number") {
			t.Errorf("%q: %d %v, want 422 that names body.number and says %q", written, st, p, want)
		}
	}
	// One spelling is as good as another: all count for the same limit.
	if st, p := n.ask("", "POST", "/v1/verifications", map[string]string{"number": "+447700900061", "app": "chat"}); st != http.StatusTooManyRequests || p["code"] != "limit-resend" {
		t.Errorf("the same number written otherwise: %d %v, want 429 limit-resend", st, p)
	}
	if got := len(n.smsc.of("shunt")); got != sent {
		t.Errorf("%d SMS for what is no number", got-sent)
	}
}
