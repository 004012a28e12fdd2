// Package interop holds the main job against peers that nobody here wrote: the
// ESME and the SMSC are npm's smpp, and tshark judges every PDU on the wire.
package interop
