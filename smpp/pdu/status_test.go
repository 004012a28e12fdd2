package pdu_test

import (
	"fmt"
	"strings"
	"testing"

	gosmpp "github.com/fiorix/go-smpp/smpp/pdu"

	"shunt/smpp/pdu"
)

func TestStatusText(t *testing.T) {
	for s, want := range map[pdu.Status]string{
		pdu.ROK:           "0x00000000 ESME_ROK (OK)",
		pdu.RINVMSGLEN:    "0x00000001 ESME_RINVMSGLEN (invalid message length)",
		pdu.RINVCMDLEN:    "0x00000002 ESME_RINVCMDLEN (invalid command length)",
		pdu.RINVCMDID:     "0x00000003 ESME_RINVCMDID (invalid command id)",
		pdu.RALYBND:       "0x00000005 ESME_RALYBND (already in bound state)",
		pdu.RSYSERR:       "0x00000008 ESME_RSYSERR (system error)",
		pdu.RBINDFAIL:     "0x0000000D ESME_RBINDFAIL (bind failed)",
		pdu.RINVPASWD:     "0x0000000E ESME_RINVPASWD (invalid password)",
		pdu.RMSGQFUL:      "0x00000014 ESME_RMSGQFUL (message queue full)",
		pdu.RTHROTTLED:    "0x00000058 ESME_RTHROTTLED (throttling error)",
		pdu.RINVTLVSTREAM: "0x000000C0 ESME_RINVOPTPARSTREAM (error in the optional part of the pdu body)",
		pdu.RINVBCASTREP:  "0x00000110 ESME_RINVBCAST_REP (invalid number of repeated broadcasts)",
		0x09:              "0x00000009 (vendor or reserved code)",
		0x400:             "0x00000400 (vendor or reserved code)",
		0xFFFFFFFF:        "0xFFFFFFFF (vendor or reserved code)",
	} {
		if got := s.String(); got != want {
			t.Errorf("Status(%#x).String() = %q, want %q", uint32(s), got, want)
		}
	}
}

// specified are the codes and names of SMPP v3.4 §5.1.3, Table 5-2, and, from
// 0x100 on, of v5.0 §4.7.6.
const specified = `
00 ESME_ROK         01 ESME_RINVMSGLEN    02 ESME_RINVCMDLEN   03 ESME_RINVCMDID
04 ESME_RINVBNDSTS  05 ESME_RALYBND       06 ESME_RINVPRTFLG   07 ESME_RINVREGDLVFLG
08 ESME_RSYSERR     0A ESME_RINVSRCADR    0B ESME_RINVDSTADR   0C ESME_RINVMSGID
0D ESME_RBINDFAIL   0E ESME_RINVPASWD     0F ESME_RINVSYSID    11 ESME_RCANCELFAIL
13 ESME_RREPLACEFAIL  14 ESME_RMSGQFUL    15 ESME_RINVSERTYP   33 ESME_RINVNUMDESTS
34 ESME_RINVDLNAME  40 ESME_RINVDESTFLAG  42 ESME_RINVSUBREP   43 ESME_RINVESMCLASS
44 ESME_RCNTSUBDL   45 ESME_RSUBMITFAIL   48 ESME_RINVSRCTON   49 ESME_RINVSRCNPI
50 ESME_RINVDSTTON  51 ESME_RINVDSTNPI    53 ESME_RINVSYSTYP   54 ESME_RINVREPFLAG
55 ESME_RINVNUMMSGS 58 ESME_RTHROTTLED    61 ESME_RINVSCHED    62 ESME_RINVEXPIRY
63 ESME_RINVDFTMSGID  64 ESME_RX_T_APPN   65 ESME_RX_P_APPN    66 ESME_RX_R_APPN
67 ESME_RQUERYFAIL  C0 ESME_RINVOPTPARSTREAM  C1 ESME_ROPTPARNOTALLWD  C2 ESME_RINVPARLEN
C3 ESME_RMISSINGOPTPARAM  C4 ESME_RINVOPTPARAMVAL  FE ESME_RDELIVERYFAILURE  FF ESME_RUNKNOWNERR

100 ESME_RSERTYPUNAUTH       101 ESME_RPROHIBITED          102 ESME_RSERTYPUNAVAIL
103 ESME_RSERTYPDENIED       104 ESME_RINVDCS              105 ESME_RINVSRCADDRSUBUNIT
106 ESME_RINVDSTADDRSUBUNIT  107 ESME_RINVBCASTFREQINT     108 ESME_RINVBCASTALIAS_NAME
109 ESME_RINVBCASTAREAFMT    10A ESME_RINVNUMBCAST_AREAS   10B ESME_RINVBCASTCNTTYPE
10C ESME_RINVBCASTMSGCLASS   10D ESME_RBCASTFAIL           10E ESME_RBCASTQUERYFAIL
10F ESME_RBCASTCANCELFAIL    110 ESME_RINVBCAST_REP        111 ESME_RINVBCASTSRVGRP
112 ESME_RINVBCASTCHANIND`

// TestStatusComplete: every code that is specified has its name and a text, no
// other has one, and of each that go-smpp knows the text is go-smpp's.
func TestStatusComplete(t *testing.T) {
	want := map[pdu.Status]string{}
	words := strings.Fields(specified)
	for i := 0; i < len(words); i += 2 {
		var code uint32
		if _, err := fmt.Sscanf(words[i], "%X", &code); err != nil {
			t.Fatal(err)
		}
		want[pdu.Status(code)] = words[i+1]
	}
	if len(want) != 48+19 {
		t.Errorf("%d codes are specified, want 48 and 19", len(want))
	}
	for s := range pdu.Status(0x500) {
		got, name := s.String(), want[s]
		text := gosmpp.Status(s).Error()
		known := !strings.HasPrefix(text, "unknown status")
		switch {
		case name == "" && known:
			t.Errorf("go-smpp knows Status(%#x) as %q, the specification does not", uint32(s), text)
		case name == "":
			if want := fmt.Sprintf("0x%08X (vendor or reserved code)", uint32(s)); got != want {
				t.Errorf("Status(%#x).String() = %q, want %q", uint32(s), got, want)
			}
		case known:
			if want := fmt.Sprintf("0x%08X %s (%s)", uint32(s), name, text); got != want {
				t.Errorf("Status(%#x).String() = %q, want %q", uint32(s), got, want)
			}
		default:
			if !strings.HasPrefix(got, fmt.Sprintf("0x%08X %s (", uint32(s), name)) || strings.HasSuffix(got, "()") || strings.Contains(got, "unknown") {
				t.Errorf("Status(%#x).String() = %q, want %s and a text", uint32(s), got, name)
			}
		}
	}
	if pdu.RINVTLVSTREAM != 0xC0 || pdu.RTLVNOTALLWD != 0xC1 || pdu.RINVTLVLEN != 0xC2 || pdu.RMISSINGTLV != 0xC3 || pdu.RINVTLVVAL != 0xC4 {
		t.Error("a name of v5.0 stands for another code")
	}
}
