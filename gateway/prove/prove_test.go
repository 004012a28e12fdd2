package prove

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"shunt/gateway/msg"
	"shunt/smpp/coding"
	"shunt/store/registry"
)

const (
	alice msg.Number = 447700900042
	bob   msg.Number = 447911123456
)

var home = netip.MustParseAddr("192.0.2.7")

// sms is what Send was given.
type sms struct {
	from, text string
	to         msg.Number
}

// rig is a Service over a registry on disk, which notes the SMS.
type rig struct {
	*Service
	t   *testing.T
	dir string
	reg *registry.Registry

	mu   sync.Mutex
	sent []sms
	log  bytes.Buffer // under mu
}

func (r *rig) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.log.Write(p)
}

func newRig(t *testing.T, set func(*Options)) *rig {
	t.Helper()
	r := &rig{t: t, dir: filepath.Join(t.TempDir(), "reg")}
	log := slog.New(slog.NewTextHandler(r, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	if r.reg, err = registry.Open(registry.Options{Dir: r.dir, Logger: log}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.reg.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := r.reg.WaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	o := Options{
		Registry: r.reg, Key: bytes.Repeat([]byte{7}, 32), Sender: "Shunt", ShortCode: "60555", StopWords: []string{"STOP", "ARRET"},
		Text: "Your code for {app} is {code}.", Confirm: "{app} is registered.", Log: log,
		Alarms: AlarmLimits{PrefixDigits: 6, Sequence: 1000, Sent: 1000, Conversion: 10},
		Send: func(from string, to msg.Number, text string) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.sent = append(r.sent, sms{from, text, to})
		},
	}
	if set != nil {
		set(&o)
	}
	r.Service = New(o)
	return r
}

func (r *rig) begin(q Request) Begun {
	r.t.Helper()
	if q.App == "" {
		q.App = "chat"
	}
	if !q.From.IsValid() {
		q.From = home
	}
	b, err := r.Begin(r.t.Context(), q)
	if err != nil {
		r.t.Fatalf("Begin(%+v) = %v", q, err)
	}
	return b
}

var sixDigits = regexp.MustCompile(`\b[0-9]{6}\b`)

// code is that of the last SMS.
func (r *rig) code() string {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.sent) == 0 {
		r.t.Fatal("no SMS was sent")
	}
	return sixDigits.FindString(r.sent[len(r.sent)-1].text)
}

// wrong is another code than that.
func wrong(code string) string {
	if code[5] == '0' {
		return code[:5] + "1"
	}
	return code[:5] + "0"
}

// redeem registers a device by a proof.
func (r *rig) redeem(proof, device string) error {
	_, err := r.reg.Put(r.t.Context(), registry.Put{
		App: "chat", Platform: registry.FCM, Token: "token", Device: device, Active: true,
		Authority: registry.Authority{ProofHash: sha256.Sum256([]byte(proof))},
	})
	return err
}

func inBubble(t *testing.T, do func(*testing.T)) { t.Helper(); synctest.Test(t, do) }

func TestCode(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		at := time.Now()
		b := r.begin(Request{Number: alice})
		if b.Expires != at.Add(5*time.Minute) || b.ResendAfter != at.Add(30*time.Second) || b.Nonce != "" || b.ShortCode != "" {
			t.Errorf("Begin = %+v, want five minutes, the next after 30 s, nothing of the other way", b)
		}
		code := r.code()
		want := sms{"Shunt", "Your code for chat is " + code + ".", alice}
		if diff := cmp.Diff([]sms{want}, r.sent, cmp.AllowUnexported(sms{})); diff != "" {
			t.Errorf("SMS (-want +got):\n%s", diff)
		}
		proof, app, err := r.Check(t.Context(), b.ID, code)
		if err != nil || app != "chat" || len(proof) != 43 {
			t.Fatalf("Check(the code) = %q, %q, %v", proof, app, err)
		}
		if _, _, err := r.Check(t.Context(), b.ID, code); !errors.Is(err, registry.ErrNotFound) {
			t.Errorf("Check(the code, again) = %v, want it used", err)
		}
		if err := r.redeem(proof, "phone"); err != nil {
			t.Errorf("the proof = %v", err)
		}
		if err := r.redeem(proof, "tablet"); !errors.Is(err, registry.ErrProof) {
			t.Errorf("the proof for a second device = %v, want %v", err, registry.ErrProof)
		}
	})
}

// TestWrongCodes: so many tries end a verification, whatever comes then; fewer do
// not, and other verifications have their own.
func TestWrongCodes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		const most = 5
		for tries := range most + 1 {
			b := r.begin(Request{Number: alice + msg.Number(tries)})
			code := r.code()
			for i := range tries {
				if _, _, err := r.Check(t.Context(), b.ID, wrong(code)); !errors.Is(err, registry.ErrCode) {
					t.Errorf("%d wrong before: Check(wrong) = %v, want %v", i, err, registry.ErrCode)
				}
			}
			proof, _, err := r.Check(t.Context(), b.ID, code)
			switch burnt := tries >= most; {
			case burnt && (!errors.Is(err, registry.ErrNotFound) || proof != ""):
				t.Errorf("after %d wrong codes: Check(right) = %q, %v, want it burnt", tries, proof, err)
			case !burnt && err != nil:
				t.Errorf("after %d wrong codes: Check(right) = %v", tries, err)
			}
		}
	})
}

// TestForeignCodes: a code is good with its own verification alone.
func TestForeignCodes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		a := r.begin(Request{Number: alice})
		first := r.code()
		b := r.begin(Request{Number: bob})
		if second := r.code(); first != second { // one in a million
			if _, _, err := r.Check(t.Context(), b.ID, first); !errors.Is(err, registry.ErrCode) {
				t.Errorf("Check(the code of another) = %v, want %v", err, registry.ErrCode)
			}
		}
		for _, id := range []string{"", "!", a.ID[1:], a.ID + "AA", strings.Repeat("A", 22)} {
			if _, _, err := r.Check(t.Context(), id, first); !errors.Is(err, registry.ErrNotFound) {
				t.Errorf("Check(id %q) = %v, want %v", id, err, registry.ErrNotFound)
			}
		}
		for _, code := range []string{"", first + "0", " " + first, first[:5]} {
			if _, _, err := r.Check(t.Context(), b.ID, code); !errors.Is(err, registry.ErrCode) {
				t.Errorf("Check(%q) = %v, want %v", code, err, registry.ErrCode)
			}
		}
		if _, _, err := r.Check(t.Context(), a.ID, first); err != nil {
			t.Errorf("Check(the code) = %v", err)
		}
	})
}

// TestTimes: five minutes for the code, ten from there for the proof.
func TestTimes(t *testing.T) {
	for _, c := range []struct {
		name       string
		code       time.Duration // from the code's end
		proof      time.Duration // from the proof's
		inTime, ok bool
	}{
		{"both just in time", -time.Second, -time.Second, true, true},
		{"the code at its end", 0, 0, false, false},
		{"the code late", time.Hour, 0, false, false},
		{"the proof at its end", -time.Minute, 0, true, false},
		{"the proof late", -time.Minute, time.Hour, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				r := newRig(t, nil)
				begun := time.Now()
				b := r.begin(Request{Number: alice})
				time.Sleep(time.Until(begun.Add(5*time.Minute + c.code)))
				proof, _, err := r.Check(t.Context(), b.ID, r.code())
				switch {
				case c.inTime && err != nil:
					t.Fatalf("Check = %v", err)
				case !c.inTime:
					if !errors.Is(err, registry.ErrNotFound) {
						t.Errorf("Check = %v, want %v", err, registry.ErrNotFound)
					}
					return
				}
				time.Sleep(10*time.Minute + c.proof)
				if err := r.redeem(proof, "phone"); (err == nil) != c.ok || err != nil && !errors.Is(err, registry.ErrProof) {
					t.Errorf("the proof = %v, want taken: %v", err, c.ok)
				}
			})
		})
	}
}

// TestSilent: an SMS with the nonce, from the number itself, proves it.
func TestSilent(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		b := r.begin(Request{Number: alice, Silent: true})
		if len(r.sent) != 0 || b.ShortCode != "60555" || len(b.Nonce) != nonceLength {
			t.Fatalf("Begin = %+v and %d SMS, want the short code, a nonce, no SMS", b, len(r.sent))
		}
		check := func(what, code string, want error) (proof string) {
			t.Helper()
			proof, _, err := r.Check(t.Context(), b.ID, code)
			if !errors.Is(err, want) || (err == nil) != (want == nil) {
				t.Errorf("Check %s = %v, want %v", what, err, want)
			}
			return proof
		}
		check("before the SMS", "", registry.ErrPending)
		check("by the nonce itself", b.Nonce, registry.ErrPending)
		for _, c := range []struct {
			from msg.Number
			text string
			want Taken
		}{
			{bob, b.Nonce, NotOurs}, // somebody else sends it
			{alice, strings.Repeat("A", nonceLength), NotOurs},
			{alice, "hello", NotOurs},
			{alice, "", NotOurs},
		} {
			if got, err := r.Message(t.Context(), c.from, c.text); got != c.want || err != nil {
				t.Errorf("Message(%s, %q) = %v, %v, want %v", c.from, c.text, got, err, c.want)
			}
		}
		check("after what does not prove it", "", registry.ErrPending)
		for range 2 { // the SMSC may deliver it twice
			if got, err := r.Message(t.Context(), alice, " verify "+strings.ToLower(b.Nonce)+"\r\nthank you"); got != Proven || err != nil {
				t.Errorf("Message(the nonce) = %v, %v, want %v", got, err, Proven)
			}
		}
		if err := r.redeem(check("after the SMS", "", nil), "phone"); err != nil {
			t.Errorf("the proof = %v", err)
		}
		check("again", "", registry.ErrNotFound)
		if got, err := r.Message(t.Context(), alice, b.Nonce); got != NotOurs || err != nil {
			t.Errorf("Message(a nonce that is used) = %v, %v, want %v", got, err, NotOurs)
		}

		late := r.begin(Request{Number: bob, Silent: true})
		time.Sleep(GoodFor)
		if got, err := r.Message(t.Context(), bob, late.Nonce); got != NotOurs || err != nil {
			t.Errorf("Message(a nonce after its time) = %v, %v, want %v", got, err, NotOurs)
		}
	})
}

func TestStop(t *testing.T) {
	r := newRig(t, nil)
	for _, n := range []msg.Number{alice, bob} {
		if _, err := r.reg.Put(t.Context(), registry.Put{Number: n, App: "chat", Platform: registry.FCM, Token: "t", Active: true}); err != nil {
			t.Fatal(err)
		}
	}
	for _, text := range []string{"STOP", " stop\n", "Arret", "stop"} { // the last ones find nobody
		if got, err := r.Message(t.Context(), alice, text); got != Stopped || err != nil {
			t.Errorf("Message(%q) = %v, %v, want %v", text, got, err, Stopped)
		}
	}
	if got, err := r.Message(t.Context(), bob, "please stop"); got != NotOurs || err != nil {
		t.Errorf("Message(a sentence) = %v, %v, want %v", got, err, NotOurs)
	}
	if _, err := r.reg.Get(alice); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("who said STOP = %v, want %v", err, registry.ErrNotFound)
	}
	if _, err := r.reg.Get(bob); err != nil {
		t.Errorf("who did not = %v", err)
	}
}

func TestOurs(t *testing.T) {
	nonce := strings.Repeat("A2", nonceLength/2)
	for _, c := range []struct {
		code, to, text string
		want           bool
	}{
		{"60555", "60555", "STOP", true},
		{"60555", "+60555", "stop ", true},
		{"+60555", "60555", nonce, true},
		{"60555", "60555", "my code: " + strings.ToLower(nonce), true},
		{"60555", "60556", "STOP", false},
		{"60555", "60555", "hello", false},
		{"60555", "60555", nonce + "A", false},
		{"60555", "60555", nonce[1:], false},
		{"60555", "60555", nonce[1:] + "1", false}, // no digit of base32
		{"", "", "STOP", false},
	} {
		s := New(Options{ShortCode: c.code, StopWords: []string{"STOP"}})
		if got := s.Ours(c.to, c.text); got != c.want {
			t.Errorf("short code %q: Ours(%q, %q) = %v, want %v", c.code, c.to, c.text, got, c.want)
		}
	}
}

// TestOff: a way that is not configured, or a format that does not fit, costs
// nothing: no SMS, no limit, no row.
func TestOff(t *testing.T) {
	for name, c := range map[string]struct {
		set  func(*Options)
		q    Request
		want error
	}{
		"codes":          {func(o *Options) { o.Sender = "" }, Request{}, ErrOff},
		"silent":         {func(o *Options) { o.ShortCode = "" }, Request{Silent: true}, ErrOff},
		"hash":           {nil, Request{Format: Android, Detail: "short"}, ErrDetail},
		"hash of twelve": {nil, Request{Format: Android, Detail: "FA+9qCX9VSuA"}, ErrDetail},
		"hash with ?":    {nil, Request{Format: Android, Detail: "FA+9qCX9VS?"}, ErrDetail},
		"domain":         {nil, Request{Format: Domain, Detail: "localhost"}, ErrDetail},
		"long domain":    {nil, Request{Format: Domain, Detail: strings.Repeat("d", 57) + ".com"}, ErrDetail},
		"domain, line":   {nil, Request{Format: Domain, Detail: "a.com\n1"}, ErrDetail},
		"detail":         {nil, Request{Detail: "x"}, ErrDetail},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(o *Options) {
				o.Limits = Limits{PerNumber: 1}
				if c.set != nil {
					c.set(o)
				}
			})
			c.q.Number, c.q.App, c.q.From = alice, "chat", home
			for range 3 {
				if b, err := r.Begin(t.Context(), c.q); !errors.Is(err, c.want) || b != (Begun{}) {
					t.Errorf("Begin = %+v, %v, want %v", b, err, c.want)
				}
			}
			if len(r.sent) != 0 || len(r.limits.m) != 0 {
				t.Errorf("%d SMS, %d counts, want none", len(r.sent), len(r.limits.m))
			}
		})
	}
}

// TestNothingIsSentUnstored: what cannot be checked later is not sent.
func TestNothingIsSentUnstored(t *testing.T) {
	r := newRig(t, nil)
	if err := r.reg.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Begin(t.Context(), Request{Number: alice, App: "chat", From: home}); !errors.Is(err, registry.ErrClosed) || len(r.sent) != 0 {
		t.Errorf("Begin without a registry = %v and %d SMS, want %v and none", err, len(r.sent), registry.ErrClosed)
	}
}

// TestSameForEveryNumber: the answer does not tell who is registered.
func TestSameForEveryNumber(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		r := newRig(t, nil)
		if _, err := r.reg.Put(t.Context(), registry.Put{Number: alice, App: "chat", Platform: registry.FCM, Token: "t", Active: true}); err != nil {
			t.Fatal(err)
		}
		var all [2]Begun
		for i, n := range []msg.Number{alice, bob} {
			at := time.Now()
			all[i] = r.begin(Request{Number: n})
			all[i].Expires, all[i].ResendAfter = all[i].Expires.Add(-time.Duration(at.UnixNano())), all[i].ResendAfter.Add(-time.Duration(at.UnixNano()))
			if len(all[i].ID) != 22 {
				t.Errorf("id %q of %s", all[i].ID, n)
			}
			all[i].ID = ""
			r.sent[i].text, r.sent[i].to = sixDigits.ReplaceAllString(r.sent[i].text, "……"), 0
		}
		if all[0] != all[1] || r.sent[0] != r.sent[1] {
			t.Errorf("registered: %+v, %+v\nnobody: %+v, %+v", all[0], r.sent[0], all[1], r.sent[1])
		}
	})
}

// spy notes what is given to the registry.
type spy struct {
	Registry
	begun []registry.Verification
}

func (s *spy) Begin(ctx context.Context, v registry.Verification) error {
	s.begun = append(s.begun, v)
	return s.Registry.Begin(ctx, v)
}

// TestAtRest: neither the directory nor the log has a code, a nonce, a proof or a
// whole number, and a million codes tried against what is stored find nothing
// without the key.
func TestAtRest(t *testing.T) {
	var s *spy
	r := newRig(t, func(o *Options) {
		s = &spy{Registry: o.Registry}
		o.Registry = s
		o.Alarms = AlarmLimits{PrefixDigits: 4, Sequence: 2, Sent: 2, Conversion: 90}
	})
	var secrets []string
	for i := range 20 {
		n := alice + msg.Number(i)
		b := r.begin(Request{Number: n})
		code := r.code()
		secrets = append(secrets, code, b.ID)
		if i%2 == 0 {
			proof, _, err := r.Check(t.Context(), b.ID, code)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := r.Check(t.Context(), b.ID, wrong(code)); err == nil {
				t.Error("a code twice")
			}
			secrets = append(secrets, proof)
		}
		b = r.begin(Request{Number: n, Silent: true, App: "bank"})
		if _, err := r.Message(t.Context(), n, b.Nonce); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Message(t.Context(), n, "STOP"); err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, b.Nonce, b.ID, n.String()[1:])
	}
	if err := r.reg.Close(); err != nil {
		t.Fatal(err)
	}
	text := r.log.String()
	if !strings.Contains(text, "deregistered") || !strings.Contains(text, "as if for the money") {
		t.Fatalf("log = %s, want something in it", text)
	}
	for _, secret := range secrets {
		if strings.Contains(text, secret) {
			t.Errorf("the log has %q in it", secret)
		}
	}
	for _, path := range filesUnder(t, r.dir) {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range secrets {
			raw, _ := base64.RawURLEncoding.DecodeString(secret)
			// An id is no secret at rest: without the code it proves nothing. A code of
			// six digits may stand anywhere by chance, but not in octets that are text.
			if (len(secret) == 43 || len(secret) == nonceLength) && (bytes.Contains(b, []byte(secret)) || len(secret) == 43 && bytes.Contains(b, raw)) || len(secret) == 6 && bytes.Contains(b, []byte(secret)) {
				t.Errorf("%s has %q in it", filepath.Base(path), secret)
			}
		}
	}
	macs := map[[32]byte]string{}
	for _, v := range s.begun {
		if macs[v.MAC] != "" {
			t.Error("two verifications have one MAC")
		}
		macs[v.MAC] = hex.EncodeToString(v.ID[:])
	}
	other := New(Options{Key: bytes.Repeat([]byte{8}, 32)})
	v := s.begun[0]
	for i := range 1_000_000 {
		code := fmt.Sprintf("%06d", i)
		if macs[sha256.Sum256([]byte(code))] != "" || i%1000 == 0 && macs[other.mac("code", v.ID[:], code)] != "" {
			t.Fatalf("the MAC of %s is found without the key", code)
		}
	}
}

// TestMAC: equal secrets of two verifications, labels, or splits between id and
// secret do not have equal MACs.
func TestMAC(t *testing.T) {
	s := New(Options{Key: []byte("key")})
	seen := map[[32]byte]string{}
	for _, label := range []string{"code", "nonce"} {
		for _, id := range []string{"", "1", "12", "13"} {
			for _, secret := range []string{"", "2345", "12345", "345"} {
				what := label + "|" + id + "|" + secret
				m := s.mac(label, []byte(id), secret)
				if seen[m] != "" {
					t.Errorf("%s and %s have one MAC", what, seen[m])
				}
				seen[m] = what
			}
		}
	}
}

func filesUnder(t *testing.T, dir string) (all []string) {
	t.Helper()
	if err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			all = append(all, path)
		}
		return err
	}); err != nil || len(all) < 3 {
		t.Fatalf("files of the registry = %q, %v", all, err)
	}
	return all
}

// TestSecretsAreRandom: every digit and letter comes at every place, as often as
// chance has it.
func TestSecretsAreRandom(t *testing.T) {
	const n = 20_000
	for name, c := range map[string]struct {
		make     func() string
		length   int
		alphabet string
	}{
		"code":  {newCode, 6, "0123456789"},
		"nonce": {newNonce, nonceLength, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"},
	} {
		counts := make([]map[byte]int, c.length)
		for i := range counts {
			counts[i] = map[byte]int{}
		}
		for range n {
			s := c.make()
			if len(s) != c.length || strings.Trim(s, c.alphabet) != "" || c.length == nonceLength && nonceIn(s) != s {
				t.Fatalf("%s = %q", name, s)
			}
			for i := range c.length {
				counts[i][s[i]]++
			}
		}
		for i, m := range counts {
			for _, b := range []byte(c.alphabet) {
				want := float64(n) / float64(len(c.alphabet))
				if got := float64(m[b]); got < want*0.7 || got > want*1.3 { // seven sigma and more
					t.Errorf("%s: %c stands %v times at %d, want about %v", name, b, got, i, want)
				}
			}
		}
	}
}

// TestCodeText: whatever the app's name and the operator's text are, it is one SMS
// with the code, and what the phone looks for is its last line.
func TestCodeText(t *testing.T) {
	const hash = "FA+9qCX9VSu"
	texts := map[string]string{
		"usual": "Your code for {app} is {code}. Give it to nobody.", "ucs2": "Ваш код для {app}: {code}. Никому его не давайте.",
		"long": strings.Repeat("x", 84) + "{code}", "braces": "{{code}} {app}{app}",
	}
	apps := []string{"chat", strings.Repeat("a", 64), "{code}"}
	for name, text := range texts {
		for _, app := range apps {
			for _, c := range []struct {
				f      Format
				detail string
				last   string
			}{
				{Plain, "", ""},
				{Android, hash, "\n" + hash},
				{Domain, "example.com", "\n@example.com #123456"},
				{Domain, strings.Repeat("d", 56) + ".com", "\n@" + strings.Repeat("d", 56) + ".com #123456"},
			} {
				got := codeText(text, &Request{App: app, Format: c.f, Detail: c.detail}, "123456")
				if !single(got) || !strings.HasSuffix(got, c.last) || !strings.Contains(strings.TrimSuffix(got, c.last), "123456") {
					t.Errorf("%s, app %.10q, %d: %q", name, app, c.f, got)
				}
				if c.f == Android && len(got) > maxRetriever {
					t.Errorf("%s, app %.10q: %d octets, the SMS Retriever takes %d", name, app, len(got), maxRetriever)
				}
			}
		}
	}
	if got, want := codeText(texts["usual"], &Request{App: "chat"}, "000042"), "Your code for chat is 000042. Give it to nobody."; got != want {
		t.Errorf("text = %q, want %q", got, want)
	}
}

// TestSingle: to the septet and the octet (3GPP TS 23.040 §9.2.3.16).
func TestSingle(t *testing.T) {
	for text, want := range map[string]bool{
		strings.Repeat("x", 160): true, strings.Repeat("x", 161): false,
		strings.Repeat("€", 80): true, strings.Repeat("€", 80) + "x": false, // an escape and a septet
		strings.Repeat("я", coding.MaxUserData/2): true, strings.Repeat("я", coding.MaxUserData/2+1): false,
	} {
		if got := single(text); got != want {
			t.Errorf("single(%d of %.4q) = %v, want %v", len([]rune(text)), text, got, want)
		}
	}
}

func TestConfirmation(t *testing.T) {
	long := strings.Repeat("a", 64)
	for _, c := range []struct{ sender, confirm, app, want string }{
		{"Shunt", "{app} is registered.", "chat", "chat is registered."},
		{"Shunt", strings.Repeat("я", 40) + "{app}", long, strings.Repeat("я", 40) + "This app"},
		{"Shunt", "", "chat", ""},
		{"", "{app} is registered.", "chat", ""},
	} {
		r := newRig(t, func(o *Options) { o.Sender, o.Confirm = c.sender, c.confirm })
		r.Registered(alice, c.app)
		var want []sms
		if c.want != "" {
			want = []sms{{"Shunt", c.want, alice}}
		}
		if diff := cmp.Diff(want, r.sent, cmp.AllowUnexported(sms{})); diff != "" {
			t.Errorf("Registered(%.10q) with %.10q (-want +got):\n%s", c.app, c.confirm, diff)
		}
	}
}
