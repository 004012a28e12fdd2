package external

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"shunt/gateway/msg"
	"shunt/store/registry"
)

// maxAnswer bounds an answer's body, in octets.
const maxAnswer = 64 << 10

// hashForm begins a bearer's SHA-256, as in an export of the registry here.
const hashForm = "sha256:"

// answer is the body of a 200. What is in it beside these names is passed over.
type answer struct {
	Registrations []registration `json:"registrations"`
}

type registration struct {
	Number   string    `json:"number"` // as in an export; the one that was asked about
	App      string    `json:"app"`
	Platform string    `json:"platform"`
	Token    string    `json:"token"`
	Device   string    `json:"device"`
	Bearer   string    `json:"bearer"` // "sha256:" and 64 hexadecimal digits
	State    string    `json:"state"`
	Sandbox  bool      `json:"sandbox"`
	ProvenAt time.Time `json:"proven_at"`
}

// An unfit answer is one of which nothing can be used. Its text names no value.
type unfit struct {
	outcome Outcome
	text    string
}

func (u *unfit) Error() string { return u.text }

// decode reads the body of a 200 about n. No device at all is a number that is
// not known.
func decode(body []byte, n msg.Number, apps []string) ([]registry.Told, *unfit) {
	if len(body) > maxAnswer {
		return nil, &unfit{Oversized, fmt.Sprintf("answer is longer than %d octets", maxAnswer)}
	}
	var a answer
	if json.Unmarshal(body, &a) != nil {
		return nil, &unfit{Malformed, "answer is no JSON of the form that is asked for"}
	}
	if a.Registrations == nil {
		return nil, &unfit{Malformed, "answer has no registrations"}
	}
	if len(a.Registrations) > registry.MaxDevices {
		return nil, &unfit{Invalid, fmt.Sprintf("answer has %d devices, more than %d", len(a.Registrations), registry.MaxDevices)}
	}
	told := make([]registry.Told, 0, len(a.Registrations))
	for i := range a.Registrations {
		t, err := a.Registrations[i].told(n, apps)
		if err != nil {
			return nil, &unfit{Invalid, fmt.Sprintf("registrations[%d]: %v", i, err)}
		}
		told = append(told, t)
	}
	return told, nil
}

func (r *registration) told(n msg.Number, apps []string) (t registry.Told, err error) {
	if r.Number != "" {
		if of, err := msg.ParseNumber(r.Number); err != nil || of != n {
			return t, errors.New("number: is another one than was asked about")
		}
	}
	if !slices.Contains(apps, r.App) {
		return t, errors.New("app: there is no [[app]] of that id")
	}
	t = registry.Told{
		Device: r.Device, App: r.App, Token: r.Token, Sandbox: r.Sandbox, Active: r.State != "inactive", ProvenAt: r.ProvenAt,
	}
	if t.Platform, err = registry.ParsePlatform(r.Platform); err != nil {
		return t, errors.New("platform: want apns or fcm")
	}
	if r.State != "" && r.State != "active" && r.State != "inactive" {
		return t, errors.New("state: want active or inactive")
	}
	digits, ok := strings.CutPrefix(r.Bearer, hashForm)
	h, err := hex.DecodeString(digits)
	if !ok || err != nil || len(h) != len(t.BearerHash) {
		return t, errors.New("bearer: want sha256: and 64 hexadecimal digits")
	}
	copy(t.BearerHash[:], h)
	return t, nil
}

// ttl is how long an answer holds: as configured, or shorter where
// Cache-Control says so (RFC 9111 §5.2.2). It never makes it longer.
func ttl(h http.Header, most time.Duration) time.Duration {
	for _, field := range h.Values("Cache-Control") {
		for directive := range strings.SplitSeq(field, ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
			switch strings.ToLower(name) {
			case "no-store", "no-cache":
				return 0
			case "max-age":
				if s, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31); err == nil {
					most = min(most, time.Duration(s)*time.Second)
				}
			}
		}
	}
	return most
}
