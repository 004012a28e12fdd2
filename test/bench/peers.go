package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"time"

	"shunt/smpp/pdu"
)

// sink is the plainest SMSC that can be: one goroutine a connection, one write
// for all that one read brought.
func sink(addrFile string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if err := os.WriteFile(addrFile, []byte(l.Addr().String()+"\n"), 0o600); err != nil {
		return err
	}
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go sinkConn(c)
	}
}

func sinkConn(c net.Conn) {
	defer c.Close()
	in, have := make([]byte, 64<<10), 0
	var out []byte
	for {
		n, err := c.Read(in[have:])
		if err != nil {
			return
		}
		have += n
		at := 0
		for {
			n, err := pdu.Frame(in[at:have], len(in))
			if err != nil {
				return
			}
			if n == 0 {
				break
			}
			out = answer(out, pdu.PDU(in[at:at+n]))
			at += n
		}
		have = copy(in, in[at:have])
		if len(out) > 0 {
			if _, err := c.Write(out); err != nil {
				return
			}
			out = out[:0]
		}
	}
}

func answer(out []byte, p pdu.PDU) []byte {
	switch id := p.ID(); {
	case id == pdu.SubmitSM:
		return pdu.AppendMessageResp(out, pdu.SubmitSMResp, pdu.ROK, p.Seq(), "0123456789")
	case id.IsBind():
		return (&pdu.BindResp{SystemID: "sink", SCVersion: pdu.Version34}).Append(out, id, pdu.ROK, p.Seq())
	case !id.IsResponse():
		return pdu.AppendHeader(out, id.Response(), pdu.ROK, p.Seq())
	}
	return out
}

// client keeps its windows full for d and prints its figures.
func client(addr string, conns, window int, d time.Duration, scheduled bool, seed uint64) error {
	var mu sync.Mutex
	var total figures
	var firstErr error
	var wg sync.WaitGroup
	var ready sync.WaitGroup
	start := make(chan time.Time)
	ready.Add(conns)
	for i := range conns {
		wg.Go(func() {
			c, err := bindClient(addr)
			ready.Done()
			if err == nil {
				defer c.Close()
				<-start
				var n, bad uint64
				n, bad, err = fill(c, window, d, seed+uint64(i), scheduled)
				mu.Lock()
				total.Messages += n
				total.Errors += bad
				mu.Unlock()
			}
			if err != nil {
				mu.Lock()
				firstErr = err
				mu.Unlock()
			}
		})
	}
	ready.Wait()
	began := time.Now()
	close(start)
	wg.Wait()
	total.Elapsed = time.Since(began)
	if firstErr != nil {
		return firstErr
	}
	return json.NewEncoder(os.Stdout).Encode(total)
}

func bindClient(addr string) (net.Conn, error) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	b := pdu.Bind{SystemID: "bench", Password: "secret", InterfaceVersion: pdu.Version34}
	if _, err := c.Write(b.Append(nil, pdu.BindTransceiver, 1)); err != nil {
		return nil, err
	}
	resp := make(pdu.PDU, 256)
	n, err := bufio.NewReader(c).Read(resp)
	if err != nil {
		return nil, err
	}
	if n < pdu.HeaderLen || resp.Status() != pdu.ROK {
		return nil, fmt.Errorf("bind refused: %s", resp.Status())
	}
	return c, nil
}

// firstRegistered and firstFree keep registered and used numbers apart.
const (
	firstRegistered = 447700000000
	firstFree       = 447800000000
)

// inAnHour is a submit_sm to a registered number with a schedule_delivery_time:
// it is accepted and synced like any other, and nothing is pushed.
func inAnHour(dest uint64) pdu.PDU {
	var m pdu.SM
	if err := m.Decode(message(dest)); err != nil {
		panic(err)
	}
	m.Schedule = []byte("000000010000000R")
	return pdu.AppendSM(nil, pdu.SubmitSM, 0, &m)
}

// message is a submit_sm of 152 octets with two TLVs, to a number that nobody
// registered.
func message(dest uint64) pdu.PDU {
	m := pdu.SM{
		Source:             pdu.Address{TON: pdu.TONAlphanumeric, Addr: []byte("Shop")},
		Dest:               pdu.Address{TON: pdu.TONInternational, NPI: pdu.NPIISDN, Addr: fmt.Appendf(nil, "%d", dest)},
		RegisteredDelivery: 1,
		ShortMessage:       []byte("Your parcel is on its way and will be with you this afternoon. Reference 8842."),
	}
	m.TLVs = pdu.AppendTLV(nil, pdu.TagUserMessageReference, []byte{0, 1})
	m.TLVs = pdu.AppendTLV(m.TLVs, 0x1401, []byte("vend"))
	return pdu.AppendSM(nil, pdu.SubmitSM, 0, &m)
}

// submits are submit_sms to as many numbers, to be sent again and again.
func submits(seed uint64, scheduled bool) []pdu.PDU {
	r := rand.New(rand.NewPCG(seed, 1))
	batch := make([]pdu.PDU, 4096)
	for i := range batch {
		if batch[i] = message(firstFree + r.Uint64N(100_000_000)); scheduled {
			batch[i] = inAnHour(firstRegistered + r.Uint64N(phones))
		}
	}
	return batch
}

// fill keeps window submits outstanding: for every response one more goes, all
// of one read in one write.
func fill(c net.Conn, window int, d time.Duration, seed uint64, scheduled bool) (n, bad uint64, err error) {
	batch := submits(seed, scheduled)
	var seq uint32
	var out []byte
	send := func(k int) error {
		out = out[:0]
		for range k {
			seq++
			p := batch[seq%uint32(len(batch))]
			p.SetSeq(seq)
			out = append(out, p...)
		}
		_, err := c.Write(out)
		return err
	}
	if err := send(window); err != nil {
		return 0, 0, err
	}
	outstanding := window
	in, have := make([]byte, 64<<10), 0
	for end := time.Now().Add(d); outstanding > 0; {
		k, err := c.Read(in[have:])
		if err != nil {
			return n, bad, err
		}
		have += k
		at, got := 0, 0
		for {
			k, err := pdu.Frame(in[at:have], len(in))
			if err != nil {
				return n, bad, err
			}
			if k == 0 {
				break
			}
			p := pdu.PDU(in[at : at+k])
			if p.ID() == pdu.SubmitSMResp {
				got++
				if p.Status() != pdu.ROK {
					bad++
				}
			}
			at += k
		}
		have = copy(in, in[at:have])
		n += uint64(got)
		outstanding -= got
		if got > 0 && time.Now().Before(end) {
			if err := send(got); err != nil {
				return n, bad, err
			}
			outstanding += got
		}
	}
	return n, bad, nil
}
