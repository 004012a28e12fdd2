package receipt

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
	"unique"

	"shunt/gateway/msg"
	"shunt/smpp/pdu"
	"shunt/store/spool"
)

// TestGoldenNotices holds notices against octets written by hand from SMPP v3.4
// §5.2.12: an intermediate notification is esm_class 0x20 and says ENROUTE, an
// SME delivery acknowledgement 0x08.
func TestGoldenNotices(t *testing.T) {
	r := record(msg.Delivered, func(r *spool.Record) { r.Device, r.Since = "phone", done })
	for _, c := range []struct {
		notice       msg.Notice
		class, state string
		dlvrd, stat  string
	}{
		{msg.NoticeEnroute, "20", "01", "000", "ENROUTE"},
		{msg.NoticeRead, "08", "02", "001", "DELIVRD"},
	} {
		text := "id:" + wireID + " sub:001 dlvrd:" + c.dlvrd + " submit date:2506020958 done date:2506021001 stat:" + c.stat + " err:000 text:Your parcel comes on"
		mandatory := []string{
			"434d5400",
			"01 01 343437373030393030303432 00",
			"05 00 50617263656c3234 00",
			c.class + " 00 00",
			"00 00",
			"00 00 00 00",
			fmt.Sprintf("%02x %x", len(text), text),
		}
		tlvs := []string{
			fmt.Sprintf("001e %04x %x 00", len(wireID)+1, wireID),
			"0427 0001 " + c.state,
			"1580 0003 617070",
		}
		for version, groups := range map[byte][]string{0x33: mandatory, 0x34: append(mandatory, tlvs...)} {
			body := unhex(t, groups...)
			want := unhex(t, fmt.Sprintf("%08x 00000005 00000000 00000000", 16+len(body)), hex.EncodeToString(body))
			got, err := Build(nil, r, c.notice, submitSM(original()), version)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("Build(%s, version %#02x), %v:\n got %q\nwant %q", c.stat, version, err, got, want)
			}
		}
	}
}

// TestOneAtATime: between two ends one is in flight, and what is put back goes
// before what came after it; other ends do not wait.
func TestOneAtATime(t *testing.T) {
	q := func(id byte, from string) queued {
		return queued{id: msg.ID{id}, ends: ends{unique.Make(from), 447700900042}}
	}
	l := newLine(bank)
	for _, x := range []queued{q(1, "a"), q(2, "a"), q(3, "b"), q(4, "a")} {
		l.add(x)
	}
	takeAll := func() (ids []byte, all []queued) {
		for len(l.ready) > 0 {
			x := l.take()
			ids, all = append(ids, x.id[0]), append(all, x)
		}
		return ids, all
	}
	ids, all := takeAll()
	if !bytes.Equal(ids, []byte{1, 3}) {
		t.Fatalf("in flight %v, want 1 and 3", ids)
	}
	l.putBack(all[0])
	ids, again := takeAll()
	if !bytes.Equal(ids, []byte{1}) {
		t.Fatalf("after 1 was put back: %v, want 1", ids)
	}
	l.done(again[0])
	l.done(all[1])
	for _, want := range []byte{2, 4} {
		ids, all = takeAll()
		if !bytes.Equal(ids, []byte{want}) {
			t.Fatalf("next %v, want %d", ids, want)
		}
		l.done(all[0])
	}
	if l.waiting != 0 || l.inFlight != 0 || len(l.strands) != 0 {
		t.Errorf("%d wait, %d in flight, %d strands; want none", l.waiting, l.inFlight, len(l.strands))
	}
}

// TestNoticeThatIsOver: a notice that the final receipt has overtaken is not
// sent, and a read mark is told after the receipt, also when the message had
// long ended.
func TestNoticeThatIsOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := start(t, t.TempDir(), 0)
		id := f.spool.NewID()
		m := &spool.Message{
			ID: id, WireID: id.String(), Account: bank, To: 447700900042, App: "chat", From: "Parcel24",
			PDU: submitSM(original()), Version: 0x34, RegisteredDelivery: 0x15, ReceivedAt: time.Now(), ExpiresAt: time.Now().Add(time.Hour),
		}
		put := make(chan error, 1)
		f.spool.Put(m, func(err error) { put <- err })
		if err := <-put; err != nil {
			t.Fatal(err)
		}
		do := func(kind msg.Event) spool.Record {
			r := f.spool.Do(t.Context(), spool.Event{ID: id, Kind: kind, Device: "phone"})
			if r.Err != nil {
				t.Fatalf("Do(%s) = %v", kind, r.Err)
			}
			return r.Record
		}
		do(msg.EvPushBegin)
		f.d.Add(do(msg.EvPushAccepted), msg.NoticeEnroute) // nobody is bound
		do(msg.EvClaim)
		do(msg.EvDelivered) // the fixture queues the receipt
		b := &scripted{version: 0x34}
		f.up(bank, b)
		synctest.Wait()
		class := func() byte {
			sent := b.take()
			if len(sent) != 1 {
				t.Fatalf("%d deliver_sm in flight, want 1", len(sent))
			}
			sent[0].answer(pdu.ROK)
			synctest.Wait()
			return sent[0].class
		}
		if c := class(); c != 0x04 {
			t.Errorf("esm_class %#02x first, want the receipt", c)
		}
		f.d.Add(do(msg.EvRead), msg.NoticeRead)
		synctest.Wait()
		if c := class(); c != 0x08 {
			t.Errorf("esm_class %#02x after the read mark, want an acknowledgement", c)
		}
		if r, err := f.spool.Get(id); err != nil || r.Owed != 0 || r.ReceiptDue {
			t.Errorf("Get() = %+v, %v; want nothing owed", r, err)
		}
		f.close()
	})
}
