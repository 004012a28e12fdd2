// Package prove lets a handset app's user prove a number: by a one-time code
// that goes out as SMS, or by an SMS of the user's own. It never pushes: who
// only has the app must not be able to read the code.
package prove

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/netip"
	"strings"
	"sync"
	"time"

	"shunt/gateway/msg"
	"shunt/smpp/coding"
	"shunt/store/registry"
)

// Times of a verification.
const (
	GoodFor  = 5 * time.Minute  // a code, a nonce
	ProofFor = 10 * time.Minute // from the check to the registration
)

// Registry keeps verifications and proofs.
type Registry interface {
	Begin(ctx context.Context, v registry.Verification) error
	Check(ctx context.Context, id [16]byte, mac, proof [32]byte, within time.Duration) (registry.Verification, error)
	Arrived(ctx context.Context, nonce [32]byte, n msg.Number) (bool, error)
	Remove(ctx context.Context, n msg.Number, device string) (bool, error)
}

// Options of a Service.
type Options struct {
	Registry  Registry
	Key       []byte // of the MACs of codes and nonces
	Sender    string // "": no codes are sent
	ShortCode string // "": no SMS are taken
	StopWords []string
	Text      string // {app} and {code}
	Confirm   string // {app}; "": none
	// Send sends an SMS over the carrier, and never otherwise. It must not block.
	Send   func(from string, to msg.Number, text string)
	Limits Limits
	Alarms AlarmLimits
	Now    func() time.Time
	Log    *slog.Logger
}

// Service begins and checks verifications. It is safe for concurrent use.
type Service struct {
	o      Options
	limits limiter
	alarms alarms
}

// New makes a Service; it starts no goroutine.
func New(o Options) *Service {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Service{o: o, limits: newLimiter(o.Limits), alarms: alarms{limits: o.Alarms, log: o.Log}}
}

// Format is how a code's SMS is written, so that the phone can fill it in.
type Format uint8

const (
	Plain   Format = iota
	Android        // the last line is the app's hash (SMS Retriever)
	Domain         // the last line is @domain #code
)

// Request asks for a verification.
type Request struct {
	Number msg.Number
	App    string
	Silent bool // the user sends an SMS with a nonce; otherwise a code is sent
	Format Format
	Detail string // the app's hash, or the domain
	From   netip.Addr
}

// Begun is a verification that has begun. It is the same for every number.
type Begun struct {
	ID          string
	Expires     time.Time
	ResendAfter time.Time
	ShortCode   string // where the user sends Nonce
	Nonce       string
}

var (
	// ErrOff says that this way of proving is not configured.
	ErrOff = errors.New("not offered here")
	// ErrDetail says that hash or domain is not of the form.
	ErrDetail = errors.New("does not fit the format")
)

// Begin begins a verification. ErrOff; ErrDetail; a *LimitError; or the registry
// does not write.
func (s *Service) Begin(ctx context.Context, r Request) (Begun, error) {
	switch {
	case r.Silent && s.o.ShortCode == "", !r.Silent && s.o.Sender == "":
		return Begun{}, ErrOff
	case !r.Silent && !detailFits(r.Format, r.Detail):
		return Begun{}, ErrDetail
	}
	now := s.o.Now()
	resend, err := s.limits.take(&r, now)
	if err != nil {
		return Begun{}, err
	}
	v := registry.Verification{Number: r.Number, App: r.App, Silent: r.Silent, Expires: now.Add(GoodFor)}
	rand.Read(v.ID[:])
	b := Begun{ID: base64.RawURLEncoding.EncodeToString(v.ID[:]), Expires: v.Expires, ResendAfter: resend}
	code := newCode()
	if r.Silent {
		b.ShortCode, b.Nonce = s.o.ShortCode, newNonce()
		v.MAC = s.mac("nonce", nil, b.Nonce)
	} else {
		v.MAC = s.mac("code", v.ID[:], code)
	}
	if err := s.o.Registry.Begin(ctx, v); err != nil {
		return Begun{}, fmt.Errorf("verification: %w", err)
	}
	s.alarms.begun(r.Number, r.App, now)
	if !r.Silent {
		s.o.Send(s.o.Sender, r.Number, codeText(s.o.Text, &r, code))
	}
	return b, nil
}

// Check tries a code against a verification, or with code "" asks whether the
// user's SMS has come, and returns a proof for one registration. Errors are
// those of registry.Check.
func (s *Service) Check(ctx context.Context, id, code string) (proof string, app string, err error) {
	var at [16]byte
	b, err := base64.RawURLEncoding.DecodeString(id)
	if err != nil || len(b) != len(at) {
		return "", "", registry.ErrNotFound
	}
	copy(at[:], b)
	var secret [32]byte
	rand.Read(secret[:])
	proof = base64.RawURLEncoding.EncodeToString(secret[:])
	v, err := s.o.Registry.Check(ctx, at, s.mac("code", at[:], code), sha256.Sum256([]byte(proof)), ProofFor)
	if err != nil {
		return "", "", err
	}
	s.alarms.converted(v.Number, s.o.Now())
	return proof, v.App, nil
}

// Registered sends the confirmation, where one is configured.
func (s *Service) Registered(n msg.Number, app string) {
	if s.o.Confirm != "" && s.o.Sender != "" {
		text := fill(s.o.Confirm, app, "")
		if !single(text) {
			text = fill(s.o.Confirm, "This app", "")
		}
		s.o.Send(s.o.Sender, n, text)
	}
}

// Taken says what became of a subscriber's SMS.
type Taken uint8

const (
	NotOurs Taken = iota // to another address, or not a word that is known
	Proven               // a nonce that was waited for
	Stopped              // the number is registered no more
)

// Ours tells whether an SMS to that address is one that Message may take: it
// does not block.
func (s *Service) Ours(to, text string) bool {
	return s.o.ShortCode != "" && strings.TrimPrefix(to, "+") == strings.TrimPrefix(s.o.ShortCode, "+") &&
		(s.isStop(text) || nonceIn(text) != "")
}

// Message takes a subscriber's SMS to the short code: a keyword takes the number
// off the registry, a nonce proves it. What it says is on stable storage.
func (s *Service) Message(ctx context.Context, from msg.Number, text string) (Taken, error) {
	if s.isStop(text) {
		removed, err := s.o.Registry.Remove(ctx, from, "")
		if err != nil {
			return NotOurs, err
		}
		s.o.Log.Info("deregistered by the subscriber's SMS", "number", from.Masked(), "was_registered", removed)
		return Stopped, nil
	}
	ok, err := s.o.Registry.Arrived(ctx, s.mac("nonce", nil, nonceIn(text)), from)
	if err != nil || !ok {
		return NotOurs, err
	}
	return Proven, nil
}

func (s *Service) isStop(text string) bool {
	text = strings.TrimSpace(text)
	for _, w := range s.o.StopWords {
		if strings.EqualFold(text, w) {
			return true
		}
	}
	return false
}

// mac is HMAC-SHA-256 over a label, a verification's id and a secret.
func (s *Service) mac(label string, id []byte, secret string) (m [32]byte) {
	h := hmac.New(sha256.New, s.o.Key)
	var n [4]byte
	binary.BigEndian.PutUint32(n[:], uint32(len(id)))
	h.Write([]byte(label))
	h.Write(n[:])
	h.Write(id)
	h.Write([]byte(secret))
	h.Sum(m[:0])
	return m
}

// newCode is six random digits, each code as likely as every other.
func newCode() string {
	n, err := rand.Int(rand.Reader, big.NewInt(1_000_000))
	if err != nil {
		panic(err) // crypto/rand never fails
	}
	return fmt.Sprintf("%06d", n)
}

// Nonces are 100 random bits: twenty letters and digits of base32 (RFC 4648 §6).
const nonceLength = 20

func newNonce() string {
	var b [13]byte
	rand.Read(b[:])
	return base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(b[:])[:nonceLength]
}

// nonceIn is the first word of a text that looks like a nonce.
func nonceIn(text string) string {
	for w := range strings.FieldsSeq(text) {
		w = strings.ToUpper(w)
		if len(w) == nonceLength && strings.Trim(w, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == "" {
			return w
		}
	}
	return ""
}

// maxRetriever is how long an SMS may be, in octets, that Android's SMS
// Retriever takes.
const maxRetriever = 140

// codeText is the SMS with a code. It is a single one, so that its last line is
// where the phone looks for it: if the app's name, or the operator's text, would
// make it longer, it goes without.
func codeText(text string, r *Request, code string) string {
	end := ""
	switch r.Format {
	case Android:
		end = "\n" + r.Detail
	case Domain:
		end = "\n@" + r.Detail + " #" + code
	}
	for _, t := range []string{fill(text, r.App, code) + end, fill(text, "this app", code) + end} {
		if single(t) && (r.Format != Android || len(t) <= maxRetriever) {
			return t
		}
	}
	return code + " is your code." + end
}

func fill(text, app, code string) string {
	return strings.NewReplacer("{app}", app, "{code}", code).Replace(text)
}

// single tells whether a text fits one SMS: 160 septets of the GSM alphabet, or
// 140 octets of UCS-2 (3GPP TS 23.040 §9.2.3.16).
func single(text string) bool {
	a := coding.Best(text)
	b, err := coding.Encode(a, text)
	if a == coding.GSM7 {
		return err == nil && len(b) <= 160
	}
	return err == nil && len(b) <= coding.MaxUserData
}

func detailFits(f Format, detail string) bool {
	switch f {
	case Android: // eleven characters of base64
		return len(detail) == 11 && strings.Trim(detail, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") == ""
	case Domain:
		return len(detail) <= 60 && len(detail) >= 3 && strings.Contains(detail, ".") &&
			strings.Trim(detail, "abcdefghijklmnopqrstuvwxyz0123456789.-") == ""
	}
	return detail == ""
}

// counts is a map under a lock, for alarms and limits.
type counts[K comparable, V any] struct {
	mu sync.Mutex
	m  map[K]V
}
