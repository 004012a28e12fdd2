// Package coding reads the text of short messages: what data_coding means,
// the alphabets behind it, and the user data header that may precede it.
//
// It is functions from octets to values and back: no clock, socket or file,
// and no state, so that everything here may be called concurrently. What came
// is never changed; slices in results point into it. Reading is strict: what
// has no certain meaning is an error, so that the caller can leave it to the
// carrier, and never a replacement character.
//
// # Text
//
// An [Alphabet] comes from data_coding and from what the peer means by 0
// ([OfDataCoding]). [Decode] reads a text without a user data header;
// [Segment.Text] reads a short message with or without one, honouring the
// national language shifts in it (3GPP TS 23.038 §6.2.1.2 and annex A) and
// the fill bits that precede packed septets.
//
// # Long messages
//
// A long text is sent in one of three forms: parts that a user data header
// numbers ([UDH8], [UDH16]), parts that the sar_* parameters number ([SAR]),
// or one PDU with message_payload ([Whole]). A [Segment] is one short message
// and what part of a long one it is:
//
//	ReadSegment     PDU fields → Segment
//	Segment.Append  Segment → short_message; AppendSAR writes the sar_*
//	Segment.To      one part from a header to sar_* and back, same octets of text
//	Merge           parts → message_payload
//	Cut.Octets      message_payload → parts
//	Cut.Text        text → parts
//	Join            parts → text
//
// Conversions move octets and never re-encode them: there and back is the
// identity, but for what a PDU does not carry (the width of a reference in
// sar_*, the place of the concatenation element among others) and for the
// boundaries of parts that Cut would have laid elsewhere. A cut never falls
// between an escape and its code, nor within a character of UCS2; parts of
// peers who cut there are joined before they are read.
package coding
