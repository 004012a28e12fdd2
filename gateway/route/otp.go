package route

import (
	"bytes"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// OneTimeCode tells whether text looks like a message with a one-time code: a
// group of 4 to 8 digits, perhaps split "123 456" or marked "G-123456", near a
// word for code, password, PIN or verification in one of some twenty
// languages, or one of the machine-readable forms "@example.com #123456" and
// "<#>". Amounts, dates, phone, account and order numbers, postal and promotion
// codes are none.
//
// It works by rules alone and in doubt says yes where the words do, since a
// code that stays with the carrier is delivered as ever. It takes time linear
// in the length of text, and does not allocate for texts below a kilobyte.
func OneTimeCode(text string) bool {
	var buf [1024]byte
	s := otpScan{b: fold(buf[:0], text)}
	return s.run()
}

// Distances between a word and a number, in characters.
const (
	strongReach = 60 // from a strong word on to a number
	weakReach   = 30 // from a weak word on to a number in the same sentence
	yearReach   = 12 // from any word on to what may be a year
	backReach   = 40 // from a number on to a word in the same sentence
)

// otpScan walks once over the folded text. Positions are offsets in b, -1 for
// what was not seen yet.
type otpScan struct {
	b        []byte
	i        int
	strong   int // end of the last strong word
	weak     int // end of the last weak word
	label    int // end of the last label
	number   int // end of the last number that may be a code
	sentence int // end of the last sentence
	weakHit  bool
	offer    bool
	letters  bool
	numbers  int
}

func (s *otpScan) run() bool {
	s.strong, s.weak, s.label, s.number, s.sentence = -1, -1, -1, -1, -1
	marked := bytes.HasPrefix(s.b, []byte("<#>")) // SMS Retriever API
	for s.i < len(s.b) {
		c := s.b[s.i]
		switch {
		case isDigit(c):
			if s.digits() {
				return true
			}
			if marked && s.number >= 0 {
				return true
			}
		case isLetter(c) || c == '%':
			s.letters = true
			if s.word() {
				return true
			}
		case c == '@':
			if boundCode(s.b[s.i:]) {
				return true
			}
			s.i++
		default:
			if sentenceEnd(s.b, s.i) {
				s.sentence = s.i
			}
			s.i++
		}
	}
	return s.weakHit && !s.offer || !s.letters && s.numbers == 1 && s.number >= 0
}

// word looks for a stem at s.i and moves on; true is certainty.
func (s *otpScan) word() bool {
	st := stemAt(s.b, s.i)
	if st == nil {
		_, n := utf8.DecodeRune(s.b[s.i:])
		s.i += n
		return false
	}
	start := s.i
	s.i += len(st.text)
	switch st.kind {
	case strongWord:
		s.strong = s.i
		return s.follows(start)
	case weakWord:
		s.weak = s.i
		s.weakHit = s.weakHit || s.follows(start)
	case useWord:
		s.weakHit = s.weakHit || s.follows(start)
	case labelWord:
		s.label = s.i
	case offerWord:
		s.offer = true
	}
	return false
}

// follows tells whether the word at start refers back to a number.
func (s *otpScan) follows(start int) bool {
	return s.number >= 0 && s.sentence < s.number && s.within(s.number, start, backReach)
}

// within tells whether from from to to there are at most most characters.
func (s *otpScan) within(from, to, most int) bool {
	if from < 0 || to-from > most*utf8.UTFMax {
		return false
	}
	n := 0
	for _, c := range s.b[from:to] {
		if utf8.RuneStart(c) {
			n++
		}
	}
	return n <= most
}

// digits judges the groups of digits at s.i and moves past them.
func (s *otpScan) digits() bool {
	start := s.i
	code, end := codeAt(s.b, start)
	s.i = end
	s.numbers++
	spoiled := code == 0 || s.spoiled(start, start+code)
	s.label = -1 // a label names one number
	if spoiled {
		return false
	}
	strong, weak := strongReach, weakReach
	if mayBeYear(s.b[start : start+code]) {
		strong, weak = yearReach, yearReach
	}
	if s.within(s.strong, start, strong) {
		return true
	}
	if s.weak > s.sentence && s.within(s.weak, start, weak) {
		s.weakHit = true
	}
	s.number = start + code
	return false
}

// codeAt reads the groups of digits that begin at i and belong together.
// code is the length of what may be a code at their beginning, 0 for none;
// end is where they end.
func codeAt(b []byte, i int) (code, end int) {
	var groups [3]int // lengths of the first ones
	n, spaces := 0, true
	end = i
	for {
		g := end
		for end < len(b) && isDigit(b[end]) {
			end++
		}
		if n < len(groups) {
			groups[n] = end - g
		}
		n++
		if end+1 >= len(b) || !isDigit(b[end+1]) || strings.IndexByte(" -./:,", b[end]) < 0 {
			break
		}
		spaces = spaces && (b[end] == ' ' || b[end] == '-' && n == 1)
		end++
	}
	first := groups[0]
	switch {
	case n == 1 && first >= 4 && first <= 8:
		return first, end
	case n == 2 && spaces && first == 3 && groups[1] == 3:
		return 7, end
	case n == 2 && spaces && first >= 5 && first <= 8 && groups[1] <= 2 && b[i+first] == ' ': // "482913 10 min"
		return first, i + first
	}
	return 0, end
}

func mayBeYear(d []byte) bool {
	return len(d) == 4 && (d[0] == '1' && d[1] == '9' || d[0] == '2' && d[1] == '0')
}

// spoiled tells whether the number in b[start:end] is an amount, a part of a
// word, a phone number or a link, or carries a label such as "order".
func (s *otpScan) spoiled(start, end int) bool {
	if start > 0 {
		switch p := s.b[start-1]; {
		case strings.IndexByte("+*/_&?.,$", p) >= 0 && (p != '.' && p != ',' || start > 1 && isDigit(s.b[start-2])):
			return true
		case p >= 'a' && p <= 'z':
			return true
		case p == '-' && !marker(s.b[:start-1]) && s.strong != start-1 && s.weak != start-1:
			return true
		}
	}
	if end < len(s.b) && (s.b[end] >= 'a' && s.b[end] <= 'z' || s.b[end] == '%') {
		return true
	}
	token := bytes.LastIndexAny(s.b[max(0, start-200):start], " \n")
	if link := s.b[max(0, start-200)+token+1 : start]; bytes.Contains(link, []byte("://")) || bytes.Contains(link, []byte("www.")) {
		return true
	}
	return amount(s.b, start, end) || s.labelled(start)
}

// marker tells whether b ends in what may stand before the dash of "G-123456":
// at most three letters, or nothing, for a dash in running text.
func marker(b []byte) bool {
	n := 0
	for n < len(b) && b[len(b)-1-n] >= 'a' && b[len(b)-1-n] <= 'z' {
		n++
	}
	return n <= 3 && (n == len(b) || !isDigit(b[len(b)-1-n]))
}

// amount looks for a currency or unit on either side.
func amount(b []byte, start, end int) bool {
	before := bytes.TrimRight(b[max(0, start-12):start], " .")
	for _, u := range currencies {
		if tail, ok := bytes.CutSuffix(before, []byte(u)); ok && (!isLetter(u[0]) || u[0] >= 0x80 || len(tail) == 0 || !isLetter(tail[len(tail)-1])) {
			return true
		}
	}
	after := bytes.TrimLeft(b[end:min(len(b), end+24)], " ")
	for _, list := range [...][]string{currencies, units} {
		for _, u := range list {
			if rest, ok := bytes.CutPrefix(after, []byte(u)); ok && (u[0] >= 0xE2 || len(rest) == 0 || !isLetter(rest[0])) {
				return true
			}
		}
	}
	return false
}

// labelled tells whether a label such as "order" names the number at start:
// it is nearer than any other word, with nothing but link words between, or it
// asks to send something "to" the number.
func (s *otpScan) labelled(start int) bool {
	if s.label < 0 || s.label < s.strong || s.label < s.weak || s.label < s.number || s.sentence > s.label+1 || !s.within(s.label, start, weakReach) {
		return false
	}
	gap := s.b[s.label:start]
	if bytes.IndexByte(gap, ',') >= 0 {
		return false
	}
	for n := 1; ; n++ {
		var w []byte
		w, gap = nextWord(gap)
		switch {
		case len(w) == 0:
			return true
		case slices.Contains(toWords, string(w)):
			return true
		case n > 3 || !slices.Contains(linkWords, string(w)):
			return false
		}
	}
}

// nextWord cuts the first run of letters off b.
func nextWord(b []byte) (word, rest []byte) {
	i := bytes.IndexFunc(b, unicode.IsLetter)
	if i < 0 {
		return nil, nil
	}
	b = b[i:]
	n := bytes.IndexFunc(b, func(r rune) bool { return !unicode.IsLetter(r) })
	if n < 0 {
		n = len(b)
	}
	return b[:n], b[n:]
}

// sentenceEnd tells whether a sentence ends at i. A line break does not end
// one: codes often have a line of their own.
func sentenceEnd(b []byte, i int) bool {
	return strings.IndexByte(".!?", b[i]) >= 0 && (i+1 == len(b) || b[i+1] == ' ' || b[i+1] == '\n')
}

// boundCode reads "@example.com #123456", the origin-bound one-time code that
// Apple and the WICG describe.
func boundCode(b []byte) bool {
	host := 1
	for host < len(b) && (isLetter(b[host]) || isDigit(b[host]) || b[host] == '.' || b[host] == '-') {
		host++
	}
	code, ok := bytes.CutPrefix(b[host:], []byte(" #"))
	if !ok || host == 1 || !bytes.ContainsRune(b[1:host], '.') {
		return false
	}
	n, digits := 0, 0
	for n < len(code) && (isLetter(code[n]) || isDigit(code[n])) {
		if isDigit(code[n]) {
			digits++
		}
		n++
	}
	return n >= 4 && n <= 12 && digits > 0
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// isLetter takes every octet beyond ASCII for one of a letter; fold has made
// punctuation ASCII.
func isLetter(c byte) bool { return c >= 'a' && c <= 'z' || c >= 0x80 }

// fold appends s in lower case, without accents and format characters, with
// every decimal digit, blank and common punctuation mark as its ASCII kin.
func fold(dst []byte, s string) []byte {
	for _, r := range s {
		switch {
		case r < 0x80:
		case r >= 0x400 && r < 0x530: // Cyrillic
			r = unicode.ToLower(r)
		case r >= 0x3041 && r <= 0xD7A3 && r != 0x30FB: // Kana, Han, Hangul: no case, no digits
		case r >= 0xC0 && r < 0x180:
			if c := latin[r-0xC0]; c != ' ' {
				r = rune(c)
			}
		case r >= 0xFF01 && r <= 0xFF5E: // full width
			r -= 0xFEE0
		case r == '。': // ideographic full stop
			dst = append(dst, '.')
			r = ' '
		case unicode.Is(unicode.Cf, r), unicode.Is(unicode.Mn, r) && r < 0x700:
			continue
		case unicode.Is(unicode.Nd, r):
			r = digitOf(r)
		case unicode.Is(unicode.Pd, r):
			r = '-'
		case r == '•': // bullet, as in masked numbers
			r = '*'
		case unicode.Is(unicode.Zs, r), unicode.IsPunct(r):
			r = ' '
		default:
			r = unicode.ToLower(r)
		}
		switch {
		case r >= 'A' && r <= 'Z':
			r += 'a' - 'A'
		case r == '\t' || r == '\r':
			r = ' '
		}
		dst = utf8.AppendRune(dst, r)
	}
	return dst
}

// digitOf is the ASCII digit of a decimal digit: those of a script are ten in
// a row, in order, and the row of a script does not touch another one below
// the mathematical digits, which nobody sends codes in.
func digitOf(r rune) rune {
	zero := r
	for r-zero < 9 && unicode.Is(unicode.Nd, zero-1) {
		zero--
	}
	return '0' + r - zero
}

// latin is U+00C0 to U+017F without accents; a space keeps the character.
const latin = "aaaaaaaceeeeiiiidnooooo ouuuuy saaaaaaaceeeeiiii" +
	"dnooooo ouuuuy yaaaaaaccccccccddddeeeeeeeeeegggg" +
	"gggghhhhiiiiiiiiii  jjkk llllllllllnnnnnn   oooo" +
	"oooorrrrrrssssssssttttttuuuuuuuuuuuuwwyyyzzzzzzs"
