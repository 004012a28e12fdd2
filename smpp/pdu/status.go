package pdu

import (
	"fmt"

	gosmpp "github.com/fiorix/go-smpp/smpp/pdu"
)

// Status is a command_status (SMPP v3.4 §5.1.3). It is a wire code and
// deliberately not an error: ESME_ROK is one of its values.
type Status uint32

const (
	ROK        Status = 0x00000000
	RINVMSGLEN Status = 0x00000001
	RINVCMDLEN Status = 0x00000002
	RINVCMDID  Status = 0x00000003
	RINVBNDSTS Status = 0x00000004
	RALYBND    Status = 0x00000005
	RSYSERR    Status = 0x00000008
	RINVDSTADR Status = 0x0000000B
	RINVPASWD  Status = 0x0000000E
	RINVSYSID  Status = 0x0000000F
	RBINDFAIL  Status = 0x0000000D
	RMSGQFUL   Status = 0x00000014
	RSUBMITF   Status = 0x00000045
	RTHROTTLED Status = 0x00000058
	RXTAPPN    Status = 0x00000064
)

// names are the specification's names of the codes that Shunt itself sends or
// acts on; the texts of all codes come from go-smpp, whose table is complete.
var names = map[Status]string{
	ROK: "ESME_ROK", RINVMSGLEN: "ESME_RINVMSGLEN", RINVCMDLEN: "ESME_RINVCMDLEN", RINVCMDID: "ESME_RINVCMDID",
	RINVBNDSTS: "ESME_RINVBNDSTS", RALYBND: "ESME_RALYBND", RSYSERR: "ESME_RSYSERR", RINVDSTADR: "ESME_RINVDSTADR",
	RINVPASWD: "ESME_RINVPASWD", RINVSYSID: "ESME_RINVSYSID", RBINDFAIL: "ESME_RBINDFAIL", RMSGQFUL: "ESME_RMSGQFUL",
	RSUBMITF: "ESME_RSUBMITFAIL", RTHROTTLED: "ESME_RTHROTTLED", RXTAPPN: "ESME_RX_T_APPN",
}

// String is the code, its name where Shunt knows one, and its text, such as
// "0x00000058 ESME_RTHROTTLED (throttling error)".
func (s Status) String() string {
	text := "vendor or reserved code"
	if s == ROK || s < 0x400 {
		text = gosmpp.Status(s).Error()
	}
	if n, ok := names[s]; ok {
		return fmt.Sprintf("0x%08X %s (%s)", uint32(s), n, text)
	}
	return fmt.Sprintf("0x%08X (%s)", uint32(s), text)
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

// String is the command's name as go-smpp spells it, such as "SubmitSM".
func (id ID) String() string {
	if n := gosmpp.ID(id).String(); n != "" {
		return n
	}
	return fmt.Sprintf("command 0x%08X", uint32(id))
}
