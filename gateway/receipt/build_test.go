package receipt

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"shunt/gateway/msg"
	"shunt/smpp"
	"shunt/smpp/pdu"
	"shunt/store/spool"
)

var (
	submitted = time.Date(2025, 6, 2, 11, 58, 7, 0, time.FixedZone("CEST", 7200)) // 09:58 UTC
	done      = time.Date(2025, 6, 2, 10, 1, 30, 0, time.UTC)
)

const wireID = "s01JWR9M3YC0000000000000042"

// original is the submit_sm that the receipts are about.
func original() *pdu.SM {
	return &pdu.SM{
		ServiceType:  []byte("CMT"),
		Source:       pdu.Address{TON: pdu.TONAlphanumeric, Addr: []byte("Parcel24")},
		Dest:         pdu.Address{TON: pdu.TONInternational, NPI: pdu.NPIISDN, Addr: []byte("447700900042")},
		ESMClass:     0x03,
		Validity:     []byte("000001000000000R"),
		ShortMessage: []byte("Your parcel comes on Monday."), RegisteredDelivery: 1,
	}
}

func submitSM(m *pdu.SM) pdu.PDU { return pdu.AppendSM(nil, pdu.SubmitSM, 77, m) }

// unhex reads octets written in groups.
func unhex(t testing.TB, groups ...string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(strings.Join(groups, "")), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestGolden holds whole receipts against octets written by hand from SMPP v3.4
// §4.6.1, Appendix B, §5.3.2.12 and §5.3.2.35; a v3.3 bind gets the same
// without optional parameters.
func TestGolden(t *testing.T) {
	text := "id:" + wireID + " sub:001 dlvrd:001 submit date:2506020958 done date:2506021001 stat:DELIVRD err:000 text:Your parcel comes on"
	mandatory := []string{
		"434d5400",                              // service_type CMT
		"01 01 343437373030393030303432 00",     // source: the destination of the submit_sm
		"05 00 50617263656c3234 00",             // destination: its source
		"04 00 00",                              // esm_class: receipt; protocol_id; priority_flag
		"00 00",                                 // schedule_delivery_time, validity_period
		"00 00 00 00",                           // registered_delivery to sm_default_msg_id
		fmt.Sprintf("%02x %x", len(text), text), // sm_length, short_message
	}
	tlvs := []string{
		fmt.Sprintf("001e %04x %x 00", len(wireID)+1, wireID), // receipted_message_id
		"0427 0001 02",     // message_state DELIVERED
		"1580 0003 617070", // channel: app
	}
	r := record(msg.Delivered, func(r *spool.Record) { r.Device = "phone" })
	for _, c := range []struct {
		version byte
		body    []string
	}{
		{0x33, mandatory}, {0x00, mandatory}, {0x34, append(mandatory, tlvs...)}, {0x50, append(mandatory, tlvs...)},
	} {
		body := unhex(t, c.body...)
		want := unhex(t, fmt.Sprintf("%08x 00000005 00000000 00000000", 16+len(body)), hex.EncodeToString(body))
		got, err := Build(nil, r, 0, submitSM(original()), c.version)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("Build(version %#02x), %v:\n got %x\nwant %x", c.version, err, got, want)
		}
	}
}

// record is that of a message in a final state.
func record(s msg.State, set func(*spool.Record)) *spool.Record {
	r := &spool.Record{WireID: wireID, State: s, ReceivedAt: submitted, DoneAt: done, RegisteredDelivery: 1}
	if set != nil {
		set(r)
	}
	return r
}

// sms is a message that the carrier had, and what the carrier said.
func sms(said string) func(*spool.Record) {
	return func(r *spool.Record) { r.Peer, r.SMSID, r.SMSAttempts, r.SMSErr = "smsc-own", "4711", 1, said }
}

func TestFinalStates(t *testing.T) {
	for _, c := range []struct {
		name    string
		r       *spool.Record
		stat    string
		state   smpp.MessageState
		dlvrd   string
		err     string
		channel string // "": no TLV
	}{
		{"delivered by the app", record(msg.Delivered, func(r *spool.Record) { r.Device = "phone" }), "DELIVRD", 2, "001", "000", "app"},
		{"delivered and read", record(msg.Delivered, func(r *spool.Record) { r.Device, r.Read = "phone", true }), "DELIVRD", 2, "001", "000", "app"},
		{"delivered by SMS", record(msg.SMSDelivered, sms("DELIVRD 000")), "DELIVRD", 2, "001", "000", "carrier"},
		{"delivered by SMS, carrier's own err", record(msg.SMSDelivered, sms("DELIVRD 003")), "DELIVRD", 2, "001", "003", "carrier"},
		{"delivered by SMS, after a claim that was never acknowledged", record(msg.SMSDelivered, func(r *spool.Record) {
			sms("DELIVRD")(r)
			r.Device = "phone"
		}), "DELIVRD", 2, "001", "000", "carrier"},
		{"carrier: undeliverable", record(msg.SMSFailed, sms("UNDELIV 034")), "UNDELIV", 5, "000", "034", "carrier"},
		{"carrier: rejected", record(msg.SMSFailed, sms("REJECTD 255")), "REJECTD", 8, "000", "255", "carrier"},
		{"carrier: deleted", record(msg.SMSFailed, sms("DELETED 001")), "DELETED", 4, "000", "001", "carrier"},
		{"carrier: unknown", record(msg.SMSFailed, sms("UNKNOWN 007")), "UNKNOWN", 7, "000", "007", "carrier"},
		{"carrier: err of four digits", record(msg.SMSFailed, sms("UNDELIV 0034")), "UNDELIV", 5, "000", "034", "carrier"},
		{"carrier: err of two digits", record(msg.SMSFailed, sms("UNDELIV 34")), "UNDELIV", 5, "000", "034", "carrier"},
		{"carrier: err of one digit", record(msg.SMSFailed, sms("UNDELIV 4")), "UNDELIV", 5, "000", "004", "carrier"},
		{"carrier: no err", record(msg.SMSFailed, sms("UNDELIV")), "UNDELIV", 5, "000", "000", "carrier"},
		{"carrier: nothing said", record(msg.SMSFailed, sms("")), "UNDELIV", 5, "000", "000", "carrier"},
		{"carrier: a failure is never reported as delivered", record(msg.SMSFailed, sms("DELIVRD 000")), "UNDELIV", 5, "000", "000", "carrier"},
		{"refused by submit_sm_resp", record(msg.SMSFailed, func(r *spool.Record) { r.SMSAttempts, r.SMSErr = 1, "UNDELIV 00B" }), "UNDELIV", 5, "000", "00B", "carrier"},
		{"expired at the carrier", record(msg.Expired, sms("EXPIRED 011")), "EXPIRED", 3, "000", "011", "carrier"},
		{"expired before an SMS", record(msg.Expired, nil), "EXPIRED", 3, "000", "000", ""},
		{"expired while the carrier throttled", record(msg.Expired, func(r *spool.Record) { r.SMSAttempts = 9 }), "EXPIRED", 3, "000", "000", "carrier"},
		{"claimed and never acknowledged", record(msg.Unknown, func(r *spool.Record) { r.Device = "phone" }), "UNKNOWN", 7, "000", "000", "app"},
		{"SMS without a receipt", record(msg.Unknown, sms("")), "UNKNOWN", 7, "000", "000", "carrier"},
		{"SMS of unknown fate after a claim", record(msg.Unknown, func(r *spool.Record) { r.Device, r.SMSAttempts = "phone", 1 }), "UNKNOWN", 7, "000", "000", "carrier"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := fmt.Sprintf("id:%s sub:001 dlvrd:%s submit date:2506020958 done date:2506021001 stat:%s err:%s text:Your parcel comes on", wireID, c.dlvrd, c.stat, c.err)
			tlvs := pdu.AppendTLV(nil, pdu.TagReceiptedMessageID, []byte(wireID+"\x00"))
			tlvs = pdu.AppendTLV(tlvs, pdu.TagMessageState, []byte{byte(c.state)})
			if c.channel != "" {
				tlvs = pdu.AppendTLV(tlvs, 0x1580, []byte(c.channel))
			}
			for version, want := range map[byte][]byte{0x33: {}, 0x34: tlvs} {
				p, err := Build([]byte("before"), c.r, 0, submitSM(original()), version)
				if err != nil || !bytes.HasPrefix(p, []byte("before")) {
					t.Fatalf("Build(version %#02x) = %q, %v", version, p, err)
				}
				var m pdu.SM
				if err := m.Decode(pdu.PDU(p[len("before"):])); err != nil {
					t.Fatalf("version %#02x: %v", version, err)
				}
				if string(m.ShortMessage) != text {
					t.Errorf("version %#02x, text:\n got %s\nwant %s", version, m.ShortMessage, text)
				}
				if !bytes.Equal(m.TLVs, want) {
					t.Errorf("version %#02x, TLVs:\n got %x\nwant %x", version, m.TLVs, want)
				}
				if r, ok := smpp.ParseReceipt(&m); !ok || !smpp.IsReceipt(&m) || r.ID != wireID || r.State != c.state || !r.Done.Equal(done.Truncate(time.Minute)) {
					t.Errorf("version %#02x: read back as %+v, %t", version, r, ok)
				}
			}
		})
	}
}

// TestExcerpt: text: holds only octets that read the same in every default
// alphabet, twenty at most.
func TestExcerpt(t *testing.T) {
	for _, c := range []struct {
		name, text string
		dc         byte
		payload    bool
		want       string
	}{
		{"short", "Hi", 0, false, "Hi"},
		{"cut at twenty", "123456789012345678901234", 0, false, "12345678901234567890"},
		{"cut before an escape", "10 \x1b\x65 only", 0, false, "10 "},
		{"cut before a line end", "one\ntwo", 0, false, "one"},
		{"cut before what is no ASCII", "caf\x05 au lait", 0, false, "caf"},
		{"message_payload", "long long long long long", 0, true, "long long long long "},
		{"ASCII", "Hi", 1, false, "Hi"},
		{"Latin-1", "Hi", 3, false, ""},
		{"UCS2", "\x00H\x00i", 8, false, ""},
		{"class 1", "Hi", 0xF1, false, ""},
	} {
		m := original()
		m.DataCoding, m.ShortMessage = c.dc, []byte(c.text)
		if c.payload {
			m.ShortMessage, m.TLVs = nil, pdu.AppendTLV(nil, pdu.TagMessagePayload, []byte(c.text))
		}
		p, err := Build(nil, record(msg.Delivered, nil), 0, submitSM(m), 0x33)
		var got pdu.SM
		if err != nil || got.Decode(p) != nil {
			t.Fatalf("%s: Build = %v", c.name, err)
		}
		if _, text, _ := strings.Cut(string(got.ShortMessage), " text:"); text != c.want {
			t.Errorf("%s: text:%q, want %q", c.name, text, c.want)
		}
	}
}

func TestShortIDAndMissingTime(t *testing.T) {
	r := record(msg.Delivered, func(r *spool.Record) { r.WireID, r.DoneAt, r.Since = "0000002a", time.Time{}, done })
	p, err := Build(nil, r, 0, submitSM(original()), 0x33)
	if err != nil || !bytes.Contains(p, []byte("id:0000002a sub:001 ")) || !bytes.Contains(p, []byte(" done date:2506021001 ")) {
		t.Errorf("Build() = %q, %v; want the short id, and Since where there is no done date", p, err)
	}
}

func TestBuildOfWhatDoesNotDecode(t *testing.T) {
	p := submitSM(original())
	_, err := Build(nil, record(msg.Delivered, nil), 0, p[:len(p)-10], 0x34)
	var field *pdu.FieldError
	if !errors.As(err, &field) || field.Field != "short_message" {
		t.Errorf("Build() of a cut submit_sm = %v, want a FieldError about short_message", err)
	}
}

// TestStatesAreComplete: every final state of the domain has a row above.
func TestStatesAreComplete(t *testing.T) {
	for _, s := range msg.States() {
		if !s.Final() {
			continue
		}
		state, _ := Outcome(record(s, nil))
		want := map[msg.State]smpp.MessageState{
			msg.Delivered: 2, msg.SMSDelivered: 2, msg.SMSFailed: 5, msg.Expired: 3, msg.Unknown: 7,
			msg.Cancelled: 4,
		}[s]
		if state != want || !state.Final() {
			t.Errorf("Outcome(%s) = %d, want %d", s, state, want)
		}
	}
}
