package route

import (
	"testing"

	"shunt/smpp/coding"
)

// TestDataCodingOne: IA5 by the specification, GSM by habit. What can be told
// apart is; what cannot stays with the carrier, unless the account says.
func TestDataCodingOne(t *testing.T) {
	for _, c := range []struct {
		name string
		text string
		ia5  coding.Alphabet
		want coding.Alphabet // Unsupported: carrier
	}{
		{"the same in both", "See you at 19:30, table 4.\r\n", 0, coding.ASCII},
		{"GSM escape", "Pay \x1be5 now", 0, coding.GSM7},
		{"GSM pound sign and umlaut", "M~ller owes \x015", 0, coding.GSM7},
		{"bracket or umlaut", "M~ller", 0, coding.Unsupported},
		{"dollar or currency sign", "Pay $5", 0, coding.Unsupported},
		{"tab or cedilla", "a\tb", 0, coding.Unsupported},
		{"the account means GSM", "M~ller", coding.GSM7, coding.GSM7},
		{"the account means ASCII", "Pay $5", coding.ASCII, coding.ASCII},
	} {
		a, ok := AlphabetOf(1, []byte(c.text), &Account{Alphabet: coding.GSM7, IA5: c.ia5})
		if a != c.want || ok != (c.want != coding.Unsupported) {
			t.Errorf("%s: AlphabetOf(1, %q) = %v, %v, want %v", c.name, c.text, a, ok, c.want)
		}
	}
}
