package route

import (
	"slices"
	"strings"
	"time"

	"shunt/gateway/msg"
	"shunt/smpp/pdu"
)

// Plan says which channel comes first and how long the app has. It matches
// when every list that is not empty has a member that fits.
type Plan struct {
	Name        string
	To          []string // prefixes, "+" and digits
	From        []string // patterns
	Account     []string // system_ids
	ServiceType []string
	Priority    []byte // priority_flags
	Content     []msg.Content
	Hours       []msg.Hours
	Zone        *time.Location // of Hours; nil: that of the machine
	AppFirst    bool
	ClaimWithin time.Duration
	Lease       time.Duration // claimed → delivered
	Prefer      msg.Prefer
	NoReceipts  bool // an app that sends none may have messages that ask for one
}

// PlanOf finds the first plan that matches; the last one always does. Unknown
// content matches no plan that asks for content.
func (p *Policy) PlanOf(acc *Account, m *pdu.SM, n msg.Number, c msg.Content, now time.Time) *Plan {
	for i := range p.Plans {
		if pl := &p.Plans[i]; pl.fits(acc, m, n, now) && (len(pl.Content) == 0 || slices.Contains(pl.Content, c)) {
			return pl
		}
	}
	return &Plan{}
}

// fits tells whether everything but the content does.
func (pl *Plan) fits(acc *Account, m *pdu.SM, n msg.Number, now time.Time) bool {
	return fits(pl.Account, acc.SystemID) && fits(pl.ServiceType, string(m.ServiceType)) &&
		(len(pl.Priority) == 0 || slices.Contains(pl.Priority, m.Priority)) &&
		(len(pl.To) == 0 || hasPrefix(pl.To, n)) && (len(pl.From) == 0 || matches(pl.From, m.Source.Addr)) &&
		(len(pl.Hours) == 0 || pl.open(now))
}

// open tells whether now is within the plan's hours.
func (pl *Plan) open(now time.Time) bool {
	zone := pl.Zone
	if zone == nil {
		zone = time.Local
	}
	now = now.In(zone)
	return slices.ContainsFunc(pl.Hours, func(h msg.Hours) bool { return h.Contains(now) })
}

// contentFor is the content of a text, if any plan asks for one.
func (p *Policy) contentFor(m *pdu.SM, text string) msg.Content {
	for i := range p.Plans {
		if len(p.Plans[i].Content) > 0 {
			return ContentOf(m.Source, text)
		}
	}
	return msg.ContentUnknown
}

func fits(list []string, s string) bool {
	return len(list) == 0 || slices.Contains(list, s)
}

func hasPrefix(prefixes []string, n msg.Number) bool {
	s := n.String()
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}
