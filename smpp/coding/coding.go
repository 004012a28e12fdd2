package coding

import (
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// Alphabet is how the octets of a short message stand for characters. Its
// numbers are stored on disk: append only.
type Alphabet uint8

const (
	Unsupported Alphabet = iota // not text, or text that Shunt does not read
	GSM7                        // GSM 7-bit default alphabet and its extension, one septet an octet (3GPP TS 23.038 §6.2.1)
	Latin1                      // ISO 8859-1
	ASCII                       // IA5, CCITT T.50
	UCS2                        // UTF-16, big endian, surrogate pairs included (ISO/IEC 10646)
	CP1252                      // Windows-1252, which many peers send as Latin-1
	GSM7Packed                  // as GSM7, with eight septets in seven octets (3GPP TS 23.038 §6.1.2.1)
	numAlphabets
)

var alphabetNames = [numAlphabets]string{"unsupported", "gsm7", "latin1", "ascii", "ucs2", "cp1252", "gsm7-packed"}

func (a Alphabet) String() string {
	if a < numAlphabets {
		return alphabetNames[a]
	}
	return fmt.Sprintf("alphabet(%d)", uint8(a))
}

// OfDataCoding tells which alphabet data_coding announces (SMPP v3.4
// §5.2.19); dflt is what the peer means by 0, its SMSC's default alphabet. ok
// is false for all that a handset would not simply show as a message, and for
// alphabets that Shunt does not read; such a message must stay with the
// carrier. A peer whose default is CP1252 means it by Latin-1 too.
//
// The values 0xF0 to 0xFF carry a GSM message class (3GPP TS 23.038 §4):
//
//   - class 0 (0xF0) is flash: shown at once and not kept, which no app does;
//   - class 1 (0xF1) asks the handset to keep the message in its own memory,
//     as it keeps any message, so it is ordinary text. It names the GSM
//     alphabet; a peer whose default alphabet is another one is known to mean
//     that one here too, so 0xF1 is taken only from a peer whose default is
//     GSM7;
//   - class 2 (0xF2) is for the (U)SIM, and class 3 (0xF3) for equipment
//     attached to the handset: an app is neither;
//   - 0xF4 to 0xF7 are 8-bit data, 0xF8 to 0xFF set a reserved bit.
func OfDataCoding(dc byte, dflt Alphabet) (Alphabet, bool) {
	a := Unsupported
	switch dc {
	case 0x00:
		a = dflt
	case 0x01:
		a = ASCII
	case 0x03:
		a = Latin1
		if dflt == CP1252 {
			a = CP1252
		}
	case 0x08:
		a = UCS2
	case 0xF1:
		if dflt == GSM7 {
			a = GSM7
		}
	}
	return a, a != Unsupported && a < numAlphabets
}

// Decode reads b, a text without a user data header, in the alphabet a. It is strict: what has no certain meaning
// is an error that names the offset, and never a replacement character.
func Decode(a Alphabet, b []byte) (string, error) {
	d, err := AppendDecode(nil, a, b)
	if err != nil {
		return "", err
	}
	return string(d), nil
}

// AppendDecode is Decode into UTF-8 at the end of dst. It allocates only to
// grow dst, and to report an error; on an error it returns dst as it was.
func AppendDecode(dst []byte, a Alphabet, b []byte) ([]byte, error) {
	switch a {
	case GSM7:
		return appendGSM7(dst, b, Shift{})
	case Latin1:
		return appendLatin1(dst, b)
	case ASCII:
		return appendASCII(dst, b)
	case UCS2:
		return appendUCS2(dst, b)
	case CP1252:
		return appendCP1252(dst, b)
	case GSM7Packed:
		return appendPackedText(dst, b, 0, Shift{})
	}
	return dst, fmt.Errorf("alphabet %s cannot be decoded", a)
}

// appendLatin1 refuses 0x80 to 0x9F: ISO 8859-1 has rarely used controls
// there, and senders who use them mean Windows-1252. Neither is certain; CP1252
// is for peers of whom it is known.
func appendLatin1(dst, b []byte) ([]byte, error) {
	n := len(dst)
	for i, c := range b {
		switch {
		case c < 0x80:
			dst = append(dst, c)
		case c < 0xA0:
			return dst[:n], fmt.Errorf("latin1: octet %#02x at offset %d is no printable character", c, i)
		default:
			dst = append(dst, 0xC0|c>>6, 0x80|c&0x3F)
		}
	}
	return dst, nil
}

func appendASCII(dst, b []byte) ([]byte, error) {
	for i, c := range b {
		if c > 0x7F {
			return dst, fmt.Errorf("ascii: octet %#02x at offset %d is above 0x7f", c, i)
		}
	}
	return append(dst, b...), nil
}

func appendUCS2(dst, b []byte) ([]byte, error) {
	n := len(dst)
	if len(b)%2 != 0 {
		return dst, fmt.Errorf("ucs2: odd length of %d octets, half a character at offset %d", len(b), len(b)-1)
	}
	for i := 0; i < len(b); i += 2 {
		r := rune(b[i])<<8 | rune(b[i+1])
		if utf16.IsSurrogate(r) {
			if i+4 > len(b) {
				return dst[:n], fmt.Errorf("ucs2: unpaired surrogate %#04x at offset %d", r, i)
			}
			pair := utf16.DecodeRune(r, rune(b[i+2])<<8|rune(b[i+3]))
			if pair == utf8.RuneError {
				return dst[:n], fmt.Errorf("ucs2: unpaired surrogate %#04x at offset %d", r, i)
			}
			r = pair
			i += 2
		}
		dst = utf8.AppendRune(dst, r)
	}
	return dst, nil
}

// Encode writes s in the alphabet a. The error names the first rune that the
// alphabet lacks, and its offset in s; s itself is not in it. GSM7Packed may
// also fail with ErrPadding.
func Encode(a Alphabet, s string) ([]byte, error) { return encode(a, s, Shift{}) }

func encode(a Alphabet, s string, h Shift) ([]byte, error) {
	b, err := units(a, s, h)
	if err != nil || a != GSM7Packed {
		return b, err
	}
	packed, err := AppendPacked(nil, b, 0)
	if err != nil {
		return nil, err
	}
	return packed, nil
}

// units is encode but for the packing: GSM7Packed gives one septet an octet.
func units(a Alphabet, s string, h Shift) ([]byte, error) {
	if a == Unsupported || a >= numAlphabets {
		return nil, fmt.Errorf("alphabet %s cannot be encoded", a)
	}
	b := make([]byte, 0, len(s))
	for i, r := range s {
		if r == utf8.RuneError && invalidAt(s, i) {
			return nil, fmt.Errorf("%s: no UTF-8 at offset %d", a, i)
		}
		var ok bool
		if a == GSM7 || a == GSM7Packed {
			b, ok = appendCode(b, h.code(r))
		} else {
			b, ok = appendRune(b, a, r)
		}
		if !ok {
			return nil, fmt.Errorf("%s: no character %U at offset %d", a, r, i)
		}
	}
	return b, nil
}

// invalidAt tells broken UTF-8 at offset i of s from a written U+FFFD.
func invalidAt(s string, i int) bool {
	_, size := utf8.DecodeRuneInString(s[i:])
	return size == 1
}

func appendRune(b []byte, a Alphabet, r rune) ([]byte, bool) {
	switch a {
	case Latin1:
		if r > 0xFF || r >= 0x80 && r < 0xA0 {
			return b, false
		}
		return append(b, byte(r)), true
	case ASCII:
		if r > 0x7F {
			return b, false
		}
		return append(b, byte(r)), true
	case CP1252:
		return appendRuneCP1252(b, r)
	default:
		if r > 0xFFFF {
			hi, lo := utf16.EncodeRune(r)
			b = append(b, byte(hi>>8), byte(hi))
			r = lo
		}
		return append(b, byte(r>>8), byte(r)), true
	}
}

// Best is the smallest alphabet that every SMSC understands and that holds
// s: GSM7, else UCS2. Only for s that is no UTF-8 it is Unsupported.
func Best(s string) Alphabet {
	if !utf8.ValidString(s) {
		return Unsupported
	}
	for _, r := range s {
		if gsm7Code(r) == none {
			return UCS2
		}
	}
	return GSM7
}
