//go:build interop

package interop

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"shunt/smpp/pdu"
	"shunt/test/sim/books"
)

// link is one bind on the wire.
type link struct {
	flow
	systemID string
	first    bool // of the gateway's first run
}

func (l *link) String() string { return l.systemID + " on port " + l.port }

// links are all binds, on both of the gateway's sides.
type links struct {
	before, behind []*link
	pdus           int
}

// bindsOf finds the binds among the connections. Kannel makes some that nobody
// answers while the gateway is away.
func bindsOf(t *testing.T, flows []flow, ports []string) (ls links) {
	t.Helper()
	runs := map[string]int{} // binds so far, by port and system_id
	for _, f := range flows {
		ls.pdus += len(f.asked) + len(f.given)
		if len(f.asked) == 0 {
			continue
		}
		var b pdu.Bind
		if id := f.asked[0].ID(); !id.IsBind() {
			t.Errorf("a connection to port %s opens with %s, want a bind", f.port, id)
			continue
		}
		if err := b.Decode(f.asked[0]); err != nil {
			t.Errorf("port %s: bind: %v", f.port, err)
			continue
		}
		l := &link{flow: f, systemID: b.SystemID}
		once := map[string]int{"kannel-trx": 1, "kannel-pair": 2, "shunt": 2}[b.SystemID]
		key := f.port + b.SystemID
		l.first = runs[key] < once
		if runs[key]++; runs[key] > 2*once {
			t.Errorf("%s: bound %d times, want %d", l, runs[key], 2*once)
		}
		if f.port == ports[0] {
			ls.before = append(ls.before, l)
		} else {
			ls.behind = append(ls.behind, l)
		}
	}
	if len(ls.before) != 2*kannelBinds || len(ls.behind) != 2*kannelBinds+4 {
		t.Errorf("%d binds before the gateway and %d behind it, want %d and %d", len(ls.before), len(ls.behind), 2*kannelBinds, 2*kannelBinds+4)
	}
	return ls
}

// judgeLinks looks at each bind for itself: one response for every request; and
// enquire_link stays on its side. It returns the number of enquire_links.
func judgeLinks(t *testing.T, ls links) (enquiries int) {
	t.Helper()
	count := func(l *link, from string, requests, responses []pdu.PDU) (asked int) {
		open := map[uint32]pdu.ID{}
		var last uint32 // enquire_link, which may meet the end of the session
		for _, p := range requests {
			if !p.ID().Answered() {
				continue
			}
			if p.ID() == pdu.EnquireLink {
				asked++
				last = p.Seq()
			}
			open[p.Seq()] = p.ID()
		}
		for _, p := range responses {
			if !p.ID().IsResponse() {
				continue
			}
			if id, ok := open[p.Seq()]; !ok || p.ID() != id.Response() || p.Status() != pdu.ROK {
				t.Errorf("%s: %s sent %s %d, and was answered %s with %s", l, from, id, p.Seq(), p.ID(), p.Status())
			}
			delete(open, p.Seq())
		}
		for seq, id := range open {
			switch {
			case id == pdu.EnquireLink && seq == last && asked > 1:
			default:
				t.Errorf("%s: %s %d of %s was never answered", l, id, seq, from)
			}
		}
		enquiries += asked
		return asked
	}
	ours := 0
	for _, l := range ls.before {
		kannels := count(l, "Kannel", l.asked, l.given)
		shunts := count(l, "the gateway", l.given, l.asked)
		switch {
		case l.systemID == "kannel-trx" && kannels == 0, l.systemID == "kannel-pair" && kannels > 0:
			t.Errorf("%s: %d enquire_link of Kannel, which was told to ask on kannel-trx alone", l, kannels)
		case l.first && shunts > 0: // the gateway's own come after 30 s of silence
			t.Errorf("%s: %d enquire_link to Kannel that the gateway has no reason for: they crossed", l, shunts)
		}
		ours += shunts
	}
	if ours == 0 {
		t.Error("the gateway never asked a silent Kannel, want once a second after the restart")
	}
	for _, l := range ls.behind {
		shunts := count(l, "the gateway", l.asked, l.given)
		if smscs := count(l, "the SMSC", l.given, l.asked); smscs == 0 {
			t.Errorf("%s: no enquire_link of the SMSC, which asks four times a second", l)
		}
		if l.first && shunts > 0 {
			t.Errorf("%s: %d enquire_link to the SMSC that the gateway has no reason for: they crossed", l, shunts)
		}
	}
	return enquiries
}

// submit is a submit_sm that Kannel sent, and what it was answered.
type submit struct {
	account string
	raw     pdu.PDU
	sm      pdu.SM
	id      string
}

// group is the same for all parts of one long message of Kannel's, whose
// references count up to 255; part counts from 1. A short one is its own group.
func (s *submit) group() (key string, part int) {
	if b := s.sm.ShortMessage; s.sm.ESMClass&0x40 != 0 && len(b) > 6 && bytes.HasPrefix(b, []byte{5, 0, 3}) {
		return fmt.Sprintf("%s %s %d", s.account, s.sm.Dest.Addr, b[3]), int(b[5])
	}
	return s.account + " " + s.id, 1
}

// submits are all of Kannel's by account and message_id, and grouped.
func submits(t *testing.T, ls links) (byID map[string]*submit, groups map[string][]*submit) {
	t.Helper()
	byID, groups = map[string]*submit{}, map[string][]*submit{}
	for _, l := range ls.before {
		answers := map[uint32]pdu.PDU{}
		for _, p := range l.given {
			if p.ID() == pdu.SubmitSMResp {
				answers[p.Seq()] = p
			}
		}
		for _, p := range l.asked {
			if p.ID() != pdu.SubmitSM {
				continue
			}
			m := &submit{account: l.systemID, raw: p}
			err := m.sm.Decode(p)
			if a := answers[p.Seq()]; err == nil && a != nil {
				m.id, err = pdu.MessageID(a)
			}
			if err != nil || m.id == "" || byID[m.account+" "+m.id] != nil {
				t.Errorf("%s: submit_sm %d was answered with id %q, %v, want one of its own", l, p.Seq(), m.id, err)
				continue
			}
			byID[m.account+" "+m.id] = m
			key, _ := m.group()
			groups[key] = append(groups[key], m)
		}
	}
	for _, g := range groups {
		slices.SortFunc(g, func(a, b *submit) int {
			_, x := a.group()
			_, y := b.group()
			return x - y
		})
	}
	return byID, groups
}

var receiptID = regexp.MustCompile(`^id:(\S+) `)

// receipts are the deliver_sm that Kannel got, by account and message_id.
func receipts(t *testing.T, ls links) map[string][]pdu.PDU {
	t.Helper()
	all := map[string][]pdu.PDU{}
	for _, l := range ls.before {
		for _, p := range l.given {
			if p.ID() != pdu.DeliverSM {
				continue
			}
			var m pdu.SM
			err := m.Decode(p)
			id := receiptID.FindSubmatch(m.ShortMessage)
			if err != nil || m.ESMClass != 4 || id == nil {
				t.Errorf("%s: deliver_sm % x, %v, want a receipt", l, []byte(p), err)
				continue
			}
			if l.systemID == "kannel-pair" && len(m.TLVs) > 0 {
				t.Errorf("%s: a receipt with TLVs % x on a bind of v3.3", l, []byte(m.TLVs))
			}
			key := l.systemID + " " + string(id[1])
			all[key] = append(all[key], p)
		}
	}
	return all
}

var isShort = regexp.MustCompile(`^[0-9a-f]{8}$`)

// court is all the evidence.
type court struct {
	submits  map[string]*submit
	groups   map[string][]*submit
	receipts map[string][]pdu.PDU
	smsc     map[string]event   // submits at the SMSC, by system_id and id
	byBlank  map[string][]event // the same, by their blank sums
	sent     map[string]string  // the SMSC's receipts, by id
	claims   map[string][]books.HandsetLine
}

// judgeKannel compares what Kannel sent and reported with what the SMSC and the
// phones got.
func judgeKannel(t *testing.T, s *scene, k *kannel, ls links, list []letter) (n counts) {
	t.Helper()
	c := court{
		receipts: receipts(t, ls), smsc: map[string]event{}, byBlank: map[string][]event{}, sent: map[string]string{},
		claims: map[string][]books.HandsetLine{},
	}
	c.submits, c.groups = submits(t, ls)
	for _, e := range s.smsc.all("submit") {
		c.smsc[e.SystemID+" "+e.ID] = e
		sum := blank(t, e.Raw)
		c.byBlank[sum] = append(c.byBlank[sum], e)
	}
	for _, e := range s.smsc.all("receipt") {
		c.sent[e.ID] = e.Raw
	}
	lines, err := books.Read[books.HandsetLine](s.path("handset.ndjson"))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range lines {
		c.claims[l.Text] = append(c.claims[l.Text], l)
	}
	claimed := 0 // texts; each may have several parts
	for i, bad := range k.reports(dlrRejected) {
		t.Errorf("text %d: Kannel reports it rejected: %+v", i, bad)
	}
	accepted, delivered, failed := k.reports(dlrAccepted), k.reports(dlrDelivered), k.reports(dlrFailed)
	for i := range list {
		m := &list[i]
		name := fmt.Sprintf("text %d of %s to %s", i, m.smsc, m.to)
		a, d, other := accepted[i], delivered[i], failed[i]
		if m.fails() {
			d, other = other, d
		}
		if len(a) != 1 || len(d) != 1 || len(other) != 0 || a[0].ID != d[0].ID || a[0].SMSC != m.smsc || d[0].SMSC != m.smsc {
			t.Errorf("%s: Kannel reports it accepted %+v, delivered %+v, failed %+v; want accepted and one of the others (failed: %t) once, with one id",
				name, a, delivered[i], failed[i], m.fails())
			continue
		}
		c.text(t, name, m, d[0], &n)
		if m.claimed() {
			claimed++
		}
	}
	if len(lines) != claimed {
		t.Errorf("the phones got %d messages, want %d", len(lines), claimed)
	}
	if got := n.forwarded + n.claimed + n.fellBack; len(c.submits) != got {
		t.Errorf("Kannel sent %d submit_sm, %d are accounted for", len(c.submits), got)
	}
	if got := len(s.smsc.all("submit")); got != n.forwarded+n.fellBack {
		t.Errorf("the SMSC got %d submit_sm, want %d", got, n.forwarded+n.fellBack)
	}
	if len(c.receipts) != n.receipts {
		t.Errorf("Kannel got receipts for %d ids, %d are accounted for", len(c.receipts), n.receipts)
	}
	return n
}

// text judges one text by the id that Kannel reports for it, which is that of
// its first part.
func (c *court) text(t *testing.T, name string, m *letter, d callback, n *counts) {
	t.Helper()
	account := "kannel-" + m.smsc
	first := c.submits[account+" "+d.ID]
	if first == nil {
		t.Errorf("%s: Kannel reports id %s, which no submit_sm_resp gave", name, d.ID)
		return
	}
	report := " stat:DELIVRD err:000 "
	if m.fails() {
		report = " stat:UNDELIV err:001 " // the SMSC's own err, through a fallback's receipt too
	}
	if !strings.HasPrefix(d.Report, "id:"+d.ID+" ") || !strings.Contains(d.Report, report) {
		t.Errorf("%s: the receipt of id %s says %q, want%s", name, d.ID, d.Report, report)
	}
	key, _ := first.group()
	parts := c.groups[key]
	if len(parts) != m.parts || string(first.sm.Dest.Addr) != m.to {
		t.Errorf("%s: Kannel made %d submit_sm of it, to %s, want %d", name, len(parts), first.sm.Dest.Addr, m.parts)
		return
	}
	for _, p := range parts {
		want := int(p.sm.RegisteredDelivery & 1) // Kannel may ask for some parts only
		if got := len(c.receipts[account+" "+p.id]); got != want || p == first && want == 0 {
			t.Errorf("%s: %d receipts for id %s, which asked for %d", name, got, p.id, want)
			return
		}
		n.receipts += want
	}
	switch {
	case m.forwarded():
		n.forwarded += len(parts)
		var read strings.Builder
		for _, p := range parts {
			read.WriteString(c.forwarded(t, name, p))
		}
		if read.String() != m.plain {
			t.Errorf("%s: node's SMSC reads %q, want %q", name, read.String(), m.plain)
		}
	case m.claimed():
		n.claimed += len(parts)
		if book := c.claims[books.Sum([]byte(m.plain))]; len(book) != 1 || book[0].Claim != 200 || book[0].Delivered/100 != 2 ||
			book[0].Number != m.to || book[0].From != "KANNEL" || book[0].Fault != "" {
			t.Errorf("%s: phones' books %+v, want the whole text claimed and delivered once", name, book)
		}
		for _, p := range parts {
			if at := c.byBlank[blank(t, hex.EncodeToString(p.raw))]; len(at) != 0 {
				t.Errorf("%s: the SMSC got %+v, want nothing", name, at)
			}
		}
		diverted(t, name, m, d, "app")
	default:
		n.fellBack += len(parts)
		var read strings.Builder
		for _, p := range parts {
			read.WriteString(c.fellBack(t, name, p))
		}
		if read.String() != m.plain {
			t.Errorf("%s: node's SMSC reads %q, want %q", name, read.String(), m.plain)
		}
		diverted(t, name, m, d, "carrier")
	}
}

// fellBack judges one submit_sm that Shunt sent as it came; it returns what the
// SMSC reads.
func (c *court) fellBack(t *testing.T, name string, p *submit) string {
	t.Helper()
	raw := hex.EncodeToString(p.raw)
	at := c.byBlank[blank(t, raw)]
	if len(at) != 1 || at[0].SystemID != "shunt" || at[0].To != string(p.sm.Dest.Addr) {
		t.Errorf("%s: the SMSC got %+v, want once, from shunt, but for the sequence, registered_delivery and validity_period, %s", name, at, raw)
		return ""
	}
	return at[0].Text
}

// forwarded judges one submit_sm that passed, and its receipt; it returns what
// the SMSC reads.
func (c *court) forwarded(t *testing.T, name string, p *submit) string {
	t.Helper()
	at, ok := c.smsc[p.account+" "+p.id]
	if raw := hex.EncodeToString(p.raw); !ok || !sameButSequence(at.Raw, raw) {
		t.Errorf("%s: submit_sm with id %s at the SMSC\ngot  %s\nwant %s, but for the sequence", name, p.id, at.Raw, raw)
	}
	for _, r := range c.receipts[p.account+" "+p.id] {
		if raw := hex.EncodeToString(r); !sameButSequence(raw, c.sent[p.id]) {
			t.Errorf("%s: receipt of id %s\ngot  %s\nwant %s, but for the sequence", name, p.id, raw, c.sent[p.id])
		}
	}
	return at.Text
}

// diverted judges the id that Shunt gave, and the channel as Kannel read it.
func diverted(t *testing.T, name string, m *letter, d callback, channel string) {
	t.Helper()
	switch {
	case m.smsc == "pair" && !isShort.MatchString(d.ID):
		t.Errorf("%s: id %q on a bind of v3.3, want eight hexadecimal digits", name, d.ID)
	case m.smsc == "trx" && !isOurs.MatchString(d.ID):
		t.Errorf("%s: id %q, want s and a ULID", name, d.ID)
	case m.smsc == "trx" && !strings.Contains(d.Meta, "channel="+channel+"&"):
		t.Errorf("%s: Kannel's meta data is %q, want the channel %s", name, d.Meta, channel)
	}
}
