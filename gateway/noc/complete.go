package noc

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"shunt/gateway/msg"
)

// Kinds of names that a shell completes.
const (
	NamesMessages = "messages" // ids of the latest that have not ended
	NamesNumbers  = "numbers"  // that are registered, once most of one is there
	NamesSessions = "sessions" // ids of binds
	NamesAccounts = "accounts" // system_ids, of the configuration and of binds
	NamesApps     = "apps"
)

const (
	maxNames = 50
	// leastNumber is how many digits of a number must be known before others are
	// shown that begin with it: who looks for nobody in particular sees nobody.
	leastNumber = 7
	mostNumber  = 15 // digits (E.164 §6.2.1)

	completeWithin = 700 * time.Millisecond // or the shell completes nothing
)

// Name is one of them, and a few words about it.
type Name struct {
	Name string `json:"name"`
	Note string `json:"note,omitempty"`
}

type namesBody struct {
	Names []Name `json:"names"`
}

func (s *Server) names(_ http.ResponseWriter, r *http.Request) (any, error) {
	prefix := r.URL.Query().Get("prefix")
	all := []Name{}
	var err error
	switch kind := r.PathValue("kind"); kind {
	case NamesMessages:
		for _, m := range s.o.Spool.Latest(prefix, maxNames) {
			all = append(all, Name{m.WireID, m.State.String() + " " + m.App})
		}
	case NamesNumbers:
		all, err = s.numbers(r.Context(), prefix)
	case NamesSessions:
		for _, b := range s.o.Gateway.Sessions() {
			note := b.Peer
			if completable(b.SystemID) {
				note = b.SystemID + " " + note
			}
			all = append(all, Name{strconv.FormatUint(b.ID, 10), note})
		}
	case NamesAccounts, NamesApps:
		accounts, apps := s.o.Gateway.Names()
		if kind == NamesApps {
			accounts = apps
		} else {
			for _, b := range s.o.Gateway.Sessions() {
				accounts = append(accounts, b.SystemID)
			}
		}
		all = distinct(accounts)
	default:
		return nil, problemf(http.StatusNotFound, CodeNotFound, "there are names of messages, numbers, sessions, accounts and apps")
	}
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(n Name) bool { return !completable(n.Name) || !strings.HasPrefix(n.Name, prefix) })
	return namesBody{all[:min(len(all), maxNames)]}, nil
}

// completable leaves out what a peer may call itself and a shell would trip over.
func completable(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' })
}

func distinct(names []string) []Name {
	set := make(map[string]bool)
	for _, n := range names {
		set[n] = true
	}
	all := make([]Name, 0, len(set))
	for _, n := range slices.Sorted(maps.Keys(set)) {
		all = append(all, Name{Name: n})
	}
	return all
}

// numbers are registered ones that begin with a prefix. Numbers are kept in the
// order of their values, so that those of one length are side by side.
func (s *Server) numbers(ctx context.Context, prefix string) ([]Name, error) {
	digits := strings.TrimPrefix(prefix, "+")
	low, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || len(digits) < leastNumber || len(digits) > mostNumber || digits[0] == '0' {
		return []Name{}, nil
	}
	plus := prefix[:len(prefix)-len(digits)]
	all := []Name{}
	for high := low; len(digits) <= mostNumber && len(all) < maxNames; low, high, digits = low*10, high*10+9, digits+"0" {
		regs, err := s.o.Registry.List(ctx, msg.Number(low-1), maxNames)
		if err != nil {
			return nil, err
		}
		for _, r := range regs {
			if uint64(r.Number) > high {
				break
			}
			all = append(all, Name{Name: plus + r.Number.String()[1:]})
		}
	}
	return all, nil
}

// Names are those of a kind that begin with prefix, 50 at most. It gives up soon:
// somebody waits at a prompt.
func (c *Client) Names(ctx context.Context, kind, prefix string) ([]Name, error) {
	ctx, cancel := context.WithTimeout(ctx, completeWithin)
	defer cancel()
	var b namesBody
	err := c.call(ctx, http.MethodGet, "/v1/names/"+url.PathEscape(kind), url.Values{"prefix": {prefix}}, nil, &b)
	return b.Names, err
}
