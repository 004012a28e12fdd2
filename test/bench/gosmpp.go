package main

import (
	"bufio"
	"net"
	"os"
	"sync"

	gopdu "github.com/fiorix/go-smpp/smpp/pdu"
)

// goSMPPRelay is a relay as one writes it on go-smpp's codec: one upstream
// connection for each downstream one, one goroutine a direction, and a flush
// when nothing more has been read. It looks nothing up and keeps no timers.
func goSMPPRelay(addrFile, upstream string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := os.WriteFile(addrFile, []byte(l.Addr().String()+"\n"), 0o600); err != nil {
		return err
	}
	for {
		down, err := l.Accept()
		if err != nil {
			return err
		}
		up, err := net.Dial("tcp", upstream)
		if err != nil {
			_ = down.Close()
			continue
		}
		toUp, toDown := outstanding{at: map[uint32]uint32{}}, outstanding{at: map[uint32]uint32{}}
		go goSMPPCopy(up, down, &toUp, &toDown)
		go goSMPPCopy(down, up, &toDown, &toUp)
	}
}

// outstanding maps the sequence_numbers of forwarded requests, one direction's,
// to those that they came with.
type outstanding struct {
	mu   sync.Mutex
	last uint32
	at   map[uint32]uint32
}

func (o *outstanding) put(orig uint32) uint32 {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last = o.last%0x7FFFFFFF + 1
	o.at[o.last] = orig
	return o.last
}

func (o *outstanding) take(seq uint32) (orig uint32, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	orig, ok = o.at[seq]
	delete(o.at, seq)
	return orig, ok
}

// goSMPPCopy forwards one direction until either side ends. mine are the
// requests of this direction, theirs those that its responses answer.
func goSMPPCopy(to, from net.Conn, mine, theirs *outstanding) {
	defer to.Close()
	defer from.Close()
	r, w := bufio.NewReaderSize(from, 64<<10), bufio.NewWriterSize(to, 64<<10)
	for {
		p, err := gopdu.Decode(r)
		if err != nil {
			return
		}
		h := p.Header()
		known := true
		if h.ID&0x80000000 == 0 {
			h.Seq = mine.put(h.Seq)
		} else {
			h.Seq, known = theirs.take(h.Seq)
		}
		if known && p.SerializeTo(w) != nil {
			return
		}
		if r.Buffered() == 0 && w.Flush() != nil {
			return
		}
	}
}
