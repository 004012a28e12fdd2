package coding

import "fmt"

// Information element identifiers of the national language shifts (3GPP TS
// 23.040 §9.2.3.24.15 and §9.2.3.24.16).
const (
	IESingleShift  byte = 0x24
	IELockingShift byte = 0x25
)

// Language is a national language identifier (3GPP TS 23.038 §6.2.1.2.4).
type Language uint8

const (
	Default Language = iota // the tables of §6.2.1 and §6.2.1.1; never sent
	Turkish
	Spanish
	Portuguese
	Bengali
	Gujarati
	Hindi
	Kannada
	Malayalam
	Oriya
	Punjabi
	Tamil
	Telugu
	Urdu
	numLanguages
)

var languageNames = [numLanguages]string{
	"default", "turkish", "spanish", "portuguese", "bengali", "gujarati", "hindi",
	"kannada", "malayalam", "oriya", "punjabi", "tamil", "telugu", "urdu",
}

func (l Language) String() string {
	if l < numLanguages {
		return languageNames[l]
	}
	return fmt.Sprintf("language(%d)", uint8(l))
}

// Shift names the tables that a text in GSM 7-bit uses: Locking in place of
// the default alphabet, Single in place of its extension. The zero Shift is
// the default alphabet. Other alphabets know no shifts.
type Shift struct {
	Locking Language
	Single  Language
}

func (h Shift) String() string {
	return "locking shift " + h.Locking.String() + " and single shift " + h.Single.String()
}

// Elements are the information elements that announce h to a handset, for
// Cut.Elements; none for the zero Shift.
func (h Shift) Elements() []byte {
	var b []byte
	if h.Single != Default {
		b = append(b, IESingleShift, 1, byte(h.Single))
	}
	if h.Locking != Default {
		b = append(b, IELockingShift, 1, byte(h.Locking))
	}
	return b
}

// ShiftOf reads the shifts from the user data header at the start of b. Of
// several elements of a kind the last one counts (3GPP TS 23.040 §9.2.3.24).
// A language without a table, which a handset would ignore with a text that
// nobody can read, is an error.
func ShiftOf(b []byte) (Shift, error) {
	sound, err := udh(b)
	if err != nil {
		return Shift{}, err
	}
	var h Shift
	for i := 1; i < len(sound); {
		var id byte
		var d []byte
		id, d, i = elementAt(sound, i)
		if id != IESingleShift && id != IELockingShift {
			continue
		}
		if len(d) != 1 {
			return Shift{}, fmt.Errorf("user data header: national language element %#02x has length %d, want 1", id, len(d))
		}
		if id == IESingleShift {
			h.Single = Language(d[0])
		} else {
			h.Locking = Language(d[0])
		}
	}
	return h, h.check()
}

func (h Shift) check() error {
	if h.Single >= numLanguages {
		return fmt.Errorf("national language single shift %#02x has no table", uint8(h.Single))
	}
	if h.Locking >= numLanguages || lockingTables[h.Locking] == nil {
		return fmt.Errorf("national language locking shift %#02x has no table", uint8(h.Locking))
	}
	return nil
}

// septets starts to read a text in h.
func (h Shift) septets() (septets, error) {
	if h == (Shift{}) {
		return septets{locking: &gsm7Basic, single: &gsm7Extension}, nil
	}
	if err := h.check(); err != nil {
		return septets{}, err
	}
	return septets{locking: lockingTables[h.Locking], single: singleTables[h.Single], shift: h}, nil
}

// code finds r in the tables of h, with the escape in the high octet where r
// needs one, or none. Where a table has a character twice, its lower code is
// taken.
func (h Shift) code(r rune) uint16 {
	if h == (Shift{}) {
		return gsm7Code(r)
	}
	if c := find(lockingTables[h.Locking], r); c != none {
		return c
	}
	if c := find(singleTables[h.Single], r); c != none {
		return escape<<8 | c
	}
	return none
}

func find(t *[128]rune, r rune) uint16 {
	for c, x := range t {
		if x == r && c != escape && r != 0 {
			return uint16(c)
		}
	}
	return none
}

var lockingTables, singleTables = func() (locking, single [numLanguages]*[128]rune) {
	locking[Default], single[Default] = &gsm7Basic, &gsm7Extension
	for l := Turkish; l < numLanguages; l++ {
		if lockingRows[l] != "" {
			locking[l] = tableOf(lockingRows[l])
			locking[l][' '] = ' '
		}
		single[l] = tableOf(singleRows[l])
	}
	return locking, single
}()

// tableOf reads 128 characters; a space is a gap, which stays zero, and the
// place of the escape is a space.
func tableOf(rows string) *[128]rune {
	t := [128]rune([]rune(rows))
	for c, r := range t {
		if r == ' ' {
			t[c] = 0
		}
	}
	t[escape] = ' '
	return &t
}
