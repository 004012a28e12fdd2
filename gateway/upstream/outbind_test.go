package upstream

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"shunt/gateway/msg"
	"shunt/smpp"
	"shunt/smpp/pdu"
)

// appendOutbind is an outbind on the wire (SMPP v3.4 §4.1.7.1).
func appendOutbind(systemID, password string, seq uint32) pdu.PDU {
	o := pdu.OutbindBody{SystemID: []byte(systemID), Password: []byte(password)}
	return o.Append(nil, seq)
}

// outbindRig is a Proxy that may ask the account "bank", whose ESME listens.
func outbindRig(t *testing.T) (r *rig, esme *center) {
	esme = newCenter(t)
	return newRig(t, func(x *Proxy) {
		x.Account = func(id string) Account {
			if id != "bank" {
				return Account{}
			}
			return Account{Outbind: &Outbind{Addr: esme.addr(), SystemID: "shunt", Password: "pw"}}
		}
	}), esme
}

func (r *rig) outbind(ctx context.Context) chan error {
	done := make(chan error, 1)
	go func() { done <- r.proxy.Outbind(ctx, bankAccount) }()
	return done
}

func wantNil(t *testing.T, what string, c chan error) {
	t.Helper()
	select {
	case err := <-c:
		if err != nil {
			t.Errorf("%s = %v", what, err)
		}
	case <-time.After(patience):
		t.Fatalf("%s does not return", what)
	}
}

// TestOutbind: the ESME is asked until it binds as a receiver, the bind has its
// upstream bind, and the SMSC's messages reach it.
func TestOutbind(t *testing.T) {
	r, esme := outbindRig(t)
	if err := r.proxy.Outbind(t.Context(), msg.Account{SystemID: "other"}); !errors.Is(err, ErrNoOutbind) {
		t.Errorf("Outbind() of an account without one = %v", err)
	}
	done := r.outbind(t.Context())
	silent := esme.accept()
	silent.want(appendOutbind("shunt", "pw", 1))
	wantNil(t, "a second Outbind()", r.outbind(t.Context())) // leaves it to the first
	_ = silent.conn.Close()                                  // of no use: there is another attempt

	asked := esme.accept()
	asked.want(appendOutbind("shunt", "pw", 1))
	asked.send(bankBind.Append(nil, pdu.BindTransmitter, 6))
	asked.wantHeader(pdu.BindTransmitterResp, pdu.RINVBNDSTS, 6)
	smsc := r.bindOn(asked, pdu.BindReceiver, bankBind)
	wantNil(t, "Outbind()", done)
	if b := r.proxy.Hub.Receiver(bankAccount); b == nil || b.Peer() != esme.addr() {
		t.Errorf("Receiver() = %v, want the bind at %s", b, esme.addr())
	}
	smsc.send(withSeq(sms(pdu.DeliverSM, nil), 3))
	if got := asked.next(); got.ID() != pdu.DeliverSM {
		t.Errorf("to the ESME: %s", show(got))
	}
	wantNil(t, "Outbind() with a bind that is up", r.outbind(t.Context()))
	_ = asked.conn.Close()
	smsc.wantEnd()
	r.bound(0)
}

// TestOutbindStops: a bind that the SMSC refuses is none, and a stop ends the
// attempts.
func TestOutbindStops(t *testing.T) {
	r, esme := outbindRig(t)
	ctx, stop := context.WithCancel(t.Context())
	done := r.outbind(ctx)
	asked := esme.accept()
	asked.next()
	asked.send(bankBind.Append(nil, pdu.BindReceiver, 6))
	smsc := r.smsc.accept()
	smsc.next()
	smsc.send(pdu.AppendHeader(nil, pdu.BindReceiverResp, pdu.RINVPASWD, 6))
	asked.wantHeader(pdu.BindReceiverResp, pdu.RINVPASWD, 6)
	stop()
	select {
	case err := <-done:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Outbind() = %v, want %v", err, context.Canceled)
		}
	case <-time.After(patience):
		t.Fatal("Outbind() does not return")
	}
	asked.wantEnd()
}

// inbound is a Proxy that takes the outbind of an SMSC, whose receipts come to
// the channel.
func inbound(t *testing.T) (*rig, *Own, chan Receipt) {
	receipts := make(chan Receipt, 1)
	own := NewOwn(OwnOptions{
		SMSC: "smsc-own", Bind: ownBind, SMPP: smpp.Config{Response: patience}, Log: slog.New(slog.DiscardHandler),
		OnReceipt: func(r Receipt, answer func(pdu.Status)) {
			receipts <- r
			answer(pdu.ROK)
		},
	})
	return newRig(t, func(x *Proxy) {
		x.Limits = Limits{BindFailures: 3, BindFailureWindow: time.Minute, BlockFirst: time.Minute, BlockMost: time.Minute}
		x.Outbinds = []OutbindPeer{{Allow: nets("127.0.0.1/32", "127.0.0.4/32"), SystemID: "SMSC", Password: "pw", Own: own}}
	}), own, receipts
}

// TestOutbindTaken: Shunt binds as a receiver on the SMSC's connection, and
// takes receipts there.
func TestOutbindTaken(t *testing.T) {
	r, own, receipts := inbound(t)
	smsc := r.connect()
	smsc.send(appendOutbind("SMSC", "pw", 1))
	smsc.want(ownBind.Append(nil, pdu.BindReceiver, 1))
	smsc.send((&pdu.BindResp{SystemID: "SMSC"}).Append(nil, pdu.BindReceiver, pdu.ROK, 1))
	text := "id:4F2A sub:001 dlvrd:001 submit date:2611240900 done date:2611240901 stat:DELIVRD err:000 text:"
	smsc.send(withSeq(sms(pdu.DeliverSM, func(m *pdu.SM) { m.ESMClass, m.ShortMessage = 0x04, []byte(text) }), 5))
	select {
	case got := <-receipts:
		if got.ID != "4F2A" || got.SMSC != "smsc-own" {
			t.Errorf("receipt %+v", got)
		}
	case <-time.After(patience):
		t.Fatal("no receipt came")
	}
	if got := smsc.next(); got.ID() != pdu.DeliverSMResp || got.Status() != pdu.ROK || got.Seq() != 5 {
		t.Errorf("to the SMSC: %s", show(got))
	}
	if own.Ready() {
		t.Error("a receiving bind is taken for one that transmits")
	}
	if n := r.proxy.Counters.OutbindsTaken.Load(); n != 1 || len(r.proxy.Hub.Binds()) != 0 {
		t.Errorf("OutbindsTaken = %d, %d binds of ESMEs", n, len(r.proxy.Hub.Binds()))
	}
	r.stop() // unbinds
	if got := smsc.next(); got.ID() != pdu.Unbind {
		t.Fatalf("to the SMSC: %s, want unbind", show(got))
	}
	smsc.send(pdu.AppendHeader(nil, pdu.UnbindResp, pdu.ROK, 2))
	smsc.wantEnd()
}

// TestOutbindRefused: address, system_id and password must all be right; what is
// not is closed, and counts as a guess.
func TestOutbindRefused(t *testing.T) {
	r, _, _ := inbound(t)
	for _, c := range []struct {
		name, from string
		p          pdu.PDU
	}{
		{"another address", "127.0.0.2", appendOutbind("SMSC", "pw", 1)},
		{"another system_id", "127.0.0.4", appendOutbind("SMSD", "pw", 1)},
		{"another password", "127.0.0.4", appendOutbind("SMSC", "pW", 1)},
		{"no NUL", "127.0.0.4", rawText(pdu.Outbind, "SMSC")},
		{"right, from a blocked source", "127.0.0.4", appendOutbind("SMSC", "pw", 1)},
	} {
		p := r.connectFrom(c.from)
		p.send(c.p)
		select {
		case got, ok := <-p.in:
			if ok {
				t.Errorf("%s: %s came, want the end", c.name, show(got))
			}
		case <-time.After(patience):
			t.Errorf("%s: the connection stays open", c.name)
		}
	}
	c := &r.proxy.Counters
	if c.OutbindsRefused.Load() != 4 || c.BindsFailed.Load() != 4 || c.BindsBlocked.Load() != 1 || c.OutbindsTaken.Load() != 0 {
		t.Errorf("OutbindsRefused = %d, BindsFailed = %d, BindsBlocked = %d, OutbindsTaken = %d, want 4, 4, 1 and 0",
			c.OutbindsRefused.Load(), c.BindsFailed.Load(), c.BindsBlocked.Load(), c.OutbindsTaken.Load())
	}
}

// TestOutbindBindRefused: an SMSC that asks, and then refuses, is left.
func TestOutbindBindRefused(t *testing.T) {
	r, _, _ := inbound(t)
	smsc := r.connect()
	smsc.send(appendOutbind("SMSC", "pw", 1))
	smsc.next()
	smsc.send(pdu.AppendHeader(nil, pdu.BindReceiverResp, pdu.RINVPASWD, 1))
	smsc.wantEnd()
}

// TestOwnDroppedAtOnce: an SMSC that takes every bind and drops it at once is
// not met by a tight loop.
func TestOwnDroppedAtOnce(t *testing.T) {
	r := newOwnRig(t, nil)
	start := time.Now()
	for range 4 {
		p := r.bind(pdu.BindTransceiver)
		_ = p.conn.Close()
	}
	// Pauses of 250 ms, 500 ms and 1 s, each at least half of that.
	if took, least := time.Since(start), 875*time.Millisecond; took < least {
		t.Errorf("four binds within %s, want at least %s", took, least)
	}
}
