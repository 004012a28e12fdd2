package upstream

import (
	"net"
	"testing"
	"time"

	"shunt/smpp"
	"shunt/smpp/pdu"
)

func TestOwnSplit(t *testing.T) {
	receipts := make(chan Receipt, 1)
	r := newOwnRig(t, func(o *OwnOptions) {
		o.Split = true
		o.OnReceipt = func(rc Receipt, answer func(pdu.Status)) {
			receipts <- rc
			answer(pdu.ROK)
		}
	})
	binds := make(map[pdu.ID]*peer)
	for range 2 {
		p := r.smsc.accept()
		req := p.next()
		binds[req.ID()] = p
		p.send((&pdu.BindResp{}).Append(nil, req.ID(), pdu.ROK, req.Seq()))
	}
	tx, rx := binds[pdu.BindTransmitter], binds[pdu.BindReceiver]
	if tx == nil || rx == nil {
		t.Fatalf("binds: %v, want a transmitter and a receiver", binds)
	}
	r.ready(1)
	for range 3 { // never on the receiver
		done := r.submit()
		tx.send(pdu.AppendMessageResp(nil, pdu.SubmitSMResp, pdu.ROK, tx.next().Seq(), "id"))
		r.result(done)
	}
	rx.send(receiptPDU("id:id stat:DELIVRD err:000", 3))
	if rc := <-receipts; rc.ID != "id" {
		t.Errorf("receipt %+v", rc)
	}
	rx.want(pdu.AppendMessageResp(nil, pdu.DeliverSMResp, pdu.ROK, 3, ""))
	rx.wantNothing()
	_ = tx.conn.Close()
	r.ready(0)
	if r.own.Ready() {
		t.Error("Ready() with a receiver alone")
	}
	r.bind(pdu.BindTransmitter)
	r.ready(1)
	rx.wantNothing() // untouched
}

func receiptPDU(text string, seq uint32) pdu.PDU {
	p := sms(pdu.DeliverSM, func(m *pdu.SM) { m.ESMClass, m.ShortMessage = smpp.ESMReceipt, []byte(text) })
	return withSeq(p, seq)
}

// TestOwnReceives: receipts go to their taker, whose word is the answer, and
// all else is refused as what it is.
func TestOwnReceives(t *testing.T) {
	type pending struct {
		r      Receipt
		answer func(pdu.Status)
	}
	got := make(chan pending, 10)
	r := newOwnRig(t, func(o *OwnOptions) {
		o.IDFormat = IDHexRespDecReceipt
		o.OnReceipt = func(rc Receipt, answer func(pdu.Status)) { got <- pending{rc, answer} }
	})
	smsc := r.bind(pdu.BindTransceiver)
	r.ready(1)
	done := r.submit()
	smsc.send(pdu.AppendMessageResp(nil, pdu.SubmitSMResp, pdu.ROK, smsc.next().Seq(), "004F2A"))
	res := r.result(done)

	smsc.send(receiptPDU("id:0000020266 sub:001 dlvrd:000 submit date:2506021158 done date:250602120130 stat:UNDELIV err:034 text:", 11),
		receiptPDU("id:7 stat:ENROUTE", 12))
	first, second := <-got, <-got
	if first.r.ID != res.MessageID || first.r.SMSC != "smsc-own" || first.r.State != smpp.StateUndeliverable || first.r.Err != "034" ||
		!first.r.Done.Equal(time.Date(2025, 6, 2, 12, 1, 30, 0, time.UTC)) {
		t.Errorf("receipt %+v, want one of %q", first.r, res.MessageID)
	}
	if second.r.ID != "7" || second.r.State != smpp.StateEnroute {
		t.Errorf("receipt %+v", second.r)
	}
	smsc.send(withSeq(dataSM(smpp.ESMReceipt, "id:9 stat:DELIVRD err:000"), 13))
	third := <-got
	if third.r.ID != "9" || third.r.State != smpp.StateDelivered {
		t.Errorf("receipt in a data_sm %+v", third.r)
	}
	third.answer(pdu.ROK)
	smsc.want(pdu.AppendMessageResp(nil, pdu.DataSMResp, pdu.ROK, 13, ""))
	for i, text := range []string{"id:10 stat:ENROUTE err:001", "id:10 stat:DELIVRD err:000"} { // more is to come, whatever it says
		p := sms(pdu.DeliverSM, func(m *pdu.SM) { m.ESMClass, m.ShortMessage = smpp.ESMIntermediate, []byte(text) })
		smsc.send(withSeq(p, uint32(14+i)))
		n := <-got
		if n.r.ID != "10" || n.r.State != smpp.StateEnroute {
			t.Errorf("intermediate notification %+v", n.r)
		}
		n.answer(pdu.ROK)
		smsc.want(pdu.AppendMessageResp(nil, pdu.DeliverSMResp, pdu.ROK, uint32(14+i), ""))
	}
	smsc.wantNothing() // until it is durable
	second.answer(pdu.ROK)
	smsc.want(pdu.AppendMessageResp(nil, pdu.DeliverSMResp, pdu.ROK, 12, ""))
	first.answer(pdu.RXTAPPN)
	smsc.want(pdu.AppendMessageResp(nil, pdu.DeliverSMResp, pdu.RXTAPPN, 11, ""))

	for _, c := range []struct {
		name string
		p    pdu.PDU
		id   pdu.ID
		st   pdu.Status
	}{
		{"a message", sms(pdu.DeliverSM, nil), pdu.DeliverSMResp, pdu.RXPAPPN},
		{"a text that looks like a receipt", sms(pdu.DeliverSM, func(m *pdu.SM) { m.ShortMessage = []byte("id:7 stat:DELIVRD err:000") }), pdu.DeliverSMResp, pdu.RXPAPPN},
		{"a receipt without an id", receiptPDU("stat:DELIVRD err:000", 0), pdu.DeliverSMResp, pdu.RXPAPPN},
		{"data_sm", dataSM(0, "hello"), pdu.DataSMResp, pdu.RXPAPPN},
		{"data_sm that does not decode", rawText(pdu.DataSM, "\x00"), pdu.DataSMResp, pdu.RSYSERR},
		{"deliver_sm that does not decode", raw(pdu.DeliverSM, 0), pdu.DeliverSMResp, pdu.RSYSERR},
	} {
		smsc.send(withSeq(c.p, 20))
		smsc.want(pdu.AppendMessageResp(nil, c.id, c.st, 20, ""))
	}
	if n := r.own.Ignored.Load(); n != 4 {
		t.Errorf("Ignored = %d, want 4", n)
	}
	for _, id := range []pdu.ID{pdu.SubmitSM, pdu.QuerySM, pdu.BindTransceiver, 0x10200} {
		smsc.send(withSeq(raw(id), 21))
		smsc.wantHeader(pdu.GenericNack, pdu.RINVCMDID, 21)
	}
	for _, s := range unanswered() {
		smsc.send(s.p)
	}
	smsc.send(pdu.AppendHeader(nil, pdu.GenericNack, pdu.RSYSERR, 0x999))
	smsc.wantNothing()
	if len(got) != 0 {
		t.Errorf("%d more receipts", len(got))
	}

	// An answer after the end of the session has nowhere to go.
	smsc.send(receiptPDU("id:8 stat:DELIVRD", 30))
	last := <-got
	_ = smsc.conn.Close()
	r.ready(0)
	last.answer(pdu.ROK)
	r.bind(pdu.BindTransceiver).wantNothing()
}

func TestOwnUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	r := newOwnRig(t, func(o *OwnOptions) { o.Addr = l.Addr().String() })
	for deadline := time.Now().Add(patience); r.own.State().LastError == ""; yield() {
		if time.Now().After(deadline) {
			t.Fatal("the state names no error")
		}
	}
	if st := r.own.State(); st.Bound != 0 || r.own.Ready() {
		t.Errorf("State() = %+v", st)
	}
}

func TestTrap01MessageIDs(t *testing.T) {
	for _, c := range []struct {
		f             IDFormat
		resp, receipt string
		same          bool
	}{
		{IDRaw, "4F2A", "4F2A", true},
		{IDRaw, "4F2A", "4f2a", false},
		{IDRaw, "007", "7", false},
		{IDRaw, "", "", true},
		{IDHex, "4F2A", "4f2a", true},
		{IDHex, "004f2a", "4F2A", true},
		{IDHex, "10", "16", false},
		{IDHex, "ffffffffffffffff", "FFFFFFFFFFFFFFFF", true},
		{IDHex, "0001ffffffffffffffff", "1FFFFFFFFFFFFFFFF", true}, // beyond 64 bits
		{IDHex, "msg-0A", "MSG-0a", true},                          // no number at all
		{IDDec, "0020266", "20266", true},
		{IDDec, "20266", "4f2a", false},
		{IDHexRespDecReceipt, "4F2A", "20266", true},
		{IDHexRespDecReceipt, "004f2a", "0000020266", true},
		{IDHexRespDecReceipt, "20266", "20266", false},
		{IDHexRespDecReceipt, "ffffffffffffffff", "18446744073709551615", true},
		{IDDecRespHexReceipt, "20266", "4F2A", true},
		{IDDecRespHexReceipt, "0000020266", "00004f2a", true},
		{IDDecRespHexReceipt, "4f2a", "20266", false},
	} {
		resp, receipt := c.f.OfResponse(c.resp), c.f.OfReceipt(c.receipt)
		if (resp == receipt) != c.same {
			t.Errorf("format %d: %q in the response is %q, %q in the receipt is %q; want the same: %t", c.f, c.resp, resp, c.receipt, receipt, c.same)
		}
	}
}

func dataSM(esmClass byte, text string) pdu.PDU {
	m := pdu.Data{ESMClass: esmClass, TLVs: pdu.AppendTLV(nil, pdu.TagMessagePayload, []byte(text))}
	return m.Append(nil, 0)
}
