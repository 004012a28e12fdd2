package upstream

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"shunt/smpp/pdu"
)

// hand is a clock that a test sets.
type hand struct {
	start time.Time
	past  atomic.Int64
}

func newHand() *hand { return &hand{start: time.Date(2025, 6, 2, 12, 0, 0, 0, time.UTC)} }

func (h *hand) now() time.Time          { return h.start.Add(time.Duration(h.past.Load())) }
func (h *hand) forward(d time.Duration) { h.past.Add(int64(d)) }

// from is a submit_sm of a sender.
func from(seq uint32, source string) pdu.PDU {
	m := pdu.SM{Source: pdu.Address{TON: 5, Addr: []byte(source)}, Dest: pdu.Address{TON: 1, NPI: 1, Addr: []byte("447700900042")}, ShortMessage: []byte("text")}
	return pdu.AppendSM(nil, pdu.SubmitSM, seq, &m)
}

func answer(id pdu.ID, st pdu.Status, seq uint32) pdu.PDU {
	return pdu.AppendMessageResp(nil, id, st, seq, "id")
}

// watched is a bind of bank's that is watched, without its sessions.
func watched(a *Accepted, systemID string) *accepting {
	b := &Bind{}
	b.Account.SystemID = systemID
	b.Watch(a)
	return b.accepting
}

// TestAccepted: what is noted, and when, of one request and its answer.
func TestAccepted(t *testing.T) {
	for _, c := range []struct {
		name     string
		sent     []pdu.PDU
		answered []pdu.PDU
		want     map[string]bool
	}{
		{"accepted", []pdu.PDU{from(1, "BANK")}, []pdu.PDU{answer(pdu.SubmitSMResp, pdu.ROK, 1)}, map[string]bool{"BANK": true, "SHOP": false}},
		{"no answer", []pdu.PDU{from(1, "BANK")}, nil, map[string]bool{"BANK": false}},
		{"refused", []pdu.PDU{from(1, "BANK")}, []pdu.PDU{answer(pdu.SubmitSMResp, pdu.RINVSRCADR, 1)}, map[string]bool{"BANK": false}},
		{"refused, then accepted", []pdu.PDU{from(1, "BANK"), from(2, "BANK")}, []pdu.PDU{
			answer(pdu.SubmitSMResp, pdu.RTHROTTLED, 1), answer(pdu.SubmitSMResp, pdu.ROK, 2),
		}, map[string]bool{"BANK": true}},
		{"generic_nack", []pdu.PDU{from(1, "BANK")}, []pdu.PDU{pdu.AppendHeader(nil, pdu.GenericNack, pdu.ROK, 1)}, map[string]bool{"BANK": false}},
		{"another's answer", []pdu.PDU{from(1, "BANK")}, []pdu.PDU{answer(pdu.SubmitSMResp, pdu.ROK, 1+sentSlots)}, map[string]bool{"BANK": false}},
		{"out of order", []pdu.PDU{from(1, "BANK"), from(2, "SHOP"), from(3, "RAIL")}, []pdu.PDU{
			answer(pdu.SubmitSMResp, pdu.ROK, 3), answer(pdu.SubmitSMResp, pdu.RSYSERR, 2), answer(pdu.SubmitSMResp, pdu.ROK, 1),
		}, map[string]bool{"BANK": true, "SHOP": false, "RAIL": true}},
		{"the sequence_number of one without an answer", []pdu.PDU{from(1, "BANK"), from(1, "SHOP")}, []pdu.PDU{answer(pdu.SubmitSMResp, pdu.ROK, 1)}, map[string]bool{"BANK": false, "SHOP": true}},
		{"a query_sm under it", []pdu.PDU{from(1, "BANK"), pdu.AppendHeader(nil, pdu.QuerySM, 0, 1)}, []pdu.PDU{
			pdu.AppendHeader(nil, pdu.QuerySMResp, pdu.ROK, 1), answer(pdu.SubmitSMResp, pdu.ROK, 1),
		}, map[string]bool{"BANK": false}},
		{"a leading + does not count", []pdu.PDU{from(1, "+447700900001")}, []pdu.PDU{answer(pdu.SubmitSMResp, pdu.ROK, 1)}, map[string]bool{"447700900001": true, "+447700900001": true}},
		{"no source address", []pdu.PDU{from(1, "")}, []pdu.PDU{answer(pdu.SubmitSMResp, pdu.ROK, 1)}, map[string]bool{"": true, "BANK": false}},
		{"what cannot be read", []pdu.PDU{
			pdu.AppendHeader(nil, pdu.SubmitSM, 0, 1), append(pdu.AppendHeader(nil, pdu.SubmitSM, 0, 1), 0, 5), append(pdu.AppendHeader(nil, pdu.SubmitSM, 0, 1), "\x00\x05\x00no end"...),
		}, []pdu.PDU{answer(pdu.SubmitSMResp, pdu.ROK, 1)}, map[string]bool{"no end": false, "": false}},
	} {
		t.Run(c.name, func(t *testing.T) {
			clock := newHand()
			a := NewAccepted(clock.now)
			b := watched(a, "bank")
			for _, p := range c.sent {
				b.forwarded(p)
			}
			b.batch()
			for _, p := range c.answered {
				b.answered(p)
			}
			for source, want := range c.want {
				if got := a.Last("bank", []byte(source)); got.IsZero() == want || want && !got.Equal(clock.now()) {
					t.Errorf("Last(bank, %q) = %s, want noted: %t", source, got, want)
				}
				if got := a.Last("shop", []byte(source)); !got.IsZero() {
					t.Errorf("Last(shop, %q) = %s, want never", source, got)
				}
			}
		})
	}
}

// TestAcceptedData: a data_sm counts like a submit_sm.
func TestAcceptedData(t *testing.T) {
	a := NewAccepted(newHand().now)
	b := watched(a, "bank")
	b.forwarded(append(pdu.AppendHeader(nil, pdu.DataSM, 0, 7), "CMT\x00\x05\x00BANK\x00\x01\x01447700900042\x00\x00\x00\x00"...))
	b.answered(answer(pdu.DataSMResp, pdu.ROK, 7))
	if a.Last("bank", []byte("BANK")).IsZero() {
		t.Error("a data_sm that the SMSC accepted was not noted")
	}
}

// TestAcceptedMinute: a pair is noted once a minute, so that Last is at most a
// minute earlier than it was, and never later.
func TestAcceptedMinute(t *testing.T) {
	clock := newHand()
	a := NewAccepted(clock.now)
	b := watched(a, "bank")
	noted := 0
	var last time.Time
	for seq := range uint32(600) {
		b.forwarded(from(seq+1, "BANK"))
		b.batch()
		b.answered(answer(pdu.SubmitSMResp, pdu.ROK, seq+1))
		at := a.Last("bank", []byte("BANK"))
		if age := clock.now().Sub(at); age < 0 || age >= noteEvery*time.Second {
			t.Fatalf("after %d s: noted %s ago", seq, age)
		}
		if at != last {
			noted, last = noted+1, at
		}
		clock.forward(time.Second)
	}
	if noted != 10 {
		t.Errorf("noted %d times in ten minutes, want 10", noted)
	}
	clock.forward(40 * 365 * 24 * time.Hour) // beyond what the table can count
	if at := a.Last("bank", []byte("BANK")); !at.Equal(last) {
		t.Errorf("noted at %s, want %s still", at, last)
	}
}

// TestAcceptedWindow: of more requests under way than are watched, some are,
// and a place that never gets its answer is free again after two minutes.
func TestAcceptedWindow(t *testing.T) {
	clock := newHand()
	a := NewAccepted(clock.now)
	b := watched(a, "bank")
	const window = 16 * sentSlots
	for seq := range uint32(window) {
		b.forwarded(from(seq+1, fmt.Sprint("S", seq+1)))
	}
	kept := 0
	for seq := range uint32(window) {
		b.answered(answer(pdu.SubmitSMResp, pdu.ROK, seq+1))
		if !a.Last("bank", fmt.Append(nil, "S", seq+1)).IsZero() {
			kept++
		}
	}
	if kept != sentSlots {
		t.Errorf("%d of %d were noted, want %d", kept, window, sentSlots)
	}
	b.forwarded(from(1, "LOST"))
	b.batch()
	clock.forward((watchFor - 1) * time.Second)
	b.forwarded(from(1+sentSlots, "EARLY"))
	b.batch()
	b.answered(answer(pdu.SubmitSMResp, pdu.ROK, 1+sentSlots))
	clock.forward(time.Second)
	b.forwarded(from(1+2*sentSlots, "LATER"))
	b.answered(answer(pdu.SubmitSMResp, pdu.ROK, 1+2*sentSlots))
	for source, want := range map[string]bool{"LOST": false, "EARLY": false, "LATER": true} {
		if got := !a.Last("bank", []byte(source)).IsZero(); got != want {
			t.Errorf("%s noted: %t, want %t", source, got, want)
		}
	}
}

// TestAcceptedIsBounded: nearly all of a hundred thousand pairs are kept; of
// many more the latest are, in the same memory.
func TestAcceptedIsBounded(t *testing.T) {
	clock := newHand()
	a := NewAccepted(clock.now)
	account := uint64(42)
	pair := func(i int) uint64 {
		return a.pair(account, binary.BigEndian.AppendUint32(nil, uint32(i)))
	}
	count := func(from, to int) (n int) { // of every tenth
		for i := from; i < to; i += 10 {
			if a.last(pair(i)) != 0 {
				n += 10
			}
		}
		return n
	}
	const many = 100_000
	for i := range many {
		a.note(pair(i), a.seconds())
	}
	if n := count(0, many); n < many*98/100 {
		t.Errorf("%d of %d pairs are kept, want 98 per cent at least", n, many)
	}
	for i := many; i < 5*many; i++ {
		if i%many == 0 {
			clock.forward(time.Minute)
		}
		a.note(pair(i), a.seconds())
	}
	if n := count(4*many, 5*many); n < many*98/100 {
		t.Errorf("%d of the latest %d pairs are kept, want 98 per cent at least", n, many)
	}
	if n := count(0, many); n > many/8 {
		t.Errorf("%d of the oldest pairs are kept", n)
	}
}

// TestAcceptedAllocatesNothing: neither on the way there nor back, noted or
// not, but for a bind's first.
func TestAcceptedAllocatesNothing(t *testing.T) {
	clock := newHand()
	a := NewAccepted(clock.now)
	b := watched(a, "bank")
	p, resp := from(1, "BANK"), answer(pdu.SubmitSMResp, pdu.ROK, 1)
	b.forwarded(p)
	b.answered(resp)
	if n := testing.AllocsPerRun(1000, func() {
		clock.forward(7 * time.Second)
		b.forwarded(p)
		b.batch()
		b.answered(resp)
	}); n != 0 {
		t.Errorf("%v allocations a message, want 0", n)
	}
}

// TestAcceptedAtOnce: many binds and their answers side by side, for the race
// detector.
func TestAcceptedAtOnce(t *testing.T) {
	a := NewAccepted(time.Now)
	var all sync.WaitGroup
	for range 4 {
		b := watched(a, "bank")
		seqs := make(chan uint32, sentSlots/2)
		all.Go(func() {
			for seq := uint32(1); seq <= 5000; seq++ {
				b.forwarded(from(seq, fmt.Sprint("S", seq%500)))
				seqs <- seq
			}
			close(seqs)
		})
		all.Go(func() {
			for seq := range seqs {
				b.answered(answer(pdu.SubmitSMResp, pdu.ROK, seq))
			}
		})
	}
	all.Wait()
	for i := range 500 {
		if a.Last("bank", fmt.Append(nil, "S", i)).IsZero() {
			t.Errorf("S%d was never noted", i)
		}
	}
}

// TestAcceptedThroughTheProxy: on real sessions, under the sequence_number of
// the ESME; what was passed back counts too.
func TestAcceptedThroughTheProxy(t *testing.T) {
	clock := newHand()
	a := NewAccepted(clock.now)
	c := make(chan taken, 1)
	r := newRig(t, func(x *Proxy) {
		x.Hub = &Hub{Attach: func(b *Bind) { b.Watch(a) }}
		x.Decider = judge(func(b *Bind, p pdu.PDU) bool {
			if source, _ := sourceAddr(p); string(source) != "PASSED" {
				return false
			}
			b.Hold()
			c <- taken{b, p}
			return true
		})
	})
	esme, smsc := r.bind(pdu.BindTransceiver, bankBind)
	for i, source := range []string{"BANK", "REFUSED", "PASSED"} {
		seq := uint32(1000 + i)
		p := from(seq, source)
		esme.send(p)
		if source == "PASSED" {
			held := <-c
			held.b.Pass(p)
		}
		got, st := smsc.next(), pdu.ROK
		if source == "REFUSED" {
			st = pdu.RINVSRCADR
		}
		smsc.send(answer(pdu.SubmitSMResp, st, got.Seq()))
		esme.want(answer(pdu.SubmitSMResp, st, seq))
		if noted := !a.Last("bank", []byte(source)).IsZero(); noted != (st == pdu.ROK) {
			t.Errorf("%s noted: %t, want %t", source, noted, st == pdu.ROK)
		}
	}
	if a.Last("somebody", []byte("BANK")) != (time.Time{}) {
		t.Error("noted for another account")
	}
}

// TestUnwatched: without an Accepted nothing is kept at all.
func TestUnwatched(t *testing.T) {
	if watched(nil, "bank") != nil {
		t.Error("a bind is watched for nobody")
	}
}

func BenchmarkAccepted(b *testing.B) {
	t := watched(NewAccepted(time.Now), "bank")
	p, resp := from(1, "BANK"), answer(pdu.SubmitSMResp, pdu.ROK, 1)
	b.ReportAllocs()
	for b.Loop() {
		t.forwarded(p)
		t.answered(resp)
	}
}
