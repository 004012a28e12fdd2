package pdu_test

import (
	"strings"
	"testing"

	"shunt/smpp/pdu"
)

func TestStatusText(t *testing.T) {
	for s, want := range map[pdu.Status]string{
		pdu.ROK:        "0x00000000 ESME_ROK (OK)",
		pdu.RINVMSGLEN: "0x00000001 ESME_RINVMSGLEN (invalid message length)",
		pdu.RINVCMDLEN: "0x00000002 ESME_RINVCMDLEN (invalid command length)",
		pdu.RINVCMDID:  "0x00000003 ESME_RINVCMDID (invalid command id)",
		pdu.RALYBND:    "0x00000005 ESME_RALYBND (already in bound state)",
		pdu.RSYSERR:    "0x00000008 ESME_RSYSERR (system error)",
		pdu.RBINDFAIL:  "0x0000000D ESME_RBINDFAIL (bind failed)",
		pdu.RINVPASWD:  "0x0000000E ESME_RINVPASWD (invalid password)",
		pdu.RMSGQFUL:   "0x00000014 ESME_RMSGQFUL (message queue full)",
		pdu.RTHROTTLED: "0x00000058 ESME_RTHROTTLED (throttling error)",
		0x400:          "0x00000400 (vendor or reserved code)",
		0xFFFFFFFF:     "0xFFFFFFFF (vendor or reserved code)",
	} {
		if got := s.String(); got != want {
			t.Errorf("Status(%#x).String() = %q, want %q", uint32(s), got, want)
		}
	}
	// Every code, known or not, has a text that begins with it.
	for s := range pdu.Status(0x500) {
		if got := s.String(); !strings.HasPrefix(got, "0x0000") || !strings.HasSuffix(got, ")") || strings.Contains(got, "()") {
			t.Errorf("Status(%#x).String() = %q", uint32(s), got)
		}
	}
}
