package config

import (
	"fmt"
	"net/url"
	"strings"
	"time"
)

// ExternalRegistry is asked over HTTP about numbers that nobody registered here.
type ExternalRegistry struct {
	Name  string
	URL   string // with {number} once, in its path or query
	CA    Secret // PEM of the only certificates to trust; empty: the system's
	Token Secret // bearer that it is shown; empty: none
	To    []string

	Timeout     time.Duration // of one look-up
	Concurrency int           // look-ups at a time
	Cache       int           // numbers that are remembered

	PositiveTTL time.Duration // how long it is remembered that a number is known
	NegativeTTL time.Duration // and that it is not
}

// externals reads the [[registry.external]] tables.
func externals(registry *section) (all []ExternalRegistry) {
	seen := unique{}
	for _, s := range registry.subs("external") {
		e := ExternalRegistry{
			Name:        must(s, "name", "a name", str(identifier)),
			URL:         must(s, "url", `a URL such as "https://host/v1/numbers/{number}"`, str(lookupURL)),
			CA:          s.secret("ca_file", "", checkCA),
			Token:       s.secret("token_file", "", checkToken),
			Timeout:     get(s, "timeout", 150*time.Millisecond, duration(time.Millisecond, 2*time.Second)),
			Concurrency: get(s, "concurrency", 64, integer(1, 1024)),
			Cache:       get(s, "cache", 100_000, integer(16, 10_000_000)),
			PositiveTTL: get(s, "positive_ttl", time.Minute, duration(time.Second, day)),
			NegativeTTL: get(s, "negative_ttl", 30*time.Second, duration(time.Second, day)),
		}
		seen.check(s, "name", e.Name)
		m, _ := s.sub("match")
		e.To = list(m, "to", nil, prefix)
		m.close()
		s.close()
		all = append(all, e)
	}
	return all
}

// lookupURL takes https, and http for loopback, with {number} where it does not
// choose whom to ask.
func lookupURL(s string) error {
	u, err := url.Parse(strings.Replace(s, "{number}", "0", 1))
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || u.Port() != "" && !port(u.Port(), 1):
		return fmt.Errorf(`%s is no URL to ask, want one such as "https://host/v1/numbers/{number}"`, quote(s))
	case u.Scheme != "https" && !(u.Scheme == "http" && loopback(u.Hostname())):
		return fmt.Errorf(`%s would ask in clear, want "https://", or "http://" with a loopback address`, quote(s))
	}
	if _, rest, _ := strings.Cut(s, "://"); strings.Count(s, "{number}") != 1 || strings.Contains(rest[:strings.IndexAny(rest+"/", "/?")], "{") {
		return fmt.Errorf(`%s is no URL to ask, want {number} once, in its path or query`, quote(s))
	}
	return nil
}
