package esme

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"time"

	"shunt/smpp/coding"
	"shunt/smpp/pdu"
)

// submit is one submit_sm that is to be sent.
type submit struct {
	seq   int
	kind  string
	text  string // in UTF-8; of a part of a long message the part
	whole string // of such a part, the whole text
	sm    pdu.SM
	asked bool

	onFailure bool // asks for a receipt in case of failure only
	validity  int  // seconds; 0: none
}

// share is one kind of text and its weight in the mix.
type share struct {
	kind   string
	weight float64
}

// ParseMix reads "gsm=45,ucs2=20".
func ParseMix(s string) ([]share, error) {
	var mix []share
	for _, f := range strings.Split(s, ",") {
		kind, weight, _ := strings.Cut(f, "=")
		w, err := strconv.ParseFloat(weight, 64)
		if _, known := corpora[kind]; !known || err != nil || w < 0 {
			return nil, fmt.Errorf("mix: %q: want kind=weight, kind one of %s", f, strings.Join(kinds, ", "))
		}
		mix = append(mix, share{kind, w})
	}
	return mix, nil
}

// Numbers reads one number a line, or the range "447700900000-447700900999".
func Numbers(file, span string) ([]string, error) {
	if file == "" {
		from, to, _ := strings.Cut(span, "-")
		a, err1 := strconv.ParseUint(from, 10, 64)
		b, err2 := strconv.ParseUint(to, 10, 64)
		if err1 != nil || err2 != nil || b < a || b-a >= 10_000_000 || len(from) > 15 || len(to) > 15 {
			return nil, fmt.Errorf("number-range %q: want FROM-TO, at most ten million numbers", span)
		}
		all := make([]string, 0, b-a+1)
		for n := a; n <= b; n++ {
			all = append(all, strconv.FormatUint(n, 10))
		}
		return all, nil
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("numbers: %w", err)
	}
	defer func() { _ = f.Close() }()
	var all []string
	for sc := bufio.NewScanner(f); ; {
		if !sc.Scan() {
			if err := sc.Err(); err != nil {
				return nil, fmt.Errorf("numbers %s: %w", file, err)
			}
			break
		}
		n := strings.TrimPrefix(strings.TrimSpace(sc.Text()), "+")
		if n == "" {
			continue
		}
		if _, err := strconv.ParseUint(n, 10, 64); err != nil || len(n) > 15 {
			return nil, fmt.Errorf("numbers %s: line %d is no number of at most 15 digits", file, len(all)+1)
		}
		all = append(all, n)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("numbers %s: no number in it", file)
	}
	return all, nil
}

// generator makes messages one after the other; it belongs to one goroutine.
type generator struct {
	rng      *rand.Rand
	tag      string // tells the texts of several ESMEs apart
	numbers  []string
	from     []string
	mix      []share
	total    float64
	receipts float64
	failures float64 // share that asks for a receipt in case of failure only
	validity int     // seconds; 0: none
	short    float64 // share that has the validity
	burst    int     // most messages in sequence between the same two
	left     int     // of them
	to, by   string  // those two
	onlyTLV  bool    // no second TLV: the client does not keep their order
	seq      int
	count    int // messages in all, 0: no end
	long     uint16
	pending  []submit // further parts of a long message
}

func newGenerator(o *Options, numbers []string) (*generator, error) {
	mix, err := ParseMix(o.Mix)
	if err != nil {
		return nil, err
	}
	g := &generator{
		rng: rand.New(rand.NewPCG(o.Seed, 0x45534d45)), tag: fmt.Sprintf("%s%X", strings.ToUpper(o.SystemID), o.Seed&0xFFF),
		numbers: numbers, from: o.From, mix: mix, count: o.Count, receipts: o.Receipts, onlyTLV: o.Client == ClientGoSMPP,
		failures: o.OnFailure, validity: int(o.Validity / time.Second), short: o.ValidityShare, burst: o.Burst,
	}
	for _, b := range []byte(g.tag) { // references of several ESMEs to the same number differ
		g.long = g.long*31 + uint16(b)
	}
	for _, m := range mix {
		g.total += m.weight
	}
	if g.total <= 0 {
		return nil, fmt.Errorf("mix: no weight above 0")
	}
	return g, nil
}

func pick[T any](g *generator, list []T) T { return list[g.rng.IntN(len(list))] }

// fill makes a text of its template; the reference is unique.
func (g *generator) fill(template, ref string) string {
	return strings.NewReplacer(
		"{ref}", ref, "{name}", pick(g, names), "{day}", pick(g, days), "{time}", pick(g, times),
		"{amount}", pick(g, amounts), "{n}", strconv.Itoa(2+g.rng.IntN(7)),
	).Replace(template)
}

func (g *generator) kind() string {
	draw := g.rng.Float64() * g.total
	for _, m := range g.mix {
		if draw < m.weight {
			return m.kind
		}
		draw -= m.weight
	}
	return g.mix[0].kind
}

// next is the next submit_sm. Every one is unique by destination and text.
func (g *generator) next() (submit, error) {
	if len(g.pending) > 0 {
		s := g.pending[0]
		g.pending = g.pending[1:]
		return s, nil
	}
	kind := g.kind()
	g.seq++
	ref := g.tag + "-" + strings.ToUpper(strconv.FormatInt(int64(g.seq)+46656, 36))
	if g.left--; g.left <= 0 {
		g.to, g.by, g.left = pick(g, g.numbers), pick(g, g.from), 1
		if g.burst > 1 {
			g.left += g.rng.IntN(g.burst)
		}
	}
	draw := g.rng.Float64()
	asked, onFailure := draw < g.receipts, draw >= g.receipts && draw < g.receipts+g.failures
	validity := g.validity
	if validity > 0 && g.short < 1 && g.rng.Float64() >= g.short {
		validity = 0
	}
	texts, whole := []string{g.fill(pick(g, corpora[kind]), ref)}, ""
	switch kind {
	case "payload":
		for len(texts[0]) < 300 {
			texts[0] += g.fill(pick(g, longTexts), ref)
		}
	case "long":
		for i := range 1 + g.rng.IntN(2) {
			texts[0] += g.fill(pick(g, longTexts), ref+strconv.Itoa(i))
		}
		whole = texts[0]
		texts = split(whole)
		if g.count > 0 && g.seq+len(texts)-1 > g.count { // no long message ends in the middle
			kind, texts = "gsm", []string{g.fill(pick(g, gsmTexts), ref)}
		}
		if len(texts) == 1 {
			whole = ""
		}
		g.long++
	}
	for i, text := range texts {
		sm := pdu.SM{Source: address(g.by), Dest: address(g.to)}
		if validity > 0 {
			sm.Validity = []byte(pdu.RelativeTime(time.Duration(validity) * time.Second))
		}
		switch {
		case asked:
			sm.RegisteredDelivery = 1
		case onFailure:
			sm.RegisteredDelivery = 2
		}
		if err := g.body(&sm, kind, text, i, len(texts)); err != nil {
			return submit{}, fmt.Errorf("message %d (%s): %w", g.seq, kind, err)
		}
		g.pending = append(g.pending, submit{seq: g.seq, kind: kind, text: text, whole: whole, sm: sm, asked: asked, onFailure: onFailure, validity: validity})
		if i < len(texts)-1 {
			g.seq++
		}
	}
	return g.next()
}

// body encodes text into sm in the manner of its kind.
func (g *generator) body(sm *pdu.SM, kind, text string, part, parts int) error {
	alphabet := coding.Best(text)
	if kind == "latin1" {
		alphabet = coding.Latin1
	}
	switch alphabet {
	case coding.Latin1:
		sm.DataCoding = 3
	case coding.UCS2:
		sm.DataCoding = 8
	}
	b, err := coding.Encode(alphabet, text)
	if err != nil {
		return err
	}
	switch kind {
	case "payload":
		sm.TLVs = pdu.AppendTLV(nil, pdu.TagMessagePayload, b)
		if !g.onlyTLV {
			sm.TLVs = pdu.AppendTLV(sm.TLVs, 0x1401, []byte(g.tag))
		}
		return nil
	case "long":
		if parts > 1 {
			sm.ESMClass = 0x40
			b = append([]byte{6, 8, 4, byte(g.long >> 8), byte(g.long), byte(parts), byte(part + 1)}, b...)
		}
	}
	if len(b) > 254 {
		return fmt.Errorf("%d octets in %s: at most 254 fit", len(b), alphabet)
	}
	sm.ShortMessage = b
	return nil
}

// split cuts a long text into parts of at most 60 characters, or 130 where all
// are of the GSM alphabet, which fit behind a user data header. It cuts between
// characters; all parts are of one alphabet or each of its own, as ESMEs do.
func split(text string) []string {
	limit := 130
	if coding.Best(text) == coding.UCS2 {
		limit = 60
	}
	var parts []string
	for r := []rune(text); len(r) > 0; {
		n := min(limit, len(r))
		parts = append(parts, string(r[:n]))
		r = r[n:]
	}
	return parts
}

// address gives a sender its type: alphanumeric, international or short code.
func address(s string) pdu.Address {
	a := pdu.Address{Addr: []byte(s)}
	switch _, err := strconv.ParseUint(s, 10, 64); {
	case err != nil:
		a.TON = pdu.TONAlphanumeric
	case len(s) >= 7:
		a.TON, a.NPI = pdu.TONInternational, pdu.NPIISDN
	}
	return a
}
