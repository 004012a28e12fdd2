package esme

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
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

// goBind is one bind on go-smpp's Transceiver. Its window is a number of
// goroutines, as its Submit blocks, and refuses instead of waiting when the
// window is full. A lost Transceiver is replaced by a new one, because its own
// way of binding again is a data race. tr and up belong to mu.
type goBind struct {
	r  *run
	mu sync.Mutex
	tr *gosmpp.Transceiver // nil while not bound
	up chan struct{}       // closed while bound
}

const (
	goBindAgain = 200 * time.Millisecond
	neverItself = 24 * time.Hour // until a Transceiver would bind again by itself
)

func (r *run) connectGoSMPP(ctx context.Context, cancel context.CancelCauseFunc, links, senders *sync.WaitGroup) error {
	raiseSequence()
	for range r.o.Binds {
		b := &goBind{r: r, up: make(chan struct{})}
		first := make(chan error, 1)
		links.Go(func() { b.keep(ctx, cancel, first) })
		if err := <-first; err != nil {
			return err
		}
		for range r.o.Window {
			senders.Go(func() { b.send(ctx) })
		}
	}
	return nil
}

// keep binds, and with Reconnect binds again, until ctx ends. The result of
// the first bind goes to first.
func (b *goBind) keep(ctx context.Context, cancel context.CancelCauseFunc, first chan<- error) {
	begun := false
	for {
		err := b.session(ctx, func() {
			if !begun {
				begun = true
				first <- nil
			}
		})
		switch {
		case ctx.Err() != nil || err != nil && !b.r.o.Reconnect:
			if !begun {
				first <- errors.Join(err, ctx.Err())
			}
			return
		case err == nil:
			b.r.lost.Add(1)
			if !b.r.o.Reconnect {
				cancel(errors.New("go-smpp: connection lost"))
				return
			}
		}
		select {
		case <-time.After(goBindAgain):
		case <-ctx.Done():
		}
	}
}

// session is one Transceiver from its bind to its end. Its error is that of
// the bind.
func (b *goBind) session(ctx context.Context, bound func()) error {
	o := b.r.o
	tr := &gosmpp.Transceiver{
		Addr: o.Addr, User: o.SystemID, Passwd: o.Password, SystemType: o.SystemType,
		RespTimeout: o.Response, BindInterval: neverItself, Handler: b.handle,
	}
	status := tr.Bind()
	defer func() { _ = tr.Close() }()
	select {
	case st := <-status:
		if st.Status() != gosmpp.Connected {
			return fmt.Errorf("go-smpp: %s: %w", st.Status(), st.Error())
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	b.r.bound.Add(1)
	b.set(tr)
	defer b.set(nil)
	bound()
	select {
	case <-status:
	case <-ctx.Done():
	}
	return nil
}

func (b *goBind) set(tr *gosmpp.Transceiver) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tr = tr; tr != nil {
		close(b.up)
	} else {
		b.up = make(chan struct{})
	}
}

// wait returns the bound Transceiver, or nil when ctx ends first.
func (b *goBind) wait(ctx context.Context) *gosmpp.Transceiver {
	for {
		b.mu.Lock()
		tr, up := b.tr, b.up
		b.mu.Unlock()
		if tr != nil {
			return tr
		}
		select {
		case <-up:
		case <-ctx.Done():
			return nil
		}
	}
}

// send submits one message after the other.
func (b *goBind) send(ctx context.Context) {
	t := b.r.t
	for item := range b.r.items {
		tr := b.wait(ctx)
		if tr == nil {
			return
		}
		m := shortMessage(&item)
		body, sm, err := encoded(m)
		if err != nil {
			t.unencodable()
			continue
		}
		line := t.sent(&item, body, &sm, b.r.o.SystemID)
		_, err = tr.Submit(m)
		var status gopdu.Status
		switch {
		case err == nil:
			t.answered(line, pdu.ROK, m.RespID())
		case errors.As(err, &status):
			t.answered(line, pdu.Status(status), "")
		default:
			t.lost(line, err.Error())
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
