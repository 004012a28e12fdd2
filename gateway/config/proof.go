package config

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"shunt/smpp/coding"
)

// Verification is how a handset app's user proves a number.
type Verification struct {
	Sender    string // source address of codes; "": no codes are sent
	ShortCode string // where subscribers send a nonce, or one of StopWords; "": nowhere
	StopWords []string
	Text      string // of a code: {app} and {code} stand for them
	Confirm   string // SMS after a registration, {app} stands for it; "": none
	EvictAll  bool   // a new proof evicts the devices of other apps too

	BearerGrace time.Duration // how long the bearer before a rotated one is good

	// Verifications that are begun, an hour. 0: no limit.
	PerNumber, PerAddress, PerSubnet, PerApp, PerPrefix int
	PrefixDigits                                        int // of a number, that make its prefix

	// Alarms: so many numbers in a row that are neighbours, and of a prefix with
	// AlarmSent codes sent within an hour less than AlarmConversion per cent used.
	AlarmSequence, AlarmSent, AlarmConversion int
}

// Offered tells whether a number can be proven at all.
func (v *Verification) Offered() bool { return v.Sender != "" || v.ShortCode != "" }

func (l *loader) verification(file *section, c *Config) {
	s, _ := file.sub("verification")
	defer s.close()
	const most = 1_000_000
	c.Verification = Verification{
		Sender:          get(s, "sender", "", str(smsSender)),
		ShortCode:       get(s, "short_code", "", str(shortCode)),
		StopWords:       list(s, "stop_words", []string{"STOP"}, stopWord),
		Text:            get(s, "text", "Your code for {app} is {code}. Give it to nobody.", str(codeText)),
		Confirm:         get(s, "confirm", "", str(confirmText)),
		EvictAll:        get(s, "evict", 0, oneOf[uint8]("app", "number")) == 1,
		BearerGrace:     get(s, "bearer_grace", 10*time.Minute, duration(0, day)),
		PerNumber:       get(s, "per_number", 5, integer(0, most)),
		PerAddress:      get(s, "per_address", 20, integer(0, most)),
		PerSubnet:       get(s, "per_subnet", 100, integer(0, most)),
		PerApp:          get(s, "per_app", 10_000, integer(0, most)),
		PerPrefix:       get(s, "per_prefix", 1000, integer(0, most)),
		PrefixDigits:    get(s, "prefix_digits", 6, integer(1, 14)),
		AlarmSequence:   get(s, "alarm_sequence", 10, integer(2, most)),
		AlarmSent:       get(s, "alarm_sent", 50, integer(1, most)),
		AlarmConversion: get(s, "alarm_conversion", 10, integer(0, 100)),
	}
	v := &c.Verification
	if v.Confirm != "" && v.Sender == "" {
		s.fault(s.where("confirm"), "confirm", "is an SMS without a sender, want sender too")
	}
	if v.Sender != "" && c.Intercept.FallbackSMSC == "" {
		s.fault(s.where("sender"), "sender", "codes go out on Shunt's own bind, want intercept.fallback_smsc too")
	}
	if v.ShortCode != "" && c.Intercept.FallbackSMSC == "" {
		s.fault(s.where("short_code"), "short_code", "its SMS come in on Shunt's own bind, want intercept.fallback_smsc too")
	}
}

// Registry is what else the registry is told.
type Registry struct {
	RecycledFile  string        // absolute; "": none
	RecycledURL   string        // "": none
	RecycledEvery time.Duration // how often they are looked at

	DefaultCountry string // of national numbers in commands, imports and feeds, two capital letters; "": there are none

	External []ExternalRegistry // asked in order about numbers that nobody registered here
}

func (l *loader) registry(file *section, c *Config) {
	s, _ := file.sub("registry")
	defer s.close()
	if c.Registry.RecycledFile = get(s, "recycled_file", "", str(feedFile)); c.Registry.RecycledFile != "" {
		c.Registry.RecycledFile = beside(c.File, c.Registry.RecycledFile)
	}
	c.Registry.RecycledURL = get(s, "recycled_url", "", str(feedURL))
	c.Registry.RecycledEvery = get(s, "recycled_every", time.Minute, duration(time.Second, day))
	c.Registry.DefaultCountry = get(s, "default_country", "", str(writtenCountry))
	c.Registry.External = externals(s)
}

// presence reads when an app's devices are taken for absent.
func (a *App) presence(s *section) {
	a.ActiveFor = get(s, "active_for", day, duration(time.Second, forever))
	a.InactiveAfter = get(s, "inactive_after", max(7*day, 7*a.ActiveFor), duration(time.Second, forever))
	a.MissedClaims = get(s, "missed_claims", 0, integer(0, 1000))
	if a.InactiveAfter < a.ActiveFor {
		s.fault(s.where("inactive_after"), "inactive_after", "is %q, want at least active_for, %q",
			showDuration(a.InactiveAfter), showDuration(a.ActiveFor))
	}
}

var senderForm = regexp.MustCompile(`^(\+?[0-9]{3,15}|[ -~]{1,11})$`)

// smsSender takes a number, a short code or up to eleven characters.
func smsSender(s string) error {
	if !senderForm.MatchString(s) {
		return fmt.Errorf(`%s is no sender, want a number, a short code or 1 to 11 ASCII characters such as "ACME"`, quote(s))
	}
	return nil
}

var shortCodeForm = regexp.MustCompile(`^\+?[0-9]{3,15}$`)

func shortCode(s string) error {
	if !shortCodeForm.MatchString(s) {
		return fmt.Errorf(`%s is no short code, want 3 to 15 digits such as "60555"`, quote(s))
	}
	return nil
}

func stopWord(s string) error {
	if s == "" || len(s) > 20 || strings.TrimSpace(s) != s || !printableASCII(s) {
		return fmt.Errorf(`%s is no keyword, want 1 to 20 ASCII characters such as "STOP"`, quote(s))
	}
	return nil
}

// maxSMSText is for the GSM alphabet and leaves room for an app's name, a code and
// what a format appends; maxUCS2Text is all that one SMS takes of other characters.
const (
	maxSMSText  = 90
	maxUCS2Text = 70
)

// fitsSMS tells whether a text is short enough for one SMS.
func fitsSMS(s string) bool {
	n := utf8.RuneCountInString(s)
	return n <= maxSMSText && (coding.Best(s) == coding.GSM7 || n <= maxUCS2Text)
}

func codeText(s string) error {
	if strings.Count(s, "{code}") != 1 || !fitsSMS(s) {
		return fmt.Errorf(`%s is no text for a code, want {code} once in at most %d characters, %d with any beyond the GSM alphabet`, quote(s), maxSMSText, maxUCS2Text)
	}
	return nil
}

func confirmText(s string) error {
	if strings.Contains(s, "{code}") || !fitsSMS(s) {
		return fmt.Errorf("%s is no confirmation, want at most %d characters without {code}, %d with any beyond the GSM alphabet", quote(s), maxSMSText, maxUCS2Text)
	}
	return nil
}

func feedFile(s string) error {
	if s == "" || strings.ContainsRune(s, 0) {
		return fmt.Errorf("%s is no file name, want the name of a feed", quote(s))
	}
	return nil
}

// feedURL takes https, and http for loopback.
func feedURL(s string) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.Scheme != "https" && !(u.Scheme == "http" && loopback(u.Hostname())) {
		return fmt.Errorf(`%s is no feed, want a URL such as "https://host/recycled.csv"`, quote(s))
	}
	return nil
}
