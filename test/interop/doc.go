// Package interop holds the main job against peers that nobody here wrote: npm's
// smpp and Kannel as ESMEs, npm's smpp as the SMSC; tshark judges the wire.
package interop
