package receipt

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shunt/gateway/msg"
	"shunt/smpp/coding"
	"shunt/smpp/pdu"
	"shunt/store/spool"
)

// replied are the deliver_sm of a reply to original(), decoded.
func replied(t *testing.T, registered byte, tlvs pdu.TLVs, dflt coding.Alphabet, text string) []pdu.SM {
	t.Helper()
	m := original()
	m.TLVs = tlvs
	parts, err := BuildReply(&spool.Record{WireID: "s01", RegisteredDelivery: registered}, submitSM(m), dflt, text, 7)
	if err != nil {
		t.Fatalf("BuildReply() = %v", err)
	}
	all := make([]pdu.SM, len(parts))
	for i, p := range parts {
		if err := all[i].Decode(p); err != nil || pdu.PDU(p).ID() != pdu.DeliverSM {
			t.Fatalf("part %d: %s, %v", i, pdu.PDU(p).ID(), err)
		}
	}
	return all
}

// TestBuildReply: addresses changed over with their types, the text in the
// account's own alphabet or UCS-2, cut where it is long, an acknowledgement only
// where one was asked for.
func TestBuildReply(t *testing.T) {
	m := original()
	long := strings.Repeat("Tack för svaret! ", 30)
	emoji := strings.Repeat("👍🏽", 60)
	for name, c := range map[string]struct {
		dflt      coding.Alphabet
		text      string
		dc, class byte
		parts     int
		ack       byte
	}{
		"short":           {coding.GSM7, "Ja, gärna", 0, 0, 1, 0},
		"latin1":          {coding.Latin1, "Ja, gärna", 0, 0, 1, 0},
		"emoji":           {coding.GSM7, "👍", 8, 0, 1, 0},
		"long":            {coding.GSM7, long, 0, 0x40, 4, 0},
		"long emoji":      {coding.GSM7, emoji, 8, 0x40, 4, 0},
		"acknowledgement": {coding.GSM7, "OK", 0, 0x10, 1, registeredManualAck},
		"long one":        {coding.GSM7, long, 0, 0x50, 4, registeredManualAck},
		"read ack only":   {coding.GSM7, "OK", 0, 0, 1, 0x04},
	} {
		all := replied(t, c.ack, pdu.AppendTLV(nil, pdu.TagUserMessageReference, []byte{1, 2}), c.dflt, c.text)
		if len(all) != c.parts {
			t.Errorf("%s: %d parts, want %d", name, len(all), c.parts)
		}
		var segments []coding.Segment
		for _, d := range all {
			if diff := cmp.Diff([]pdu.Address{m.Dest, m.Source}, []pdu.Address{d.Source, d.Dest}); diff != "" {
				t.Errorf("%s: addresses (-want +got):\n%s", name, diff)
			}
			if d.DataCoding != c.dc || d.ESMClass != c.class || len(d.ShortMessage) > 160 {
				t.Errorf("%s: data_coding %d, esm_class %#x, %d octets, want %d, %#x and one short message", name, d.DataCoding, d.ESMClass, len(d.ShortMessage), c.dc, c.class)
			}
			_, named := d.TLVs.Find(pdu.TagReceiptedMessageID)
			ref, referred := d.TLVs.Find(pdu.TagUserMessageReference)
			if ack := c.ack == registeredManualAck; named != ack || referred != ack || ack && ref[1] != 2 {
				t.Errorf("%s: TLVs %X", name, d.TLVs)
			}
			s, err := coding.ReadSegment(d.ESMClass, d.ShortMessage, nil)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			segments = append(segments, s)
		}
		alphabet := c.dflt
		if c.dc == 8 {
			alphabet = coding.UCS2
		}
		got, err := coding.Join(alphabet, segments)
		if len(segments) == 1 {
			got, err = segments[0].Text(alphabet)
		}
		if err != nil || got != c.text {
			t.Errorf("%s: reads %q, %v, want %q", name, got, err, c.text)
		}
	}
	if _, err := BuildReply(&spool.Record{}, submitSM(m), coding.GSM7, strings.Repeat("€", 255*80), 1); !errors.Is(err, ErrReplyText) {
		t.Errorf("more than 255 parts: %v, want ErrReplyText", err)
	}
}

// putReply stores a reply of n parts from the recipient of finish's messages.
func (f *fixture) putReply(a msg.Account, to string, n int, expires time.Time) msg.ID {
	f.t.Helper()
	r := &spool.Reply{ID: f.spool.NewID(), Account: a, From: 447700900042, To: to, At: time.Now(), Expires: expires}
	d := pdu.SM{Source: original().Dest, Dest: original().Source, TLVs: pdu.AppendTLV(nil, pdu.TagShuntChannel, []byte(ChannelApp))}
	for i := range n {
		d.ShortMessage = []byte{'a' + byte(i)}
		r.Parts = append(r.Parts, pdu.AppendSM(nil, pdu.DeliverSM, 0, &d))
	}
	done := make(chan error, 1)
	f.spool.PutReply(r, nil, func(_ *spool.Once, err error) { done <- err })
	if err := <-done; err != nil {
		f.t.Fatalf("PutReply() = %v", err)
	}
	return r.ID
}

// TestReplyParts: one deliver_sm at a time, each once the one before it is
// answered; a lost answer makes it come again, a temporary status later; after a
// restart only what was not answered.
func TestReplyParts(t *testing.T) {
	dir := t.TempDir()
	f := start(t, dir, 0)
	f.putReply(bank, "ACME", 3, time.Now().Add(time.Hour))
	b := &scripted{version: 0x33}
	f.up(bank, b)
	first := f.awaitSent(b)
	if string(first.text) != "a" || first.tlvs {
		t.Fatalf("sent %q, TLVs %v, want part a, without TLVs to an ESME of v3.3", first.text, first.tlvs)
	}
	first.done(nil, errors.New("connection lost"))
	again := f.awaitSent(b)
	if string(again.text) != "a" {
		t.Fatalf("after a lost answer: %q, want a", again.text)
	}
	again.answer(pdu.ROK)
	second := f.awaitSent(b)
	if string(second.text) != "b" {
		t.Fatalf("sent %q, want b", second.text)
	}
	f.awaitTaken(1) // the first is on disk as answered
	f.close()       // with the second in flight

	f = start(t, dir, 0)
	late := &scripted{version: 0x34}
	f.up(bank, late)
	for _, want := range []string{"b", "c"} {
		d := f.awaitSent(late)
		if string(d.text) != want || !d.tlvs {
			t.Fatalf("after the restart: %q, TLVs %v, want %s with TLVs", d.text, d.tlvs, want)
		}
		d.answer(pdu.ROK)
	}
	f.awaitReplies(0)
}

// TestReplyGivenUp: a reply that no bind took in its time is forgotten.
func TestReplyGivenUp(t *testing.T) {
	f := start(t, t.TempDir(), 0)
	f.putReply(bank, "ACME", 2, time.Now().Add(time.Hour))
	f.ahead.Store(int64(2 * time.Hour))
	f.d.Receivable(bank)
	f.awaitReplies(0)
	if n := f.d.Abandoned.Load(); n == 0 {
		t.Errorf("Abandoned = %d, want it counted", n)
	}
	b := &scripted{version: 0x34}
	f.up(bank, b)
	f.finish(bank, 1)
	if d := f.awaitSent(b); d.id == "" {
		t.Errorf("sent %+v, want the receipt alone", d)
	}
}

func (f *fixture) await(what string, ok func() bool) {
	f.t.Helper()
	for until := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			f.t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func (f *fixture) awaitSent(b *scripted) (d delivery) {
	f.t.Helper()
	f.await("a deliver_sm", func() bool {
		if sent := b.take(); len(sent) > 0 {
			if d = sent[0]; len(sent) > 1 {
				f.t.Errorf("%d in flight between two ends, want one", len(sent))
			}
			return true
		}
		return false
	})
	return d
}

func (f *fixture) awaitReplies(n int) {
	f.t.Helper()
	f.await("no reply waits", func() bool { return f.spool.WaitingReplies() == n })
}

func (f *fixture) awaitTaken(n int) {
	f.t.Helper()
	f.await("parts are counted", func() bool {
		for r := range f.spool.Replies {
			return r.Taken == n
		}
		return false
	})
}
