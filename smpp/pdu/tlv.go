package pdu

import (
	"encoding/binary"
	"iter"
)

// Tag names an optional parameter (SMPP v3.4 §5.3.2).
type Tag uint16

const (
	TagDestAddrSubunit      Tag = 0x0005
	TagSourcePort           Tag = 0x020A
	TagDestinationPort      Tag = 0x020B
	TagSARMsgRefNum         Tag = 0x020C
	TagSARTotalSegments     Tag = 0x020E
	TagSARSegmentSeqnum     Tag = 0x020F
	TagSCInterfaceVersion   Tag = 0x0210
	TagDisplayTime          Tag = 0x1201
	TagMSValidity           Tag = 0x1204
	TagCallbackNum          Tag = 0x0381
	TagNetworkErrorCode     Tag = 0x0423
	TagMessagePayload       Tag = 0x0424
	TagMoreMessagesToSend   Tag = 0x0426
	TagMessageState         Tag = 0x0427
	TagUSSDServiceOp        Tag = 0x0501
	TagITSReplyType         Tag = 0x1380
	TagITSSessionInfo       Tag = 0x1383
	TagUserMessageReference Tag = 0x0204
	TagReceiptedMessageID   Tag = 0x001E

	// TagShuntChannel is Shunt's own, from the vendor range: the channel that
	// delivered a message, "app" or "carrier" in ASCII, in its receipt.
	TagShuntChannel Tag = 0x1580
)

// TLVs are the optional parameters of a PDU as they came, in their order,
// duplicates and vendor tags included. A TLVs that a decoder returned is whole.
type TLVs []byte

// All walks the parameters in wire order.
func (t TLVs) All() iter.Seq2[Tag, []byte] {
	return func(yield func(Tag, []byte) bool) {
		for b := []byte(t); len(b) >= 4; {
			n := int(binary.BigEndian.Uint16(b[2:]))
			if len(b) < 4+n {
				return
			}
			if !yield(Tag(binary.BigEndian.Uint16(b)), b[4:4+n:4+n]) {
				return
			}
			b = b[4+n:]
		}
	}
}

// Find returns the first parameter of that tag.
func (t TLVs) Find(tag Tag) ([]byte, bool) {
	for g, v := range t.All() {
		if g == tag {
			return v, true
		}
	}
	return nil, false
}

// AppendTLV appends one parameter; a value is at most 65,535 octets.
func AppendTLV(dst []byte, tag Tag, value []byte) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(tag))
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(value)))
	return append(dst, value...)
}
