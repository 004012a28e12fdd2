package route

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"shunt/gateway/msg"
	"shunt/smpp/coding"
	"shunt/smpp/pdu"
)

const subscriber msg.Number = 447700900042

var (
	noon     = time.Date(2025, 6, 2, 12, 0, 0, 0, time.UTC)
	active   = msg.MakeEntry(true, 1, 7)
	inactive = msg.MakeEntry(false, 1, 7)
)

// ordinary is a submit_sm that everything lets go to the app.
func ordinary() pdu.SM {
	return pdu.SM{
		Source:       pdu.Address{TON: pdu.TONAlphanumeric, Addr: []byte("Parcel24")},
		Dest:         pdu.Address{TON: pdu.TONInternational, NPI: pdu.NPIISDN, Addr: []byte("447700900042")},
		ShortMessage: []byte("Your parcel comes on Monday."),
	}
}

// lenient lets everything go to the app, one-time codes too.
func lenient() Policy {
	return Policy{
		DivertFrom: []string{"*"}, AllowOTP: true, Share: 100, DefaultValidity: 24 * time.Hour,
		Plans: []Plan{{Name: "all", AppFirst: true, ClaimWithin: 30 * time.Second, Lease: 10 * time.Second}},
	}
}

func optedIn() Account { return Account{SystemID: "bank", OptedIn: true, Alphabet: coding.GSM7} }

// wire builds the submit_sm and reads it back, as it comes from an ESME.
func wire(t testing.TB, m pdu.SM) *pdu.SM {
	t.Helper()
	var got pdu.SM
	if err := got.Decode(pdu.AppendSM(nil, pdu.SubmitSM, 1, &m)); err != nil {
		t.Fatalf("SM.Decode() = %v", err)
	}
	return &got
}

func tlv(tag pdu.Tag, value ...byte) pdu.TLVs { return pdu.AppendTLV(nil, tag, value) }

func TestDecide(t *testing.T) {
	for _, rows := range [][]judgement{neverDiverted, byPolicy} {
		for _, j := range rows {
			t.Run(j.name, func(t *testing.T) {
				m, p, a, e := ordinary(), lenient(), optedIn(), j.e
				if j.m != nil {
					j.m(&m)
				}
				if j.p != nil {
					j.p(&p)
				}
				if j.a != nil {
					j.a(&a)
				}
				if e == 0 {
					e = active
				}
				sm := wire(t, m)
				v := p.Decide(On, &a, sm, subscriber, e, noon)
				if v.Reason != j.want || v.Divert != (j.want == msg.ReasonDivert) {
					t.Fatalf("Decide(on) = divert %t, %s; want divert %t, %s", v.Divert, v.Reason, j.want == msg.ReasonDivert, j.want)
				}
				// Shadow mode says what it would do and does nothing.
				want := j.want
				if want == msg.ReasonDivert {
					want = msg.ReasonShadow
				}
				if v := p.Decide(Shadow, &a, sm, subscriber, e, noon); v.Divert || v.Reason != want {
					t.Errorf("Decide(shadow) = divert %t, %s; want divert false, %s", v.Divert, v.Reason, want)
				}
				want = msg.ReasonSwitchedOff
				if j.want == msg.ReasonUnregistered { // whatever the switch says
					want = j.want
				}
				if v := p.Decide(Off, &a, sm, subscriber, e, noon); v.Divert || v.Reason != want {
					t.Errorf("Decide(off) = divert %t, %s; want divert false, %s", v.Divert, v.Reason, want)
				}
			})
		}
	}
}

// TestEveryDataCoding: only what a handset simply shows may go to the app.
func TestEveryDataCoding(t *testing.T) {
	p, a := lenient(), optedIn()
	text := map[byte]coding.Alphabet{0x00: coding.GSM7, 0x01: coding.ASCII, 0x03: coding.Latin1, 0x08: coding.UCS2, 0xF1: coding.GSM7}
	for dc := range 256 {
		m := ordinary()
		m.DataCoding, m.ShortMessage = byte(dc), []byte("text")
		v := p.Decide(On, &a, wire(t, m), subscriber, active, noon)
		alphabet, want := text[byte(dc)]
		if v.Divert != want || v.Alphabet != alphabet {
			t.Errorf("data_coding %#02x: divert %t in %s, want %t in %s", dc, v.Divert, v.Alphabet, want, alphabet)
		}
	}
}

// TestEveryProtocolID and esm_class: only the plain ones.
func TestEveryClassAndProtocol(t *testing.T) {
	p, a := lenient(), optedIn()
	for i := range 256 {
		m := ordinary()
		m.ProtocolID = byte(i)
		if v := p.Decide(On, &a, wire(t, m), subscriber, active, noon); v.Divert != (i == 0) {
			t.Errorf("protocol_id %#02x: divert %t, %s", i, v.Divert, v.Reason)
		}
		m = ordinary()
		m.ESMClass = byte(i)
		if v := p.Decide(On, &a, wire(t, m), subscriber, active, noon); v.Divert != (i == 0x00 || i == 0x03) {
			t.Errorf("esm_class %#02x: divert %t, %s", i, v.Divert, v.Reason)
		}
	}
}

func TestNumber(t *testing.T) {
	for _, c := range []struct {
		ton, npi byte
		addr     string
		want     msg.Number // 0: none
	}{
		{1, 1, "447700900042", subscriber},
		{1, 1, "+447700900042", subscriber},
		{1, 1, "00447700900042", subscriber},
		{0, 1, "447700900042", subscriber},
		{0, 0, "+447700900042", subscriber},
		{0, 0, "00447700900042", subscriber},
		{1, 0, "447700900042", subscriber},
		{0, 1, "07700900042", 0},                       // national
		{2, 1, "7700900042", 0},                        // national
		{3, 1, "88222", 0},                             // network specific
		{4, 1, "447700900042", 0},                      // subscriber number
		{5, 0, "Parcel24", 0},                          // alphanumeric
		{5, 0, "447700900042", 0},                      // alphanumeric digits
		{6, 1, "447700900042", 0},                      // abbreviated
		{1, 3, "447700900042", 0},                      // X.121
		{1, 8, "447700900042", 0},                      // national numbering plan
		{1, 14, "447700900042", 0},                     // internet
		{1, 1, "88222", 0},                             // short code
		{1, 1, "112", 0},                               //
		{1, 1, "999999", 0},                            // one digit short of the shortest
		{1, 1, "1000000", 1_000_000},                   // the shortest
		{1, 1, "999999999999999", 999_999_999_999_999}, // the longest
		{1, 1, "1000000000000000", 0},                  // one digit too long
		{1, 1, "", 0},
		{1, 1, "+", 0},
		{1, 1, "00", 0},
		{1, 1, "++447700900042", 0},
		{1, 1, "000447700900042", 0},
		{1, 1, "4477009000x2", 0},
		{1, 1, "44 7700900042", 0},
		{1, 1, "44７700900", 0},
		{0xFF, 1, "447700900042", 0},
		{1, 0xFF, "447700900042", 0},
	} {
		got, ok := Number(pdu.Address{TON: c.ton, NPI: c.npi, Addr: []byte(c.addr)}, &msg.Country{})
		if ok != (c.want != 0) || ok && got != c.want {
			t.Errorf("Number(%d, %d, %q) = %d, %t; want %d, %t", c.ton, c.npi, c.addr, got, ok, c.want, c.want != 0)
		}
	}
}

// TestNumberOfACountry: of an account whose country is known, national numbers
// are one record with the international forms.
func TestNumberOfACountry(t *testing.T) {
	gb, _ := msg.CountryOf("GB")
	us, _ := msg.CountryOf("US")
	for _, c := range []struct {
		country  msg.Country
		ton, npi byte
		addr     string
		want     msg.Number
	}{
		{gb, 1, 1, "447700900042", subscriber},
		{gb, 0, 1, "+447700900042", subscriber},
		{gb, 0, 1, "00447700900042", subscriber},
		{gb, 2, 1, "07700900042", subscriber},
		{gb, 2, 0, "7700900042", subscriber},
		{gb, 0, 1, "07700900042", subscriber},
		{gb, 2, 1, "+447700900042", subscriber},
		{gb, 0, 1, "7700900042", 7700900042},   // international, of another country
		{gb, 1, 1, "07700900042", 0},           // says international, and is not
		{gb, 2, 1, "447700900042", 0},          // says national, and is not
		{gb, 2, 1, "077009000421", 0},          // too long
		{gb, 3, 1, "07700900042", 0},           // network specific
		{us, 2, 1, "12015550123", 12015550123}, // with the prefix 1
		{us, 2, 1, "2015550123", 12015550123},
		{us, 0, 1, "12015550123", 12015550123}, // the same either way
		{us, 0, 1, "2015550123", 2015550123},   // international: 1 is no national prefix here, but a country code
	} {
		got, ok := Number(pdu.Address{TON: c.ton, NPI: c.npi, Addr: []byte(c.addr)}, &c.country)
		if ok != (c.want != 0) || ok && got != c.want {
			t.Errorf("Number(%d, %d, %q) in %d = %d, %t; want %d", c.ton, c.npi, c.addr, c.country.Code, got, ok, c.want)
		}
	}
}

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		pattern, addr string
		want          bool
	}{
		{"*", "", true},
		{"*", "anything", true},
		{"**", "", true},
		{"", "", true},
		{"", "a", false},
		{"BANK*", "BANK", true},
		{"BANK*", "BANKING", true},
		{"BANK*", "bank", false},
		{"BANK*", "MYBANK", false},
		{"*BANK", "MYBANK", true},
		{"*BANK", "BANKS", false},
		{"B*K", "BK", true},
		{"B*K", "BANKK", true},
		{"B*K", "BANKS", false},
		{"*a*b*", "xxaxxbxx", true},
		{"*a*b*", "xxbxxaxx", false},
		{"a*ab", "aaab", true},
		{"a*ab", "ab", false},
		{"112", "112", true},
		{"112", "1123", false},
		{"112", "011", false},
		{"+44*", "447700900001", true},
		{"44*", "+447700900001", true},
		{"+44*", "+447700900001", true},
		{"+44*", "337700900001", false},
		{"*", "*", true},
		{"a*", "*", false},
		{"?", "x", false},
		{"[a-z]", "b", false},
		{strings.Repeat("*a", 20) + "b", strings.Repeat("a", 21), false},
	} {
		if got := matches([]string{"no-match-here", c.pattern}, []byte(c.addr)); got != c.want {
			t.Errorf("matches(%q, %q) = %t, want %t", c.pattern, c.addr, got, c.want)
		}
	}
	if matches(nil, []byte("x")) {
		t.Error("no pattern matched an address")
	}
}

func TestPlans(t *testing.T) {
	p := lenient()
	p.Plans = []Plan{
		{Name: "otp account", Account: []string{"otp"}, AppFirst: true, ClaimWithin: 7 * time.Second},
		{Name: "uk news", To: []string{"+44"}, From: []string{"News*"}, AppFirst: true, ClaimWithin: 120 * time.Second, Prefer: msg.PossibleDuplicate},
		{Name: "wap", ServiceType: []string{"WAP", "CMT"}, AppFirst: true, ClaimWithin: 20 * time.Second},
		{Name: "default service", ServiceType: []string{""}, To: []string{"+353", "+1"}, AppFirst: true, ClaimWithin: 25 * time.Second},
		{Name: "ireland by SMS", To: []string{"+353"}},
		{Name: "rest", AppFirst: true, ClaimWithin: 30 * time.Second},
	}
	for _, c := range []struct {
		account, from, service string
		to                     msg.Number
		want                   string
	}{
		{"otp", "News1", "WAP", subscriber, "otp account"},
		{"bank", "News1", "", subscriber, "uk news"},
		{"bank", "News1", "WAP", 353870000001, "wap"},
		{"bank", "Rail", "CMT", subscriber, "wap"},
		{"bank", "News1", "", 353870000001, "default service"},
		{"bank", "News1", "X", 353870000001, "ireland by SMS"},
		{"bank", "Rail", "", subscriber, "rest"},
		{"bank", "Rail", "", 35387000000, "default service"},
		{"bank", "Rail", "", 4477009, "rest"},
	} {
		m, a := ordinary(), optedIn()
		a.SystemID, m.Source.Addr, m.ServiceType = c.account, []byte(c.from), []byte(c.service)
		v := p.Decide(On, &a, wire(t, m), c.to, active, noon)
		if v.Plan == nil || v.Plan.Name != c.want || v.Divert != v.Plan.AppFirst {
			t.Errorf("%s from %s, service_type %q, to %s: plan %+v, divert %t; want %q", c.account, c.from, c.service, c.to, v.Plan, v.Divert, c.want)
		}
		if v.Divert && v.ClaimBy.Sub(noon) != v.Plan.ClaimWithin {
			t.Errorf("plan %q: claim within %s, want %s", c.want, v.ClaimBy.Sub(noon), v.Plan.ClaimWithin)
		}
	}
}

// TestDeadlines: the claim ends a reserve before validity, a quarter of it, at
// least a second and at most half a minute.
func TestDeadlines(t *testing.T) {
	for _, c := range []struct {
		validity string
		within   time.Duration
		claim    time.Duration // 0: not diverted
		expires  time.Duration
	}{
		{"", 30 * time.Second, 30 * time.Second, 24 * time.Hour},
		{"000001000000000R", 30 * time.Second, 30 * time.Second, 24 * time.Hour},
		{"000000000100000R", 120 * time.Second, 45 * time.Second, time.Minute}, // a quarter
		{"000000000200000R", 120 * time.Second, 90 * time.Second, 2 * time.Minute},
		{"000000001000000R", 20 * time.Minute, 9*time.Minute + 30*time.Second, 10 * time.Minute}, // half a minute
		{"000000000004000R", 30 * time.Second, 3 * time.Second, 4 * time.Second},
		{"000000000003000R", 30 * time.Second, 2 * time.Second, 3 * time.Second}, // a second
		{"000000000002000R", 30 * time.Second, time.Second, 2 * time.Second},
		{"000000000001000R", 30 * time.Second, 0, 0},
		{"000000000000000R", 30 * time.Second, 0, 0},
		{"000000000100000R", 500 * time.Millisecond, 0, 0}, // no time to claim in
		{"250602130000000+", 30 * time.Second, 30 * time.Second, time.Hour},
		{"250602140000004+", 30 * time.Second, 30 * time.Second, time.Hour}, // an hour ahead of UTC
		{"250602110000004-", 0, 0, 0},
		{"250602111500004-", 30 * time.Second, 30 * time.Second, 15 * time.Minute},
		{"250602115959900+", 30 * time.Second, 0, 0}, // over
		{"000100000000000R", 30 * time.Second, 30 * time.Second, noon.AddDate(0, 1, 0).Sub(noon)},
		{"010000000000000R", 30 * time.Second, 30 * time.Second, noon.AddDate(1, 0, 0).Sub(noon)},
	} {
		p, a, m := lenient(), optedIn(), ordinary()
		p.Plans[0].ClaimWithin, m.Validity = c.within, []byte(c.validity)
		v := p.Decide(On, &a, wire(t, m), subscriber, active, noon)
		if v.Divert != (c.claim != 0) {
			t.Errorf("validity %q, claim within %s: divert %t, %s; want %t", c.validity, c.within, v.Divert, v.Reason, c.claim != 0)
			continue
		}
		if c.claim == 0 && v.Reason != msg.ReasonValidity {
			t.Errorf("validity %q, claim within %s: %s, want %s", c.validity, c.within, v.Reason, msg.ReasonValidity)
		}
		if v.Divert && (v.ClaimBy.Sub(noon) != c.claim || v.Expires.Sub(noon) != c.expires) {
			t.Errorf("validity %q, claim within %s: claim after %s, expires after %s; want %s, %s",
				c.validity, c.within, v.ClaimBy.Sub(noon), v.Expires.Sub(noon), c.claim, c.expires)
		}
	}
}

// TestShare: the same numbers every time, as many as the share says, and none
// that a smaller share had is lost by a larger one.
func TestShare(t *testing.T) {
	const numbers = 20_000
	a, sm := optedIn(), wire(t, ordinary())
	var before map[msg.Number]bool
	for _, share := range []int{0, 1, 10, 50, 99, 100} {
		p := lenient()
		p.Share = share
		taken := make(map[msg.Number]bool)
		for i := range msg.Number(numbers) {
			n := subscriber + i
			v := p.Decide(On, &a, sm, n, active, noon)
			if v != p.Decide(On, &a, sm, n, active, noon) {
				t.Fatalf("share %d: %s is judged differently the second time", share, n)
			}
			if v.Divert {
				taken[n] = true
			} else if v.Reason != msg.ReasonCanary {
				t.Fatalf("share %d: %s: %s, want %s", share, n, v.Reason, msg.ReasonCanary)
			}
		}
		got, want := float64(len(taken))/numbers*100, float64(share)
		if diff := got - want; diff > 1.5 || diff < -1.5 || share == 0 && len(taken) != 0 || share == 100 && len(taken) != numbers {
			t.Errorf("share %d: %.2f per cent of %d neighbouring numbers", share, got, numbers)
		}
		for n := range before {
			if !taken[n] {
				t.Fatalf("share %d leaves out %s, which a smaller share had", share, n)
			}
		}
		before = taken
	}
}

func TestModes(t *testing.T) {
	for i, name := range []string{"off", "shadow", "on"} {
		m, ok := ParseMode(name)
		if !ok || m != Mode(i) || m.String() != name {
			t.Errorf("ParseMode(%q) = %d (%s), %t; want %d", name, m, m, ok, i)
		}
	}
	for _, name := range []string{"", "ON", "on ", "yes"} {
		if m, ok := ParseMode(name); ok || m != Off {
			t.Errorf("ParseMode(%q) = %s, %t; want off, false", name, m, ok)
		}
	}
	var zero Mode
	if zero != Off {
		t.Errorf("the zero Mode is %s, want off", zero)
	}
}

// TestMissAllocatesNothing: what the decision does for a number that nobody
// registered, before and without Decide's look at the text.
func TestMissAllocatesNothing(t *testing.T) {
	m := ordinary()
	m.TLVs = append(tlv(0x1501, 1, 2, 3), tlv(pdu.TagUserMessageReference, 0, 9)...)
	p := pdu.PDU(pdu.AppendSM(nil, pdu.SubmitSM, 1, &m))
	index := map[msg.Number]msg.Entry{1_000_000: active}
	var misses int
	if n := testing.AllocsPerRun(1000, func() {
		a, ok := pdu.Destination(p)
		if !ok {
			return
		}
		if n, ok := Number(a, &msg.Country{}); ok && !index[n].Registered() {
			misses++
		}
	}); n != 0 {
		t.Errorf("a miss costs %v allocations, want 0", n)
	}
	if misses == 0 {
		t.Error("no look-up missed: nothing was measured")
	}
	// The look that a registered number's message gets is free until its text is read.
	pol, acc, sm := lenient(), optedIn(), wire(t, m)
	if n := testing.AllocsPerRun(1000, func() {
		if pol.Decide(On, &acc, sm, subscriber, inactive, noon).Reason != msg.ReasonInactive {
			misses = -1
		}
	}); n != 0 || misses < 0 {
		t.Errorf("an inactive number costs %v allocations, want 0; misses %d", n, misses)
	}
}

// FuzzDecide: nothing that an ESME sends makes the decision panic, or divert
// what its own rows forbid.
func FuzzDecide(f *testing.F) {
	for _, j := range neverDiverted {
		m := ordinary()
		j.m(&m)
		f.Add([]byte(pdu.AppendSM(nil, pdu.SubmitSM, 1, &m)))
	}
	pol, acc := lenient(), optedIn()
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < pdu.HeaderLen {
			return
		}
		if a, ok := pdu.Destination(b); ok {
			Number(a, &msg.Country{})
		}
		var m pdu.SM
		if m.Decode(b) != nil {
			return
		}
		v := pol.Decide(On, &acc, &m, subscriber, active, noon)
		if !v.Divert {
			return
		}
		if m.ProtocolID != 0 || m.ESMClass&^0x03 != 0 || m.DefaultMsgID != 0 || m.ReplaceIfPresent != 0 || len(m.Schedule) != 0 {
			t.Errorf("diverted %s", fmt.Sprintf("%+v", m))
		}
		if !v.ClaimBy.After(noon) || !v.Expires.After(v.ClaimBy) {
			t.Errorf("claim by %s, expires %s: not in order after %s", v.ClaimBy, v.Expires, noon)
		}
	})
}
