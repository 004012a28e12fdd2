package upstream

import (
	"net"
	"testing"
	"time"

	"shunt/smpp/pdu"
)

// TestProbe: an SMSC where nothing is bound is connected to, without a PDU; one
// where a pair or a bind of Shunt's own is up is left alone.
func TestProbe(t *testing.T) {
	r := newRig(t, nil)
	r.proxy.Probe(t.Context(), nil)
	r.smsc.accept().wantEnd()
	if u := r.proxy.Unreachable(); u != nil {
		t.Errorf("Unreachable() = %v", u.Err)
	}

	r.bind(pdu.BindTransceiver, bankBind)
	r.bound(1)
	r.proxy.Probe(t.Context(), nil)
	r.nobodyConnects()

	// A bind elsewhere says nothing.
	other := newCenter(t)
	r.smsc = other
	r.proxy.SetTowards(Towards{Addr: other.addr()})
	r.proxy.Probe(t.Context(), nil)
	other.accept().wantEnd()
	own := newOwnRig(t, func(o *OwnOptions) { o.Addr = other.addr() })
	own.smsc = other
	own.bind(pdu.BindTransceiver)
	own.ready(1)
	r.proxy.Probe(t.Context(), own.own)
	r.nobodyConnects()

	// After a failure it is looked at whoever is bound.
	gone := newCenter(t)
	_ = gone.l.Close()
	r.proxy.SetTowards(Towards{Addr: gone.addr()})
	r.proxy.Probe(t.Context(), own.own)
	if r.proxy.Unreachable() == nil {
		t.Error("an SMSC that is not there can be reached")
	}
	r.proxy.SetTowards(Towards{Addr: other.addr()})
	if u := r.proxy.Unreachable(); u != nil {
		t.Errorf("Unreachable() of another address = %v", u.Err)
	}
}

// nobodyConnects: the next connection is the test's own.
func (r *rig) nobodyConnects() {
	r.t.Helper()
	conn, err := net.DialTimeout("tcp", r.smsc.addr(), patience)
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	_ = r.smsc.l.(*net.TCPListener).SetDeadline(time.Now().Add(patience))
	got, err := r.smsc.l.Accept()
	if err != nil {
		r.t.Fatal(err)
	}
	defer got.Close()
	if got.RemoteAddr().String() != conn.LocalAddr().String() {
		r.t.Errorf("somebody has connected from %s", got.RemoteAddr())
	}
}
