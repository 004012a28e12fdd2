package coding

import (
	"fmt"
	"unicode/utf8"
)

// cp1252 is Windows-1252 from 0x80 to 0x9F; elsewhere it is ISO 8859-1. Five
// octets are not defined and are zero here.
var cp1252 = [32]rune{
	'€', 0, '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', 0, 'Ž', 0,
	0, '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', 0, 'ž', 'Ÿ',
}

func appendCP1252(dst, b []byte) ([]byte, error) {
	n := len(dst)
	for i, c := range b {
		switch {
		case c < 0x80:
			dst = append(dst, c)
		case c < 0xA0:
			r := cp1252[c-0x80]
			if r == 0 {
				return dst[:n], fmt.Errorf("cp1252: octet %#02x at offset %d is no character", c, i)
			}
			dst = utf8.AppendRune(dst, r)
		default:
			dst = append(dst, 0xC0|c>>6, 0x80|c&0x3F)
		}
	}
	return dst, nil
}

func appendRuneCP1252(b []byte, r rune) ([]byte, bool) {
	if r < 0x80 || r >= 0xA0 && r <= 0xFF {
		return append(b, byte(r)), true
	}
	for i, x := range cp1252 {
		if x == r && r != 0 {
			return append(b, byte(0x80+i)), true
		}
	}
	return b, false
}
