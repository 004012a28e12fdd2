package pdu_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shunt/smpp/pdu"
)

// operationIDs are the operations of query, submission to many, data,
// replacement and broadcast, with their responses where those have a body.
var operationIDs = []pdu.ID{
	pdu.SubmitMulti, pdu.SubmitMultiResp, pdu.DataSM, pdu.DataSMResp, pdu.QuerySM, pdu.QuerySMResp,
	pdu.CancelSM, pdu.ReplaceSM, pdu.Outbind, pdu.AlertNotification,
	pdu.BroadcastSM, pdu.BroadcastSMResp, pdu.QueryBroadcastSM, pdu.QueryBroadcastSMResp, pdu.CancelBroadcastSM,
}

type decodable interface{ Decode(pdu.PDU) error }

// operation is an empty value for a command of operationIDs, nil for another.
func operation(id pdu.ID) decodable {
	switch id {
	case pdu.SubmitMulti:
		return &pdu.Multi{}
	case pdu.SubmitMultiResp:
		return &pdu.MultiResp{}
	case pdu.DataSM:
		return &pdu.Data{}
	case pdu.DataSMResp, pdu.BroadcastSMResp, pdu.QueryBroadcastSMResp:
		return &pdu.MessageResp{}
	case pdu.QuerySM:
		return &pdu.Query{}
	case pdu.QuerySMResp:
		return &pdu.QueryResp{}
	case pdu.CancelSM:
		return &pdu.Cancel{}
	case pdu.ReplaceSM:
		return &pdu.Replace{}
	case pdu.Outbind:
		return &pdu.OutbindBody{}
	case pdu.AlertNotification:
		return &pdu.Alert{}
	case pdu.BroadcastSM:
		return &pdu.Broadcast{}
	case pdu.QueryBroadcastSM:
		return &pdu.BroadcastQuery{}
	case pdu.CancelBroadcastSM:
		return &pdu.BroadcastCancel{}
	}
	return nil
}

// appendOperation appends v as its own Append does.
func appendOperation(dst []byte, v decodable, id pdu.ID, status pdu.Status, seq uint32) []byte {
	switch v := v.(type) {
	case *pdu.MultiResp:
		return v.Append(dst, status, seq)
	case *pdu.QueryResp:
		return v.Append(dst, status, seq)
	case *pdu.MessageResp:
		return v.Append(dst, id, status, seq)
	case interface{ Append([]byte, uint32) []byte }:
		return v.Append(dst, seq)
	}
	return nil
}

// tlvsOf are v's optional parameters, which every operation keeps.
func tlvsOf(v decodable) pdu.TLVs {
	switch v := v.(type) {
	case *pdu.Multi:
		return v.TLVs
	case *pdu.MultiResp:
		return v.TLVs
	case *pdu.Data:
		return v.TLVs
	case *pdu.MessageResp:
		return v.TLVs
	case *pdu.Query:
		return v.TLVs
	case *pdu.QueryResp:
		return v.TLVs
	case *pdu.Cancel:
		return v.TLVs
	case *pdu.Replace:
		return v.TLVs
	case *pdu.OutbindBody:
		return v.TLVs
	case *pdu.Alert:
		return v.TLVs
	case *pdu.Broadcast:
		return v.TLVs
	case *pdu.BroadcastQuery:
		return v.TLVs
	case *pdu.BroadcastCancel:
		return v.TLVs
	}
	return nil
}

// tlvs builds optional parameters of pairs of a tag and a value.
func tlvs(pairs ...any) (t pdu.TLVs) {
	for i := 0; i < len(pairs); i += 2 {
		t = pdu.AppendTLV(t, pairs[i].(pdu.Tag), []byte(pairs[i+1].(string)))
	}
	return t
}

// operations are the golden files of operationIDs.
func operations() []vector {
	op := func(name string, id pdu.ID, status pdu.Status, seq uint32, v decodable) vector {
		return vector{name, id, status, seq, v, func(id pdu.ID, status pdu.Status, seq uint32) []byte {
			return appendOperation(nil, v, id, status, seq)
		}}
	}
	sender, to, cell := address(5, 0, "Example"), address(1, 1, "447700900042"), address(0, 0, "60123")
	id, day := []byte("0123456789abcdef"), []byte("000002000000000R")
	dests := pdu.DestAddress{Flag: pdu.DestSME, Address: to}.Append(nil)
	dests = pdu.DestAddress{Flag: pdu.DestList, List: []byte("customers")}.Append(dests)
	dests = pdu.DestAddress{Flag: pdu.DestSME, Address: address(1, 1, "447700900043")}.Append(dests)
	failed := pdu.UnsuccessSME{Address: address(1, 1, "55555"), Status: pdu.RALYBND}.Append(nil)
	failed = pdu.UnsuccessSME{Address: address(2, 8, "65455"), Status: pdu.RINVSERTYP}.Append(failed)
	const coast, islands = "\x00North coast", "\x00Islands"
	return []vector{
		op("submit_multi", pdu.SubmitMulti, 0, 0x21, &pdu.Multi{
			ServiceType: []byte("CMT"), Source: sender, Dests: dests, Priority: 1,
			Validity: day, RegisteredDelivery: 1, ShortMessage: []byte("Hello"), TLVs: tlvs(pdu.TagUserMessageReference, "\xBE\xEF"),
		}),
		op("submit_multi_resp_all_taken", pdu.SubmitMultiResp, 0, 0x21, &pdu.MultiResp{MessageID: []byte("ABC")}),
		op("submit_multi_resp", pdu.SubmitMultiResp, 0, 0x22, &pdu.MultiResp{MessageID: []byte("ABC"), Unsuccess: failed}),
		op("submit_multi_resp_refused", pdu.SubmitMultiResp, pdu.RINVNUMDESTS, 0x23, &pdu.MultiResp{}),
		op("data_sm", pdu.DataSM, 0, 0x0B, &pdu.Data{
			ServiceType: []byte("WAP"), Source: address(1, 1, "447700900001"),
			Dest:     address(1, 14, "device-with-a-name-of-sixty-four-octets.wireless.example.example"),
			ESMClass: 2, DataCoding: 4,
			TLVs: tlvs(pdu.TagDestinationPort, "\x0B\x84", pdu.TagMessagePayload, "\x01\x06\x00\xFF push", pdu.TagSetDPF, "\x01"),
		}),
		op("data_sm_resp", pdu.DataSMResp, 0, 0x0B, &pdu.MessageResp{MessageID: []byte("s1")}),
		op("data_sm_resp_failed", pdu.DataSMResp, pdu.RDELIVERYFAILURE, 0x0C, &pdu.MessageResp{TLVs: tlvs(
			pdu.TagDeliveryFailureReason, "\x00", pdu.TagNetworkErrorCode, "\x03\x00\x1B",
			pdu.TagAdditionalStatusInfoText, "absent subscriber\x00", pdu.TagDPFResult, "\x01")}),
		op("query_sm", pdu.QuerySM, 0, 0x31, &pdu.Query{MessageID: id, Source: sender}),
		op("query_sm_resp", pdu.QuerySMResp, 0, 0x31, &pdu.QueryResp{MessageID: id, FinalDate: []byte("261123174200000+"), State: 5, ErrorCode: 27}),
		op("query_sm_resp_enroute", pdu.QuerySMResp, 0, 0x32, &pdu.QueryResp{MessageID: []byte("1"), State: 1}),
		op("query_sm_resp_failed", pdu.QuerySMResp, pdu.RQUERYFAIL, 0x33, &pdu.QueryResp{}),
		op("cancel_sm", pdu.CancelSM, 0, 0x41, &pdu.Cancel{MessageID: id, Source: sender}),
		op("cancel_sm_all", pdu.CancelSM, 0, 0x42, &pdu.Cancel{ServiceType: []byte("CMT"), Source: sender, Dest: to}),
		op("replace_sm", pdu.ReplaceSM, 0, 0x51, &pdu.Replace{
			MessageID: id, Source: sender, Schedule: []byte("261123174100004+"),
			Validity: day, RegisteredDelivery: 1, ShortMessage: []byte("Hello all"),
		}),
		op("replace_sm_payload", pdu.ReplaceSM, 0, 0x52, &pdu.Replace{MessageID: []byte("1"), TLVs: tlvs(pdu.TagMessagePayload, "a longer text")}),
		op("outbind", pdu.Outbind, 0, 1, &pdu.OutbindBody{SystemID: []byte("SMSC"), Password: []byte("8-octets")}),
		op("alert_notification", pdu.AlertNotification, 0, 7, &pdu.Alert{Source: to, ESME: sender, TLVs: tlvs(pdu.TagMSAvailabilityStatus, "\x00")}),
		op("broadcast_sm", pdu.BroadcastSM, 0, 0x61, &pdu.Broadcast{
			ServiceType: []byte("CBS"), Source: cell, Priority: 2, Validity: []byte("000001000000000R"),
			TLVs: tlvs(pdu.TagBroadcastAreaIdentifier, coast, pdu.TagBroadcastAreaIdentifier, islands,
				pdu.TagBroadcastContentType, "\x01\x00\x11", pdu.TagBroadcastRepNum, "\x00\x0A",
				pdu.TagBroadcastFrequencyInterval, "\x09\x00\x1E", pdu.TagMessagePayload, "Storm tide at 18:40"),
		}),
		op("broadcast_sm_resp", pdu.BroadcastSMResp, 0, 0x61, &pdu.MessageResp{MessageID: []byte("b1")}),
		op("broadcast_sm_resp_failed_area", pdu.BroadcastSMResp, 0, 0x62, &pdu.MessageResp{
			MessageID: []byte("b2"),
			TLVs:      tlvs(pdu.TagBroadcastErrorStatus, "\x00\x00\x01\x09", pdu.TagBroadcastAreaIdentifier, islands),
		}),
		op("query_broadcast_sm", pdu.QueryBroadcastSM, 0, 0x63, &pdu.BroadcastQuery{
			MessageID: []byte("b1"), Source: cell, TLVs: tlvs(pdu.TagUserMessageReference, "\x00\x01"),
		}),
		op("query_broadcast_sm_resp", pdu.QueryBroadcastSMResp, 0, 0x63, &pdu.MessageResp{
			MessageID: []byte("b1"),
			TLVs: tlvs(pdu.TagMessageState, "\x02", pdu.TagBroadcastAreaIdentifier, coast, pdu.TagBroadcastAreaSuccess, "\x64",
				pdu.TagBroadcastAreaIdentifier, islands, pdu.TagBroadcastAreaSuccess, "\x5F", pdu.TagBroadcastEndTime, "261123184000000+\x00"),
		}),
		op("cancel_broadcast_sm", pdu.CancelBroadcastSM, 0, 0x64, &pdu.BroadcastCancel{
			ServiceType: []byte("CBS"), MessageID: []byte("b1"),
			Source: cell, TLVs: tlvs(pdu.TagBroadcastContentType, "\x01\x00\x11"),
		}),
	}
}

// TestOperationsAppend checks what the golden test does not: builders append
// behind octets, decoders do not write, and hand out no room to append into.
func TestOperationsAppend(t *testing.T) {
	for _, v := range operations() {
		p := golden(t, v.name)
		before := bytes.Clone(p)
		got := operation(v.id)
		if err := got.Decode(p); err != nil {
			t.Fatalf("%s: %v", v.name, err)
		}
		again := appendOperation([]byte("before"), got, v.id, v.status, v.seq)
		if want := append([]byte("before"), p...); !bytes.Equal(again, want) {
			t.Errorf("%s behind octets:\n got % X\nwant % X", v.name, again, want)
		}
		_ = append(tlvsOf(got), "overwritten"...)
		switch m := got.(type) {
		case *pdu.Multi:
			_ = append(m.Dests, "overwritten"...)
			for d := range m.Dests.All() {
				_ = append(append(d.List, "overwritten"...), append(d.Address.Addr, "overwritten"...)...)
			}
		case *pdu.MultiResp:
			_ = append(m.Unsuccess, "overwritten"...)
		}
		if !bytes.Equal(p, before) {
			t.Errorf("%s: an append to a field wrote into the PDU:\n got % X\nwant % X", v.name, []byte(p), before)
		}
	}
}

func TestOperationFieldErrors(t *testing.T) {
	long := func(n int) []byte { return bytes.Repeat([]byte{'1'}, n) }
	far := func(n int) pdu.Address { return pdu.Address{Addr: long(n)} }
	cut := func(p pdu.PDU, n int) pdu.PDU { return p[:len(p)-n] }
	sme := pdu.DestAddress{Flag: pdu.DestSME, Address: address(1, 1, "44")}.Append(nil)
	multi := func(dests pdu.DestAddresses) pdu.PDU { m := pdu.Multi{Dests: dests}; return m.Append(nil, 1) }
	more := multi(sme)
	more[pdu.HeaderLen+4] = 2 // number_of_dests
	flag := multi(sme)
	flag[pdu.HeaderLen+5] = 3 // dest_flag
	name := multi(pdu.DestAddress{Flag: pdu.DestList, List: long(21)}.Append(nil))
	name[pdu.HeaderLen+4] = 1 // number_of_dests, which an unsound list does not give
	refused := pdu.UnsuccessSME{Address: address(1, 1, "44")}.Append(nil)
	for _, c := range []struct {
		p    pdu.PDU
		want string
	}{
		{more, "dest_flag at octet 27: 0, want 1 or 2"},
		{flag, "dest_flag at octet 21: 3, want 1 or 2"},
		{name, "dl_name at octet 22: longer than 21 octets"},
		{multi(sme)[:25], "destination_addr at octet 24: cut short before its NUL"},
		{multi(nil)[:20], "number_of_dests at octet 20: cut short"},
		{(&pdu.MultiResp{MessageID: long(65)}).Append(nil, 0, 1), "message_id at octet 16: longer than 65 octets"},
		{cut((&pdu.MultiResp{Unsuccess: refused}).Append(nil, 0, 1), 1), "error_status_code at octet 23: cut short: 3 octets of 4"},
		{pdu.AppendHeader(nil, pdu.SubmitMultiResp, pdu.ROK, 1), "message_id at octet 16: cut short before its NUL"},
		{pdu.AppendHeader(nil, pdu.QuerySMResp, pdu.ROK, 1), "message_id at octet 16: cut short before its NUL"},
		{pdu.AppendMessageResp(nil, pdu.QuerySMResp, pdu.ROK, 1, ""), "final_date at octet 17: cut short before its NUL"},
		{(&pdu.Data{Source: far(65)}).Append(nil, 1), "source_addr at octet 19: longer than 65 octets"},
		{(&pdu.Data{Dest: far(65)}).Append(nil, 1), "destination_addr at octet 22: longer than 65 octets"},
		{(&pdu.Query{Source: far(21)}).Append(nil, 1), "source_addr at octet 19: longer than 21 octets"},
		{(&pdu.QueryResp{FinalDate: long(17)}).Append(nil, 0, 1), "final_date at octet 17: longer than 17 octets"},
		{(&pdu.Cancel{ServiceType: long(6)}).Append(nil, 1), "service_type at octet 16: longer than 6 octets"},
		{cut((&pdu.Replace{ShortMessage: []byte("abc")}).Append(nil, 1), 1), "short_message at octet 25: cut short: 2 octets of 3"},
		{(&pdu.OutbindBody{Password: long(9)}).Append(nil, 1), "password at octet 17: longer than 9 octets"},
		{(&pdu.Alert{ESME: far(65)}).Append(nil, 1), "esme_addr at octet 21: longer than 65 octets"},
		{(&pdu.Broadcast{Schedule: long(17)}).Append(nil, 1), "schedule_delivery_time at octet 22: longer than 17 octets"},
		{(&pdu.BroadcastQuery{TLVs: pdu.TLVs{6, 6, 0}}).Append(nil, 1), "optional parameter at octet 20: cut short"},
		{(&pdu.BroadcastCancel{MessageID: long(65)}).Append(nil, 1), "message_id at octet 17: longer than 65 octets"},
		{(&pdu.MessageResp{MessageID: long(65)}).Append(nil, pdu.BroadcastSMResp, 0, 1), "message_id at octet 16: longer than 65 octets"},
	} {
		got := ""
		if err := operation(c.p.ID()).Decode(c.p); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%v Decode(% X) = %q, want %q", c.p.ID(), []byte(c.p), got, c.want)
		}
	}
	// The longest that each may be.
	for _, p := range []pdu.PDU{
		(&pdu.MultiResp{MessageID: long(64)}).Append(nil, 0, 1),
		(&pdu.Data{Source: far(64), Dest: far(64)}).Append(nil, 1),
		(&pdu.Query{MessageID: long(64), Source: far(20)}).Append(nil, 1),
		(&pdu.QueryResp{FinalDate: long(16)}).Append(nil, 0, 1),
		(&pdu.Replace{Schedule: long(16), Validity: long(16), ShortMessage: long(255)}).Append(nil, 1),
		(&pdu.OutbindBody{SystemID: long(15), Password: long(8)}).Append(nil, 1),
		(&pdu.Alert{Source: far(64), ESME: far(64)}).Append(nil, 1),
	} {
		if err := operation(p.ID()).Decode(p); err != nil {
			t.Errorf("%v Decode(% X): %v", p.ID(), []byte(p), err)
		}
	}
}

// TestMulti: the lists tell what they hold, in its order, and each destination
// gets the submit_sm that it would have got alone.
func TestMulti(t *testing.T) {
	var m pdu.Multi
	if err := m.Decode(golden(t, "submit_multi")); err != nil {
		t.Fatal(err)
	}
	var got []string
	for d := range m.Dests.All() {
		switch d.Flag {
		case pdu.DestSME:
			got = append(got, string(d.Address.Addr))
			sm, want := m.To(d.Address), pdu.SM{
				ServiceType: []byte("CMT"), Source: address(5, 0, "Example"), Dest: d.Address, Priority: 1,
				Validity: []byte("000002000000000R"), RegisteredDelivery: 1, ShortMessage: []byte("Hello"),
				TLVs: tlvs(pdu.TagUserMessageReference, "\xBE\xEF"),
			}
			if diff := cmp.Diff(want, sm, equalEmpty); diff != "" {
				t.Errorf("To(%s) (-want +got):\n%s", d.Address.Addr, diff)
			}
		case pdu.DestList:
			got = append(got, "list "+string(d.List))
		}
	}
	if want := []string{"447700900042", "list customers", "447700900043"}; !equal(got, want) || m.Dests.Len() != 3 {
		t.Errorf("Dests = %q, Len %d, want %q", got, m.Dests.Len(), want)
	}
	for range m.Dests.All() {
		break // an early end is no fault
	}

	var r pdu.MultiResp
	if err := r.Decode(golden(t, "submit_multi_resp")); err != nil {
		t.Fatal(err)
	}
	var failed []string
	for u := range r.Unsuccess.All() {
		failed = append(failed, string(u.Address.Addr)+" "+u.Status.String())
	}
	want := []string{"55555 0x00000005 ESME_RALYBND (already in bound state)", "65455 0x00000015 ESME_RINVSERTYP (invalid service type)"}
	if !equal(failed, want) || r.Unsuccess.Len() != 2 {
		t.Errorf("Unsuccess = %q, want %q", failed, want)
	}
	for range r.Unsuccess.All() {
		break
	}

	// As many as one octet counts, and what is not whole ends a walk.
	many := pdu.DestAddresses(bytes.Repeat(pdu.DestAddress{Flag: pdu.DestList, List: []byte("l")}.Append(nil), 255))
	full := pdu.Multi{Dests: many}
	if err := m.Decode(full.Append(nil, 1)); err != nil || m.Dests.Len() != 255 {
		t.Errorf("255 destinations: Len = %d, %v", m.Dests.Len(), err)
	}
	if n := many[:len(many)-1].Len(); n != 254 {
		t.Errorf("Len of 254 destinations and a half = %d", n)
	}
	lost := pdu.UnsuccessSMEs(bytes.Repeat(pdu.UnsuccessSME{}.Append(nil), 255))
	all := pdu.MultiResp{Unsuccess: lost}
	if err := r.Decode(all.Append(nil, pdu.ROK, 1)); err != nil || r.Unsuccess.Len() != 255 {
		t.Errorf("255 refused: Len = %d, %v", r.Unsuccess.Len(), err)
	}
	if n := lost[:len(lost)-1].Len(); n != 254 {
		t.Errorf("Len of 254 refused and a half = %d", n)
	}
}

// TestErrorBodies: an error response has no body, one NUL or all of its
// fields; a submit_multi_resp may lack no_unsuccess (SMPP v3.4 §3.2, §4.5.2).
func TestErrorBodies(t *testing.T) {
	for _, id := range []pdu.ID{pdu.SubmitMultiResp, pdu.QuerySMResp, pdu.DataSMResp, pdu.BroadcastSMResp, pdu.QueryBroadcastSMResp} {
		bare := pdu.AppendHeader(nil, id, pdu.RSYSERR, 7)
		for _, p := range []pdu.PDU{bare, pdu.AppendMessageResp(nil, id, pdu.RSYSERR, 7, "")} {
			v := operation(id)
			err := v.Decode(p)
			if diff := cmp.Diff(operation(id), v, equalEmpty); err != nil || diff != "" {
				t.Errorf("%v with body % X: %v (-want +got):\n%s", id, p.Body(), err, diff)
			}
			if again := appendOperation(nil, v, id, pdu.RSYSERR, 7); !bytes.Equal(again, bare) {
				t.Errorf("%v: built % X, want no body", id, again)
			}
		}
	}
	var r pdu.MultiResp
	if err := r.Decode(pdu.AppendMessageResp(nil, pdu.SubmitMultiResp, pdu.ROK, 1, "ABC")); err != nil || string(r.MessageID) != "ABC" || r.Unsuccess.Len() != 0 {
		t.Errorf("submit_multi_resp without no_unsuccess = %+v, %v", r, err)
	}
	stale := pdu.QueryResp{State: 3, TLVs: pdu.TLVs{0, 1, 0, 0}}
	if err := stale.Decode(pdu.AppendHeader(nil, pdu.QuerySMResp, pdu.RQUERYFAIL, 1)); err != nil || stale.State != 0 || stale.TLVs != nil {
		t.Errorf("a bodiless error left old fields: %+v, %v", stale, err)
	}
}

func TestDataPayload(t *testing.T) {
	var m pdu.Data
	if err := m.Decode(golden(t, "data_sm")); err != nil {
		t.Fatal(err)
	}
	if b, ok := m.Payload(); !ok || string(b) != "\x01\x06\x00\xFF push" {
		t.Errorf("Payload = %q, %v", b, ok)
	}
	if b, ok := (&pdu.Data{}).Payload(); ok {
		t.Errorf("Payload of none = %q", b)
	}
}

// TestOperationsNoAllocation: decoding, walking and building allocate nothing.
func TestOperationsNoAllocation(t *testing.T) {
	out := make([]byte, 0, 1024)
	for _, v := range operations() {
		p, m := golden(t, v.name), operation(v.id)
		if got := testing.AllocsPerRun(200, func() {
			if m.Decode(p) != nil {
				t.Fatal("does not decode")
			}
		}); got != 0 {
			t.Errorf("%s: Decode allocates %v times, want 0", v.name, got)
		}
		if got := testing.AllocsPerRun(200, func() { out = appendOperation(out[:0], m, v.id, v.status, v.seq) }); got != 0 {
			t.Errorf("%s: Append allocates %v times, want 0", v.name, got)
		}
		n := 0
		if got := testing.AllocsPerRun(200, func() {
			switch m := m.(type) {
			case *pdu.Multi:
				for d := range m.Dests.All() {
					n += len(d.Address.Addr)
				}
			case *pdu.MultiResp:
				for u := range m.Unsuccess.All() {
					n += len(u.Address.Addr)
				}
			}
		}); got != 0 {
			t.Errorf("%s: the walk allocates %v times, want 0", v.name, got)
		}
	}
}

// FuzzOperations: what decodes as an operation is built again from its fields
// octet for octet, but for the bodies that canonical mends.
func FuzzOperations(f *testing.F) {
	for _, name := range goldens(f) {
		p := golden(f, name)
		for i, id := range operationIDs {
			if id == p.ID() {
				f.Add(byte(i), []byte(p))
			}
		}
	}
	f.Add(byte(1), []byte("\x00\x00\x00\x11\x80\x00\x00\x21\x00\x00\x00\x08\x00\x00\x00\x01\x00"))
	f.Fuzz(func(t *testing.T, which byte, b []byte) {
		id := operationIDs[int(which)%len(operationIDs)]
		p := body(b, id)
		before := bytes.Clone(p)
		v := operation(id)
		err := v.Decode(p)
		if !bytes.Equal(p, before) {
			t.Fatal("Decode changed the PDU")
		}
		if err != nil {
			if field, ok := err.(*pdu.FieldError); !ok || field.At > len(p) || !strings.Contains(err.Error(), field.Field) {
				t.Errorf("error %v is no sound FieldError", err)
			}
			return
		}
		again := pdu.PDU(appendOperation(nil, v, id, p.Status(), p.Seq()))
		if want := canonical(p, v); !bytes.Equal(again.Body(), want) || again.ID() != id || again.Seq() != p.Seq() || again.Len() != uint32(len(again)) {
			t.Errorf("%v Append(Decode):\n got % X\nwant % X", id, again.Body(), want)
		}
		twice := operation(id)
		if err := twice.Decode(again); err != nil || !cmp.Equal(v, twice, equalEmpty) {
			t.Errorf("%v Decode(Append(Decode)) = %+v, %v, want %+v", id, twice, err, v)
		}
		switch m := v.(type) {
		case *pdu.Multi:
			var list []byte
			for d := range m.Dests.All() {
				list = d.Append(list)
			}
			if !bytes.Equal(list, m.Dests) {
				t.Errorf("the destinations again:\n got % X\nwant % X", list, []byte(m.Dests))
			}
		case *pdu.MultiResp:
			var list []byte
			for u := range m.Unsuccess.All() {
				list = u.Append(list)
			}
			if !bytes.Equal(list, m.Unsuccess) {
				t.Errorf("the refused again:\n got % X\nwant % X", list, []byte(m.Unsuccess))
			}
		}
	})
}

// canonical is p's body as a builder writes it: an error that says nothing has
// none, a success has its message_id and its no_unsuccess.
func canonical(p pdu.PDU, v decodable) []byte {
	b := p.Body()
	if !p.ID().IsResponse() {
		return b
	}
	if p.Status() != pdu.ROK && len(tlvsOf(v)) == 0 && len(bytes.Trim(b, "\x00")) == 0 {
		return nil
	}
	switch v.(type) {
	case *pdu.MessageResp:
		if len(b) == 0 {
			return []byte{0}
		}
	case *pdu.MultiResp:
		if bytes.IndexByte(b, 0) == len(b)-1 {
			return append(bytes.Clone(b), 0)
		}
	}
	return b
}
