package esme

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	gosmpp "github.com/fiorix/go-smpp/smpp"
	gopdu "github.com/fiorix/go-smpp/smpp/pdu"
	"github.com/fiorix/go-smpp/smpp/pdu/pdufield"
	"github.com/fiorix/go-smpp/smpp/pdu/pdutext"
	"github.com/fiorix/go-smpp/smpp/pdu/pdutlv"

	"shunt/smpp/pdu"
)

// go-smpp takes whatever comes under a sequence_number in flight for the
// answer to its own request, also a deliver_sm. Its numbers, one counter a
// process, therefore start above those that an SMSC reaches in a test.
const firstSequence = 1 << 18

var raiseSequence = sync.OnceFunc(func() {
	for gopdu.NewUnbind().Header().Seq < firstSequence {
	}
})

// goBind is one Transceiver of go-smpp. Its window is a number of goroutines,
// as its Submit blocks, and refuses instead of waiting when the window is full.
type goBind struct {
	r  *run
	tr *gosmpp.Transceiver

	mu    sync.Mutex
	up    chan struct{} // closed while bound
	isUp  bool
	first chan error // the result of the first bind
	begun atomic.Bool
}

func (r *run) connectGoSMPP(ctx context.Context, links, senders *sync.WaitGroup) error {
	raiseSequence()
	var all []*goBind
	closeAll := func() {
		for _, b := range all {
			_ = b.tr.Close()
		}
	}
	for range r.o.Binds {
		b := &goBind{r: r, up: make(chan struct{}), first: make(chan error, 1)}
		b.tr = &gosmpp.Transceiver{
			Addr: r.o.Addr, User: r.o.SystemID, Passwd: r.o.Password, SystemType: r.o.SystemType,
			RespTimeout: r.o.Response, BindInterval: 200 * time.Millisecond, Handler: b.handle,
		}
		all = append(all, b)
		status := b.tr.Bind()
		links.Go(func() { b.watch(ctx, status) })
		select {
		case err := <-b.first:
			if err != nil {
				closeAll()
				return err
			}
		case <-ctx.Done():
			closeAll()
			return ctx.Err()
		}
		r.bound.Add(1)
	}
	links.Go(func() {
		<-ctx.Done()
		closeAll()
	})
	for _, b := range all {
		for range r.o.Window {
			senders.Go(func() { b.send(ctx) })
		}
	}
	return nil
}

// watch follows the connection until the Transceiver is closed.
func (b *goBind) watch(ctx context.Context, status <-chan gosmpp.ConnStatus) {
	for st := range status {
		switch st.Status() {
		case gosmpp.Connected:
			b.set(true)
			b.report(nil)
		case gosmpp.Disconnected:
			b.set(false)
			if ctx.Err() == nil {
				b.r.lost.Add(1)
			}
		default:
			if !b.r.o.Reconnect {
				b.report(fmt.Errorf("go-smpp: %s: %w", st.Status(), st.Error()))
			}
		}
	}
}

func (b *goBind) report(err error) {
	if b.begun.CompareAndSwap(false, true) {
		b.first <- err
	}
}

func (b *goBind) set(up bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if up == b.isUp {
		return
	}
	b.isUp = up
	if up {
		close(b.up)
	} else {
		b.up = make(chan struct{})
	}
}

func (b *goBind) wait(ctx context.Context) bool {
	b.mu.Lock()
	up := b.up
	b.mu.Unlock()
	select {
	case <-up:
		return true
	case <-ctx.Done():
		return false
	}
}

// send submits one message after the other.
func (b *goBind) send(ctx context.Context) {
	t := b.r.t
	for item := range b.r.items {
		if !b.wait(ctx) {
			return
		}
		m := shortMessage(&item)
		body, sm, err := encoded(m)
		if err != nil {
			t.unencodable()
			continue
		}
		line := t.sent(&item, body, &sm, b.r.o.SystemID)
		_, err = b.tr.Submit(m)
		var status gopdu.Status
		switch {
		case err == nil:
			t.answered(line, pdu.ROK, m.RespID())
		case errors.As(err, &status):
			t.answered(line, pdu.Status(status), "")
		default:
			t.lost(line, err.Error())
			if errors.Is(err, gosmpp.ErrNotConnected) {
				b.set(false)
			}
		}
	}
}

// octets are user data that go-smpp has no codec for.
type octets struct {
	coding byte
	b      []byte
}

func (o octets) Type() pdutext.DataCoding { return pdutext.DataCoding(o.coding) }
func (o octets) Encode() []byte           { return o.b }
func (o octets) Decode() []byte           { return o.b }

// shortMessage says in go-smpp's words what item is; texts are encoded by its
// own alphabets wherever it has them.
func shortMessage(item *submit) *gosmpp.ShortMessage {
	sm := &item.sm
	m := &gosmpp.ShortMessage{
		Src: string(sm.Source.Addr), SourceAddrTON: sm.Source.TON, SourceAddrNPI: sm.Source.NPI,
		Dst: string(sm.Dest.Addr), DestAddrTON: sm.Dest.TON, DestAddrNPI: sm.Dest.NPI,
		ESMClass: sm.ESMClass, Register: pdufield.DeliverySetting(sm.RegisteredDelivery),
	}
	payload, inTLV := sm.TLVs.Find(pdu.TagMessagePayload)
	switch {
	case inTLV:
		m.Text = octets{coding: sm.DataCoding}
		m.TLVFields = pdutlv.Fields{pdutlv.TagMessagePayload: payload}
	case sm.ESMClass&0x40 != 0:
		m.Text = octets{coding: sm.DataCoding, b: sm.ShortMessage}
	case sm.DataCoding == 8:
		m.Text = pdutext.UCS2(item.text)
	case sm.DataCoding == 3:
		m.Text = pdutext.Latin1(item.text)
	default:
		m.Text = pdutext.GSM7(item.text)
	}
	return m
}

// encoded is the body that go-smpp will write for m, made by its own codec in
// the way of its Submit.
func encoded(m *gosmpp.ShortMessage) ([]byte, pdu.SM, error) {
	p := gopdu.NewSubmitSM(m.TLVFields)
	f := p.Fields()
	for k, v := range map[pdufield.Name]any{
		pdufield.SourceAddr: m.Src, pdufield.SourceAddrTON: m.SourceAddrTON, pdufield.SourceAddrNPI: m.SourceAddrNPI,
		pdufield.DestinationAddr: m.Dst, pdufield.DestAddrTON: m.DestAddrTON, pdufield.DestAddrNPI: m.DestAddrNPI,
		pdufield.ShortMessage: m.Text, pdufield.ESMClass: m.ESMClass, pdufield.RegisteredDelivery: uint8(m.Register),
		pdufield.DataCoding: uint8(m.Text.Type()),
	} {
		if err := f.Set(k, v); err != nil {
			return nil, pdu.SM{}, err
		}
	}
	var b bytes.Buffer
	if err := p.SerializeTo(&b); err != nil {
		return nil, pdu.SM{}, err
	}
	var sm pdu.SM
	err := sm.Decode(pdu.PDU(b.Bytes()))
	return b.Bytes()[pdu.HeaderLen:], sm, err
}

// handle takes a deliver_sm on go-smpp's reader; go-smpp answers it afterwards.
func (b *goBind) handle(p gopdu.Body) {
	if p.Header().ID != gopdu.DeliverSMID {
		return
	}
	f := p.Fields()
	var m pdu.SM
	if v := f[pdufield.ESMClass]; v != nil && len(v.Bytes()) == 1 {
		m.ESMClass = v.Bytes()[0]
	}
	if v := f[pdufield.ShortMessage]; v != nil {
		m.ShortMessage = v.Bytes()
	}
	for tag, v := range p.TLVFields() {
		m.TLVs = pdu.AppendTLV(m.TLVs, pdu.Tag(tag), v.Bytes())
	}
	b.r.t.deliver(&m)
}
