package route

import (
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // for machines without

	"shunt/gateway/msg"
	"shunt/smpp/coding"
	"shunt/smpp/pdu"
)

// clock is an hour and minute of a day, in minutes.
func clock(hour, minute int) int { return hour*60 + minute }

func TestHours(t *testing.T) {
	day, night := msg.Hours{From: clock(8, 0), To: clock(20, 0)}, msg.Hours{From: clock(22, 30), To: clock(6, 15)}
	all, evening := msg.Hours{From: 0, To: clock(24, 0)}, msg.Hours{From: clock(18, 0), To: clock(24, 0)}
	for _, c := range []struct {
		h    msg.Hours
		at   string
		want bool
	}{
		{day, "07:59:59", false},
		{day, "08:00:00", true},
		{day, "19:59:59", true},
		{day, "20:00:00", false},
		{night, "22:29:59", false},
		{night, "22:30:00", true},
		{night, "00:00:00", true},
		{night, "06:14:59", true},
		{night, "06:15:00", false},
		{night, "12:00:00", false},
		{all, "00:00:00", true},
		{all, "23:59:59", true},
		{evening, "17:59:59", false},
		{evening, "23:59:59", true},
		{evening, "00:00:00", false},
	} {
		at, err := time.Parse(time.TimeOnly, c.at)
		if err != nil {
			t.Fatal(err)
		}
		if got := c.h.Contains(at); got != c.want {
			t.Errorf("%d to %d contains %s: %t, want %t", c.h.From, c.h.To, c.at, got, c.want)
		}
	}
}

// TestPlanMatches: each list of a plan by itself, then all of them together.
func TestPlanMatches(t *testing.T) {
	london, err := time.LoadLocation("Europe/London")
	if err != nil {
		t.Fatal(err)
	}
	kolkata, err := time.LoadLocation("Asia/Kolkata")
	if err != nil {
		t.Fatal(err)
	}
	office := []msg.Hours{{From: clock(8, 0), To: clock(12, 0)}, {From: clock(13, 0), To: clock(18, 0)}}
	text := func(s string) func(*pdu.SM) { return func(m *pdu.SM) { m.ShortMessage = []byte(s) } }
	const ad = "Sale! 50% off all shoes until Sunday"
	for _, c := range []struct {
		name string
		plan Plan
		m    func(*pdu.SM)
		at   time.Time // zero: noon UTC, in June
		want bool
	}{
		{name: "nothing asked for", want: true},
		{name: "priority", plan: Plan{Priority: []byte{2, 3}}, m: func(m *pdu.SM) { m.Priority = 3 }, want: true},
		{name: "another priority", plan: Plan{Priority: []byte{2, 3}}, m: func(m *pdu.SM) { m.Priority = 1 }},
		{name: "priority 0 is one", plan: Plan{Priority: []byte{0}}, want: true},
		{name: "priority out of range", plan: Plan{Priority: []byte{0, 1, 2, 3}}, m: func(m *pdu.SM) { m.Priority = 4 }},
		{name: "hours of UTC", plan: Plan{Hours: office, Zone: time.UTC}},
		{name: "an hour later", plan: Plan{Hours: office, Zone: time.UTC}, at: noon.Add(time.Hour), want: true},
		{name: "summer time of London", plan: Plan{Hours: office, Zone: london}, want: true},
		{name: "winter time of London", plan: Plan{Hours: office, Zone: london}, at: noon.AddDate(0, 6, 0)},
		{name: "half an hour ahead", plan: Plan{Hours: office, Zone: kolkata}, at: noon.Add(29 * time.Minute), want: true},
		{name: "evening there", plan: Plan{Hours: office, Zone: kolkata}, at: noon.Add(30 * time.Minute)},
		{name: "promotional", plan: Plan{Content: []msg.Content{msg.ContentOneTimeCode, msg.ContentPromotional}}, m: text(ad), want: true},
		{name: "transactional", plan: Plan{Content: []msg.Content{msg.ContentTransactional}}, want: true},
		{name: "another content", plan: Plan{Content: []msg.Content{msg.ContentOneTimeCode, msg.ContentPromotional, msg.ContentInteraction}}},
		{name: "one-time code", plan: Plan{Content: []msg.Content{msg.ContentOneTimeCode}}, m: text("Your code is 481516"), want: true},
		{name: "content of a part", plan: Plan{Content: []msg.Content{msg.ContentOneTimeCode, msg.ContentInteraction, msg.ContentTransactional, msg.ContentPromotional}}, m: udh("\x05\x00\x03\x2a\x02\x01" + ad)},
		{name: "all of it", plan: Plan{
			Priority: []byte{1}, Hours: office, Zone: london, Content: []msg.Content{msg.ContentPromotional}, To: []string{"+44"}, From: []string{"Parcel*"},
			Account: []string{"bank"}, ServiceType: []string{""},
		}, m: func(m *pdu.SM) { m.Priority, m.ShortMessage = 1, []byte(ad) }, want: true},
		{name: "all but the content", plan: Plan{
			Priority: []byte{1}, Hours: office, Zone: london, Content: []msg.Content{msg.ContentPromotional}, To: []string{"+44"},
		}, m: func(m *pdu.SM) { m.Priority = 1 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, a, m, at := lenient(), optedIn(), ordinary(), c.at
			if at.IsZero() {
				at = noon
			}
			if c.m != nil {
				c.m(&m)
			}
			plan := c.plan
			plan.Name, plan.AppFirst, plan.ClaimWithin = "asked", true, 7*time.Second
			p.Plans = []Plan{plan, p.Plans[0]}
			v := p.Decide(On, &a, wire(t, m), subscriber, active, at)
			if got := v.Plan != nil && v.Plan.Name == "asked"; !v.Divert || got != c.want {
				t.Errorf("divert %t by plan %+v, want the plan that asks: %t", v.Divert, v.Plan, c.want)
			}
		})
	}
}

// TestMachineZone: hours without a zone are the machine's.
func TestMachineZone(t *testing.T) {
	here := time.Local
	t.Cleanup(func() { time.Local = here })
	time.Local = time.FixedZone("here", 5*3600)
	pl := Plan{Hours: []msg.Hours{{From: clock(16, 0), To: clock(18, 0)}}}
	if !pl.open(noon) || pl.open(noon.Add(-2*time.Hour)) {
		t.Errorf("at 17:00 here %t, at 15:00 here %t; want true, false", pl.open(noon), pl.open(noon.Add(-2*time.Hour)))
	}
}

func TestContent(t *testing.T) {
	name := pdu.Address{TON: pdu.TONAlphanumeric, Addr: []byte("Parcel24")}
	number := pdu.Address{TON: 1, NPI: 1, Addr: []byte("447700900001")}
	short := pdu.Address{TON: 3, Addr: []byte("60777")}
	for _, c := range []struct {
		from pdu.Address
		text string
		want msg.Content
	}{
		{name, "Your verification code is 481516", msg.ContentOneTimeCode},
		{number, "Your code is 481516. Reply STOP to opt out?", msg.ContentOneTimeCode},
		{name, "Sale! 50% off all shoes until Sunday", msg.ContentPromotional},
		{name, "20 % Rabatt auf alles, nur heute", msg.ContentPromotional},
		{name, "Soldes: -30% sur tout le magasin. STOP au 36111", msg.ContentPromotional},
		{name, "50% de descuento este fin de semana", msg.ContentPromotional},
		{name, "Use promo code SUMMER at https://shop.example", msg.ContentPromotional},
		{short, "VIP sale starts now. Text STOP to opt out", msg.ContentPromotional},
		{name, "Your parcel comes on Monday.", msg.ContentTransactional},
		{name, "Your battery is at 20%", msg.ContentTransactional},
		{name, "You paid 12.50 at Shoes & Co with your discount card", msg.ContentTransactional},
		{name, "Reminder: dentist on Monday at 9. Reply STOP to opt out", msg.ContentTransactional},
		{name, "Will you be at home on Monday?", msg.ContentTransactional}, // nobody can answer it
		{number, "Will you be at home on Monday?", msg.ContentInteraction},
		{number, "Are you coming？", msg.ContentInteraction},
		{short, "Dentist on Monday at 9. Reply YES to confirm", msg.ContentInteraction},
		{short, "Termin am Montag um 9. Antworten Sie mit JA", msg.ContentInteraction},
		{number, "Questions? See https://help.example", msg.ContentTransactional},
		{number, "See you at 7", msg.ContentTransactional},
		{number, "What is this?? Reply STOP to stop", msg.ContentTransactional},
		{pdu.Address{}, "Will you be at home?", msg.ContentTransactional},
		{pdu.Address{TON: pdu.TONAlphanumeric, Addr: []byte("60777")}, "Will you be at home?", msg.ContentTransactional},
		{name, "", msg.ContentTransactional},
	} {
		if got := ContentOf(c.from, c.text); got != c.want {
			t.Errorf("ContentOf(%q, %q) = %s, want %s", c.from.Addr, c.text, got, c.want)
		}
	}
	for c := msg.ContentUnknown; c <= msg.ContentPromotional; c++ {
		if name := c.String(); name != msg.ContentNames[c] {
			t.Errorf("content %d is %q, want %q", c, name, msg.ContentNames[c])
		}
	}
	if name := msg.Content(99).String(); name != "unknown" {
		t.Errorf("content 99 is %q, want it unknown", name)
	}
	if n := testing.AllocsPerRun(100, func() { ContentOf(number, "Sale! Will 50% off do? Reply YES, or see https://shop.example") }); n != 0 {
		t.Errorf("%v allocations a text, want 0", n)
	}
}

// TestContentIsLinear: a text as long as a PDU is read in no time.
func TestContentIsLinear(t *testing.T) {
	for _, part := range []string{" ", "% ", " %", "reply stop t", "sal", "?", "www", "1"} {
		text := strings.Repeat(part, 64<<10/len(part))
		if start := time.Now(); ContentOf(pdu.Address{Addr: []byte("60777")}, text) > msg.ContentPromotional || time.Since(start) > 2*time.Second {
			t.Errorf("64 KiB of %q took %s", part, time.Since(start))
		}
	}
}

// TestLetter: what is not known of the first part counts when all are there.
func TestLetter(t *testing.T) {
	const ad = "Sale! 50% off all shoes until Sunday"
	a, m := optedIn(), ordinary()
	p := lenient()
	p.AllowOTP = false
	p.Plans = append([]Plan{{Name: "ads", Content: []msg.Content{msg.ContentPromotional}, Hours: []msg.Hours{{From: clock(8, 0), To: clock(20, 0)}}, Zone: time.UTC}}, p.Plans...)
	for _, c := range []struct {
		text string
		at   time.Time
		err  error
		want msg.Reason
	}{
		{"Your parcel comes on Monday.", noon, nil, msg.NoReason},
		{ad, noon, nil, msg.ReasonPlanCarrier},
		{ad, noon.Add(9 * time.Hour), nil, msg.NoReason},
		{"Your code is 481516", noon, nil, msg.ReasonOneTimeCode},
		{"", noon, nil, msg.ReasonText},
	} {
		if got := p.Letter(&a, &m, subscriber, c.at, c.text, c.err); got != c.want {
			t.Errorf("Letter(%q) at %s = %s, want %s", c.text, c.at, got, c.want)
		}
	}
	p.Plans = p.Plans[1:]
	if got := p.Letter(&a, &m, subscriber, noon, ad, nil); got != msg.NoReason {
		t.Errorf("Letter without a plan that asks for content = %s, want none", got)
	}
	if _, err := coding.Decode(coding.UCS2, []byte{0}); p.Letter(&a, &m, subscriber, noon, "", err) != msg.ReasonText {
		t.Errorf("Letter of what cannot be read: want %s", msg.ReasonText)
	}
}
