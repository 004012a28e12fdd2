package coding

import (
	"fmt"
	"unicode/utf8"
)

const (
	escape = 0x1B // the next octet is of the extension table
	none   = 0xFFFF
)

// gsm7Basic is the GSM 7-bit default alphabet (3GPP TS 23.038 §6.2.1). The
// place of the escape holds the space that a receiver shows for it.
var gsm7Basic = [128]rune([]rune("@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ ÆæßÉ" +
	" !\"#¤%&'()*+,-./0123456789:;<=>?" +
	"¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§" +
	"¿abcdefghijklmnopqrstuvwxyzäöñüà"))

// gsm7Extension is the extension table (§6.2.1.1) with its gaps filled as
// that section rules: a code without a symbol is shown as the character of
// the basic table, and a second escape, reserved for another table, as a
// space.
var gsm7Extension = func() [128]rune {
	t := gsm7Basic
	for _, x := range gsm7Extended {
		t[x.code] = x.char
	}
	return t
}()

var gsm7Extended = [...]struct {
	code byte
	char rune
}{
	{0x0A, '\f'},
	{0x14, '^'},
	{0x28, '{'},
	{0x29, '}'},
	{0x2F, '\\'},
	{0x3C, '['},
	{0x3D, '~'},
	{0x3E, ']'},
	{0x40, '|'},
	{0x65, '€'},
}

// gsm7Codes is the inverse: the octet of a rune, with the escape in the high
// octet where it needs one, or none. Ω is the highest rune but for €.
var gsm7Codes = func() (t ['Ω' + 1]uint16) {
	for i := range t {
		t[i] = none
	}
	for c, r := range gsm7Basic {
		if c != escape {
			t[r] = uint16(c)
		}
	}
	for _, x := range gsm7Extended {
		if x.char != '€' {
			t[x.char] = escape<<8 | uint16(x.code)
		}
	}
	return t
}()

func gsm7Code(r rune) uint16 {
	switch {
	case r >= 0 && int(r) < len(gsm7Codes):
		return gsm7Codes[r]
	case r == '€':
		return escape<<8 | 0x65
	}
	return none
}

func appendRuneGSM7(b []byte, r rune) ([]byte, bool) {
	c := gsm7Code(r)
	switch {
	case c == none:
		return b, false
	case c > 0xFF:
		return append(b, escape, byte(c)), true
	}
	return append(b, byte(c)), true
}

func appendGSM7(dst, b []byte) ([]byte, error) {
	n := len(dst)
	table := &gsm7Basic
	for i, c := range b {
		if c > 0x7F {
			return dst[:n], fmt.Errorf("gsm7: octet %#02x at offset %d is above 0x7f", c, i)
		}
		if c == escape && table == &gsm7Basic {
			table = &gsm7Extension
			continue
		}
		dst = utf8.AppendRune(dst, table[c])
		table = &gsm7Basic
	}
	if table != &gsm7Basic {
		return dst[:n], fmt.Errorf("gsm7: escape at offset %d has nothing to escape", len(b)-1)
	}
	return dst, nil
}
