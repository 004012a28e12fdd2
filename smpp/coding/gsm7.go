package coding

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

const (
	escape = 0x1B // the next septet is of the single shift table
	none   = 0xFFFF
)

// gsm7Basic is the GSM 7-bit default alphabet (3GPP TS 23.038 §6.2.1). The
// place of the escape holds the space that a receiver shows for it.
var gsm7Basic = [128]rune([]rune("@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞ ÆæßÉ" +
	" !\"#¤%&'()*+,-./0123456789:;<=>?" +
	"¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§" +
	"¿abcdefghijklmnopqrstuvwxyzäöñüà"))

// gsm7Extension is the extension table (§6.2.1.1). Its gaps are zero, and a
// second escape, reserved for another table, is a space.
var gsm7Extension = func() (t [128]rune) {
	t[escape] = ' '
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

// appendCode appends the octet or the two of a code, unless it is none.
func appendCode(b []byte, code uint16) ([]byte, bool) {
	switch {
	case code == none:
		return b, false
	case code > 0xFF:
		return append(b, escape, byte(code)), true
	}
	return append(b, byte(code)), true
}

// septets reads a run of septets; an escape at the end of one run takes its
// code from the next.
type septets struct {
	locking, single *[128]rune
	shift           Shift // of these tables, for errors
	at              int   // septets read in earlier runs
	escaped         bool  // the last septet was an escape
}

// add appends the characters of b, one septet an octet. On an error the
// caller drops what add returns.
func (s *septets) add(dst, b []byte) ([]byte, error) {
	locking, escaped := s.locking, s.escaped
	for i, c := range b {
		if c > 0x7F {
			return dst, fmt.Errorf("gsm7: octet %#02x at offset %d is above 0x7f", c, s.at+i)
		}
		if c == escape && !escaped {
			escaped = true
			continue
		}
		r := locking[c]
		if escaped {
			// A code without a symbol is shown as the character of the main
			// table (§6.2.1.1, and annex A.2 of each language).
			if x := s.single[c]; x != 0 {
				r = x
			}
			escaped = false
		}
		if r == 0 {
			return dst, fmt.Errorf("gsm7: code %#02x at offset %d has no character with %s", c, s.at+i, s.shift)
		}
		dst = utf8.AppendRune(dst, r)
	}
	s.escaped, s.at = escaped, s.at+len(b)
	return dst, nil
}

// end says whether the text may end here.
func (s *septets) end() error {
	switch {
	case s.escaped && s.at == 0:
		return errors.New("gsm7: the escape before has nothing to escape")
	case s.escaped:
		return fmt.Errorf("gsm7: escape at offset %d has nothing to escape", s.at-1)
	}
	return nil
}

// appendGSM7 reads b, one septet an octet.
func appendGSM7(dst, b []byte, h Shift) ([]byte, error) {
	n := len(dst)
	s, err := h.septets()
	if err != nil {
		return dst, err
	}
	if dst, err = s.add(dst, b); err == nil {
		err = s.end()
	}
	if err != nil {
		return dst[:n], err
	}
	return dst, nil
}
