//go:build interop

package interop

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"shunt/smpp/pdu"
	"shunt/test/sim/books"
)

// message is what esme.js sends, in the words of npm's smpp.
type message struct {
	To       string `json:"destination_addr"`
	Coding   int    `json:"data_coding"`
	ESMClass int    `json:"esm_class,omitempty"`
	Text     any    `json:"short_message,omitempty"`
	Payload  string `json:"message_payload,omitempty"`
	Vendor   string `json:"vendor_note,omitempty"`

	plain string // the text itself
}

// Texts in every alphabet; %s makes each unique.
var texts = []struct {
	coding  int
	payload bool
	text    string
}{
	{0, false, "Price [%s]: 12.50 € ~ {today} | C:\\x ^ @home £5 ÄÖÜ ñ Δ"},
	{8, false, "Заказ %s готов 📦👩‍⚕️ 您好 नमस्ते مرحبا 🇵🇹"},
	{3, false, "Réf %s : ça ira à l'hôtel, où « tout » est prêt. Grüße, ¿qué tal?"},
	{8, true, "%s: " + "длинное письмо 🙂 in message_payload; "},
	{0, true, "%s: " + "a long letter in the GSM alphabet [€] "},
}

var isOurs = regexp.MustCompile(`^s[0-9A-HJKMNP-TV-Z]{26}$`)

func messages() (list []message) {
	for _, to := range []string{unregistered, claimingAPNs, claimingFCM, offlineAPNs, offlineFCM} {
		for i, x := range texts {
			m := message{To: to, Coding: x.coding, plain: fmt.Sprintf(x.text, fmt.Sprintf("%s-%d", to[8:], i))}
			if x.payload {
				m.plain += strings.Repeat(x.text[4:], 8)
				m.Payload, m.Vendor = m.plain, "note 42"
			} else {
				m.Text = m.plain
			}
			list = append(list, m)
		}
	}
	// Parts of a long message stay with the carrier, whoever they are for.
	for part := 1; part <= 2; part++ {
		list = append(list, message{To: claimingAPNs, Coding: 0, ESMClass: 0x40, Text: map[string]string{
			"udh": fmt.Sprintf("0500032a02%02x", part), "message": fmt.Sprintf("Part %d of a long letter.", part),
		}})
	}
	return list
}

// counts are what the last line says.
type counts struct{ forwarded, claimed, fellBack, receipts int }

func TestForeignPeers(t *testing.T) {
	s := set(t)
	wire := capture(t, s)
	list := messages()
	b, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(s.dir, "messages.json"), "%s", b)
	s.esme = run(t, s.dir, "node-esme", need(t, "node", "nodejs"), "esme.js", s.listen, "messages.json")
	s.esme.until(t, "the bind", func() bool { return len(s.esme.all("bound")) > 0 })
	if bound := s.esme.all("bound")[0]; bound.Status != 0 {
		t.Fatalf("bind_transceiver_resp: status %#x", bound.Status)
	}
	s.esme.until(t, "every response and receipt", func() bool {
		return len(s.esme.all("answer")) >= len(list) && len(s.esme.all("receipt")) >= len(list)
	})
	s.esme.stop()
	if un := s.esme.all("unbound"); len(un) != 1 || un[0].Status != 0 {
		t.Errorf("unbind: %+v, want one answer with status 0", un)
	}
	s.phones.stop()
	s.gateway.stop()
	s.smsc.stop()
	for _, p := range []*part{s.esme, s.smsc} {
		for _, e := range p.all("error") {
			t.Errorf("%s met an error: %s", p.name, e.Error)
		}
	}
	n := judge(t, s, list)
	pdus := wire.judge(t, len(list))
	t.Logf("npm smpp 0.5.1 on both sides: %d messages: %d forwarded, %d claimed in the app, %d fell back to SMS; %d receipts; tshark: %d PDUs, 0 malformed",
		len(list), n.forwarded, n.claimed, n.fellBack, n.receipts, pdus)
}

// judge compares what one side sent with what the other got.
func judge(t *testing.T, s *scene, list []message) (n counts) {
	t.Helper()
	submits := map[string][]event{} // at the SMSC, by the body's blank sum
	for _, e := range s.smsc.all("submit") {
		submits[blank(t, e.Raw)] = append(submits[blank(t, e.Raw)], e)
	}
	taken := map[string]int{}
	for _, e := range s.smsc.all("receipt-taken") {
		if e.Status != 0 {
			t.Errorf("SMSC's receipt %s was answered with %#x", e.ID, e.Status)
		}
		taken[e.ID]++
	}
	sentReceipts := map[string]string{}
	for _, e := range s.smsc.all("receipt") {
		sentReceipts[e.ID] = e.Raw
		if taken[e.ID] != 1 {
			t.Errorf("SMSC's receipt %s was answered %d times", e.ID, taken[e.ID])
		}
	}
	receipts := map[string][]event{}
	for _, e := range s.esme.all("receipt") {
		receipts[e.ID] = append(receipts[e.ID], e)
	}
	claims := map[string]books.HandsetLine{}
	lines, err := books.Read[books.HandsetLine](filepath.Join(s.dir, "handset.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lines {
		claims[l.ID] = l
	}
	for _, a := range s.esme.all("answer") {
		m := list[a.N]
		at := submits[blank(t, a.Raw)]
		name := fmt.Sprintf("message %d to %s, id %s", a.N, m.To, a.ID)
		if a.Status != 0 {
			t.Errorf("%s: status %#x", name, a.Status)
			continue
		}
		if got := len(receipts[a.ID]); got != 1 {
			t.Errorf("%s: %d receipts, want 1", name, got)
			continue
		}
		r := receipts[a.ID][0]
		if r.ESMClass != 4 || r.State != 2 || !strings.Contains(r.Text, "id:"+a.ID+" ") || !strings.Contains(r.Text, "stat:DELIVRD") {
			t.Errorf("%s: receipt %+v, want a delivery receipt for it", name, r)
		}
		n.receipts++
		switch {
		case m.To == unregistered || m.ESMClass != 0:
			n.forwarded++
			if len(at) != 1 || at[0].SystemID != "node" || at[0].ID != a.ID || !sameButSequence(at[0].Raw, a.Raw) {
				t.Errorf("%s: the SMSC got %+v, want the same octets once, and its id in the response\nsent %s", name, at, a.Raw)
			}
			if !sameButSequence(r.Raw, sentReceipts[a.ID]) {
				t.Errorf("%s: receipt\ngot  %s\nwant %s, but for the sequence", name, r.Raw, sentReceipts[a.ID])
			}
		case m.To == claimingAPNs || m.To == claimingFCM:
			n.claimed++
			c := claims[a.ID]
			if !isOurs.MatchString(a.ID) || len(at) != 0 || r.Channel != "app" {
				t.Errorf("%s: %d at the SMSC, channel %q, want none and app", name, len(at), r.Channel)
			}
			if c.Claim != 200 || c.Delivered/100 != 2 || c.Text != books.Sum([]byte(m.plain)) || c.From != "NODE" || c.Fault != "" {
				t.Errorf("%s: phone's book %+v, want the text claimed and delivered", name, c)
			}
		default:
			n.fellBack++
			if !isOurs.MatchString(a.ID) || len(at) != 1 || at[0].SystemID != "shunt" || r.Channel != "carrier" {
				t.Errorf("%s: the SMSC got %+v, channel %q, want it once from shunt, and carrier", name, at, r.Channel)
			} else if at[0].Text != m.plain {
				t.Errorf("%s: node's SMSC reads %q, want %q", name, at[0].Text, m.plain)
			}
		}
	}
	if got := len(s.smsc.all("submit")); got != n.forwarded+n.fellBack {
		t.Errorf("the SMSC got %d submit_sm, want %d", got, n.forwarded+n.fellBack)
	}
	return n
}

// blank sums a PDU's body without what a fallback may change.
func blank(t *testing.T, raw string) string {
	t.Helper()
	b, err := hex.DecodeString(raw)
	if err != nil {
		t.Fatal(err)
	}
	var m pdu.SM
	if err := m.Decode(b); err != nil {
		t.Fatalf("submit_sm %s: %v", raw, err)
	}
	return books.SumBlank(&m)
}

// sameButSequence compares two PDUs in hexadecimal, but for octets 12 to 15.
func sameButSequence(a, b string) bool {
	return len(a) == len(b) && len(a) >= 32 && a[:24] == b[:24] && a[32:] == b[32:]
}
