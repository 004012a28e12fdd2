//go:build interop

package interop

import (
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"shunt/smpp/pdu"
	"shunt/test/sim/books"
)

// message is a submit_sm of the node ESME.
type message struct {
	to     string
	coding int
	body   words  // short_message or message_payload, and more
	plain  string // the text itself; of a part, its own
	part   int    // of a long message, from 1
}

// words are what the message says in the words of npm's smpp.
func (m *message) words() words {
	return with(basics(m.to), words{"data_coding": m.coding}, m.body)
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

// longLetter is a text that comes in parts.
var longLetter = []string{"Part 1 of a long letter [€], ", "part 2 of a long letter."}

func messages() (list []message) {
	for _, to := range []string{unregistered, claimingAPNs, claimingFCM, offlineAPNs, offlineFCM} {
		for i, x := range texts {
			m := message{to: to, coding: x.coding, plain: fmt.Sprintf(x.text, fmt.Sprintf("%s-%d", to[8:], i))}
			if x.payload {
				m.plain += strings.Repeat(x.text[4:], 8)
				m.body = words{"message_payload": m.plain, "vendor_note": "note 42"}
			} else {
				m.body = words{"short_message": m.plain}
			}
			list = append(list, m)
		}
	}
	for i, text := range longLetter {
		list = append(list, message{to: claimingAPNs, part: i + 1, plain: text, body: words{
			"esm_class":     0x40,
			"short_message": words{"udh": fmt.Sprintf("0500032a%02x%02x", len(longLetter), i+1), "message": text},
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
	c := startESME(t, s)
	for _, m := range list {
		c.ask(t, "submit_sm", m.words())
	}
	s.esme.until(t, "every response and receipt", func() bool {
		return len(s.esme.all("answer")) >= len(list) && len(s.esme.all("receipt")) >= len(list)
	})
	c.end(t, s)
	n := judge(t, s, list)
	pdus := wire.judge(t, map[pdu.ID]int{pdu.SubmitSM: len(list), pdu.DeliverSM: n.receipts}, map[pdu.ID]int{
		pdu.SubmitSM: n.forwarded + n.fellBack, pdu.DeliverSM: n.forwarded + n.fellBack,
	})
	t.Logf("npm smpp 0.5.1 on both sides: %d messages: %d forwarded, %d claimed in the app, %d fell back to SMS; %d receipts; tshark: %s",
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
	lines, err := books.Read[books.HandsetLine](s.path("handset.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lines {
		claims[l.ID] = l
	}
	claimed := 0 // texts; each may have several parts
	for _, a := range s.esme.all("answer") {
		m := list[a.N]
		at := submits[blank(t, a.Raw)]
		name := fmt.Sprintf("message %d to %s, id %s", a.N, m.to, a.ID)
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
		case m.to == unregistered:
			n.forwarded++
			if len(at) != 1 || at[0].SystemID != "node" || at[0].ID != a.ID || !sameButSequence(at[0].Raw, a.Raw) {
				t.Errorf("%s: the SMSC got %+v, want the same octets once, and its id in the response\nsent %s", name, at, a.Raw)
			}
			if !sameButSequence(r.Raw, sentReceipts[a.ID]) {
				t.Errorf("%s: receipt\ngot  %s\nwant %s, but for the sequence", name, r.Raw, sentReceipts[a.ID])
			}
		case m.to == claimingAPNs || m.to == claimingFCM:
			n.claimed++
			if !isOurs.MatchString(a.ID) || len(at) != 0 || r.Channel != "app" {
				t.Errorf("%s: %d at the SMSC, channel %q, want none and app", name, len(at), r.Channel)
			}
			text := m.plain
			if m.part > 1 { // the whole is claimed under its first part's id
				break
			}
			if m.part == 1 {
				text = strings.Join(longLetter, "")
			}
			claimed++
			c := claims[a.ID]
			if c.Claim != 200 || c.Delivered/100 != 2 || c.Text != books.Sum([]byte(text)) || c.From != "NODE" || c.Fault != "" {
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
	if len(lines) != claimed {
		t.Errorf("the phones got %d messages, want %d", len(lines), claimed)
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
