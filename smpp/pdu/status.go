package pdu

import (
	"fmt"

	gosmpp "github.com/fiorix/go-smpp/smpp/pdu"
)

// Status is a command_status (SMPP v3.4 §5.1.3; v5.0 §4.7.6). It is a wire code
// and deliberately not an error: ESME_ROK is one of its values.
type Status uint32

const (
	ROK              Status = 0x00000000
	RINVMSGLEN       Status = 0x00000001
	RINVCMDLEN       Status = 0x00000002
	RINVCMDID        Status = 0x00000003
	RINVBNDSTS       Status = 0x00000004
	RALYBND          Status = 0x00000005
	RINVPRTFLG       Status = 0x00000006
	RINVREGDLVFLG    Status = 0x00000007
	RSYSERR          Status = 0x00000008
	RINVSRCADR       Status = 0x0000000A
	RINVDSTADR       Status = 0x0000000B
	RINVMSGID        Status = 0x0000000C
	RBINDFAIL        Status = 0x0000000D
	RINVPASWD        Status = 0x0000000E
	RINVSYSID        Status = 0x0000000F
	RCANCELFAIL      Status = 0x00000011
	RREPLACEFAIL     Status = 0x00000013
	RMSGQFUL         Status = 0x00000014
	RINVSERTYP       Status = 0x00000015
	RINVNUMDESTS     Status = 0x00000033
	RINVDLNAME       Status = 0x00000034
	RINVDESTFLAG     Status = 0x00000040
	RINVSUBREP       Status = 0x00000042
	RINVESMCLASS     Status = 0x00000043
	RCNTSUBDL        Status = 0x00000044
	RSUBMITF         Status = 0x00000045
	RINVSRCTON       Status = 0x00000048
	RINVSRCNPI       Status = 0x00000049
	RINVDSTTON       Status = 0x00000050
	RINVDSTNPI       Status = 0x00000051
	RINVSYSTYP       Status = 0x00000053
	RINVREPFLAG      Status = 0x00000054
	RINVNUMMSGS      Status = 0x00000055
	RTHROTTLED       Status = 0x00000058
	RINVSCHED        Status = 0x00000061
	RINVEXPIRY       Status = 0x00000062
	RINVDFTMSGID     Status = 0x00000063
	RXTAPPN          Status = 0x00000064
	RXPAPPN          Status = 0x00000065
	RXRAPPN          Status = 0x00000066
	RQUERYFAIL       Status = 0x00000067
	RINVOPTPARSTREAM Status = 0x000000C0
	ROPTPARNOTALLWD  Status = 0x000000C1
	RINVPARLEN       Status = 0x000000C2
	RMISSINGOPTPARAM Status = 0x000000C3
	RINVOPTPARAMVAL  Status = 0x000000C4
	RDELIVERYFAILURE Status = 0x000000FE
	RUNKNOWNERR      Status = 0x000000FF

	// Since v5.0.
	RSERTYPUNAUTH      Status = 0x00000100
	RPROHIBITED        Status = 0x00000101
	RSERTYPUNAVAIL     Status = 0x00000102
	RSERTYPDENIED      Status = 0x00000103
	RINVDCS            Status = 0x00000104
	RINVSRCADDRSUBUNIT Status = 0x00000105
	RINVDSTADDRSUBUNIT Status = 0x00000106
	RINVBCASTFREQINT   Status = 0x00000107
	RINVBCASTALIASNAME Status = 0x00000108
	RINVBCASTAREAFMT   Status = 0x00000109
	RINVNUMBCASTAREAS  Status = 0x0000010A
	RINVBCASTCNTTYPE   Status = 0x0000010B
	RINVBCASTMSGCLASS  Status = 0x0000010C
	RBCASTFAIL         Status = 0x0000010D
	RBCASTQUERYFAIL    Status = 0x0000010E
	RBCASTCANCELFAIL   Status = 0x0000010F
	RINVBCASTREP       Status = 0x00000110
	RINVBCASTSRVGRP    Status = 0x00000111
	RINVBCASTCHANIND   Status = 0x00000112
)

// What v5.0 calls five codes of v3.4, its optional parameters being TLVs.
const (
	RINVTLVSTREAM = RINVOPTPARSTREAM
	RTLVNOTALLWD  = ROPTPARNOTALLWD
	RINVTLVLEN    = RINVPARLEN
	RMISSINGTLV   = RMISSINGOPTPARAM
	RINVTLVVAL    = RINVOPTPARAMVAL
)

// statuses are the specification's name of every code, and the text where
// go-smpp, which knows v3.4, has none.
var statuses = map[Status]struct{ name, text string }{
	ROK:                {"ESME_ROK", ""},
	RINVMSGLEN:         {"ESME_RINVMSGLEN", ""},
	RINVCMDLEN:         {"ESME_RINVCMDLEN", ""},
	RINVCMDID:          {"ESME_RINVCMDID", ""},
	RINVBNDSTS:         {"ESME_RINVBNDSTS", ""},
	RALYBND:            {"ESME_RALYBND", ""},
	RINVPRTFLG:         {"ESME_RINVPRTFLG", ""},
	RINVREGDLVFLG:      {"ESME_RINVREGDLVFLG", ""},
	RSYSERR:            {"ESME_RSYSERR", ""},
	RINVSRCADR:         {"ESME_RINVSRCADR", ""},
	RINVDSTADR:         {"ESME_RINVDSTADR", ""},
	RINVMSGID:          {"ESME_RINVMSGID", ""},
	RBINDFAIL:          {"ESME_RBINDFAIL", ""},
	RINVPASWD:          {"ESME_RINVPASWD", ""},
	RINVSYSID:          {"ESME_RINVSYSID", ""},
	RCANCELFAIL:        {"ESME_RCANCELFAIL", ""},
	RREPLACEFAIL:       {"ESME_RREPLACEFAIL", ""},
	RMSGQFUL:           {"ESME_RMSGQFUL", ""},
	RINVSERTYP:         {"ESME_RINVSERTYP", ""},
	RINVNUMDESTS:       {"ESME_RINVNUMDESTS", ""},
	RINVDLNAME:         {"ESME_RINVDLNAME", ""},
	RINVDESTFLAG:       {"ESME_RINVDESTFLAG", ""},
	RINVSUBREP:         {"ESME_RINVSUBREP", ""},
	RINVESMCLASS:       {"ESME_RINVESMCLASS", ""},
	RCNTSUBDL:          {"ESME_RCNTSUBDL", ""},
	RSUBMITF:           {"ESME_RSUBMITFAIL", ""},
	RINVSRCTON:         {"ESME_RINVSRCTON", ""},
	RINVSRCNPI:         {"ESME_RINVSRCNPI", ""},
	RINVDSTTON:         {"ESME_RINVDSTTON", ""},
	RINVDSTNPI:         {"ESME_RINVDSTNPI", ""},
	RINVSYSTYP:         {"ESME_RINVSYSTYP", ""},
	RINVREPFLAG:        {"ESME_RINVREPFLAG", ""},
	RINVNUMMSGS:        {"ESME_RINVNUMMSGS", ""},
	RTHROTTLED:         {"ESME_RTHROTTLED", ""},
	RINVSCHED:          {"ESME_RINVSCHED", ""},
	RINVEXPIRY:         {"ESME_RINVEXPIRY", ""},
	RINVDFTMSGID:       {"ESME_RINVDFTMSGID", ""},
	RXTAPPN:            {"ESME_RX_T_APPN", ""},
	RXPAPPN:            {"ESME_RX_P_APPN", ""},
	RXRAPPN:            {"ESME_RX_R_APPN", ""},
	RQUERYFAIL:         {"ESME_RQUERYFAIL", ""},
	RINVOPTPARSTREAM:   {"ESME_RINVOPTPARSTREAM", ""},
	ROPTPARNOTALLWD:    {"ESME_ROPTPARNOTALLWD", ""},
	RINVPARLEN:         {"ESME_RINVPARLEN", ""},
	RMISSINGOPTPARAM:   {"ESME_RMISSINGOPTPARAM", ""},
	RINVOPTPARAMVAL:    {"ESME_RINVOPTPARAMVAL", ""},
	RDELIVERYFAILURE:   {"ESME_RDELIVERYFAILURE", ""},
	RUNKNOWNERR:        {"ESME_RUNKNOWNERR", ""},
	RSERTYPUNAUTH:      {"ESME_RSERTYPUNAUTH", "not authorised for this service_type"},
	RPROHIBITED:        {"ESME_RPROHIBITED", "not allowed this operation"},
	RSERTYPUNAVAIL:     {"ESME_RSERTYPUNAVAIL", "service_type is unavailable"},
	RSERTYPDENIED:      {"ESME_RSERTYPDENIED", "service_type is denied"},
	RINVDCS:            {"ESME_RINVDCS", "invalid data coding scheme"},
	RINVSRCADDRSUBUNIT: {"ESME_RINVSRCADDRSUBUNIT", "invalid source address subunit"},
	RINVDSTADDRSUBUNIT: {"ESME_RINVDSTADDRSUBUNIT", "invalid destination address subunit"},
	RINVBCASTFREQINT:   {"ESME_RINVBCASTFREQINT", "invalid broadcast frequency interval"},
	RINVBCASTALIASNAME: {"ESME_RINVBCASTALIAS_NAME", "invalid broadcast alias name"},
	RINVBCASTAREAFMT:   {"ESME_RINVBCASTAREAFMT", "invalid broadcast area format"},
	RINVNUMBCASTAREAS:  {"ESME_RINVNUMBCAST_AREAS", "invalid number of broadcast areas"},
	RINVBCASTCNTTYPE:   {"ESME_RINVBCASTCNTTYPE", "invalid broadcast content type"},
	RINVBCASTMSGCLASS:  {"ESME_RINVBCASTMSGCLASS", "invalid broadcast message class"},
	RBCASTFAIL:         {"ESME_RBCASTFAIL", "broadcast_sm failed"},
	RBCASTQUERYFAIL:    {"ESME_RBCASTQUERYFAIL", "query_broadcast_sm failed"},
	RBCASTCANCELFAIL:   {"ESME_RBCASTCANCELFAIL", "cancel_broadcast_sm failed"},
	RINVBCASTREP:       {"ESME_RINVBCAST_REP", "invalid number of repeated broadcasts"},
	RINVBCASTSRVGRP:    {"ESME_RINVBCASTSRVGRP", "invalid broadcast service group"},
	RINVBCASTCHANIND:   {"ESME_RINVBCASTCHANIND", "invalid broadcast channel indicator"},
}

// String is the code, its name where the specification has one, and its text,
// such as "0x00000058 ESME_RTHROTTLED (throttling error)".
func (s Status) String() string {
	known, ok := statuses[s]
	if !ok {
		return fmt.Sprintf("0x%08X (vendor or reserved code)", uint32(s))
	}
	if known.text == "" {
		known.text = gosmpp.Status(s).Error()
	}
	return fmt.Sprintf("0x%08X %s (%s)", uint32(s), known.name, known.text)
}

// Name is the specification's name, as ESME_ROK; where there is none, the code
// in hexadecimal digits.
func (s Status) Name() string {
	if known, ok := statuses[s]; ok {
		return known.name
	}
	return fmt.Sprintf("0x%08X", uint32(s))
}

// Temporary tells whether the same message may be accepted later: the SMSC
// throttles, its queue is full, or it has a fault of its own (§5.1.3).
func (s Status) Temporary() bool {
	switch s {
	case RTHROTTLED, RMSGQFUL, RSYSERR, RXTAPPN, RINVBNDSTS:
		return true
	}
	return false
}

// idNames are the commands that go-smpp, which knows v3.4, has no name for.
var idNames = map[ID]string{
	BroadcastSM: "BroadcastSM", BroadcastSMResp: "BroadcastSMResp",
	QueryBroadcastSM: "QueryBroadcastSM", QueryBroadcastSMResp: "QueryBroadcastSMResp",
	CancelBroadcastSM: "CancelBroadcastSM", CancelBroadcastSMResp: "CancelBroadcastSMResp",
}

// String is the command's name as go-smpp spells it, such as "SubmitSM", or
// "command 0x00010200" for one that the specification does not have.
func (id ID) String() string {
	if n := gosmpp.ID(id).String(); n != "" {
		return n
	}
	if n, ok := idNames[id]; ok {
		return n
	}
	return fmt.Sprintf("command 0x%08X", uint32(id))
}
