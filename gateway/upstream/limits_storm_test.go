package upstream

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"shunt/smpp/pdu"
)

// fullCenter is an SMSC whose backlog is full: connections to it are never
// made, as to a host that is down.
func fullCenter(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port)
	for range 16 { // until a connection is not taken at once
		conn, err := net.DialTimeout("tcp", addr, 300*time.Millisecond)
		if err != nil {
			return addr
		}
		t.Cleanup(func() { _ = conn.Close() })
	}
	t.Fatal("the backlog has no end")
	return ""
}

// TestRebindStorm: many ESMEs bind while the SMSC is down. Each has an answer
// within its time, and few connections are tried at a time.
func TestRebindStorm(t *testing.T) {
	const esmes, dials = 1000, 16
	down := fullCenter(t)
	r := newRig(t, func(x *Proxy) {
		x.Upstream, x.SessionInit = down, time.Second
		x.Limits = Limits{Dials: dials}
	})
	r.proxy.prepare()
	var refused atomic.Int32
	var all sync.WaitGroup
	start := time.Now()
	for i := range esmes {
		p := r.connect()
		p.send((&pdu.Bind{SystemID: fmt.Sprintf("esme%d", i)}).Append(nil, pdu.BindTransceiver, 1))
		all.Go(func() {
			for got := range p.in {
				if got.ID() == pdu.BindTransceiverResp && got.Status() == pdu.RBINDFAIL {
					refused.Add(1)
				}
			}
		})
	}
	all.Wait()
	if n := refused.Load(); n != esmes {
		t.Errorf("%d of %d had ESME_RBINDFAIL", n, esmes)
	}
	if took := time.Since(start); took > dialTimeout+10*time.Second {
		t.Errorf("the storm took %s", took)
	}
	if n := r.proxy.Counters.DialsRefused.Load(); n != esmes-dials {
		t.Errorf("DialsRefused = %d, want %d", n, esmes-dials)
	}
}
