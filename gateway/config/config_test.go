package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shunt/gateway/msg"
	"shunt/smpp/coding"
)

// credentials makes the directory of secrets that the files in testdata name,
// fit and unfit ones, and has $CREDENTIALS_DIRECTORY point there.
func credentials(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	key, cert := keyPair(t, elliptic.P256())
	p384, _ := keyPair(t, elliptic.P384())
	account := func(typ, key string) string {
		b, err := json.Marshal(map[string]string{
			"type": typ, "project_id": "chat-1", "client_email": "push@example.com", "private_key": key,
		})
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for name, content := range map[string]string{
		"own.password":  "s3cret\n",
		"long.password": "ninechars",
		"chat.p8":       key,
		"p384.p8":       p384,
		"public.pem":    cert,
		"ca.pem":        cert,
		"chat.json":     account("service_account", key),
		"user.json":     account("authorized_user", key),
		"keyless.json":  account("service_account", ""),
		"empty":         " \n",
		"huge":          strings.Repeat("x", maxSecret+1),
	} {
		write(t, filepath.Join(dir, name), content)
	}
	if err := os.Mkdir(filepath.Join(dir, "directory"), 0o700); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t testing.TB, path, content string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func keyPair(t testing.TB, c elliptic.Curve) (key, cert string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true}
	self, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: self}))
}

// TestFiles loads every file in testdata. A file ends in the faults that it
// has, each behind "# want ": all of them, in order, word for word. {creds}
// and {dir} stand for the directories of the credentials and of the file.
func TestFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/*.toml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	creds := credentials(t)
	dir, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var want []string
			for line := range strings.Lines(string(data)) {
				if w, ok := strings.CutPrefix(line, "# want "); ok {
					want = append(want, strings.TrimSpace(w))
				}
			}
			c, faults, err := Load(file)
			if err != nil {
				t.Fatalf("Load(%s): %v", file, err)
			}
			var got []string
			for line := range strings.Lines(Text(faults)) {
				line = strings.TrimSpace(strings.TrimPrefix(line, file+":"))
				line = strings.ReplaceAll(line, creds, "{creds}")
				got = append(got, strings.ReplaceAll(line, dir, "{dir}"))
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("faults of %s (-want +got):\n%s", file, d)
			}
			if (c == nil) != Fatal(faults) {
				t.Errorf("Load(%s) gave a Config: %t, fatal: %t", file, c != nil, Fatal(faults))
			}
		})
	}
}

func load(t *testing.T, file string) *Config {
	t.Helper()
	c, faults, err := Load(file)
	if err != nil || c == nil {
		t.Fatalf("Load(%s): %v\n%s", file, err, Text(faults))
	}
	return c
}

// secretPaths compares secrets by where they were found.
var secretPaths = cmp.Options{
	cmp.Comparer(func(a, b Secret) bool { return a.path == b.path }),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b *time.Location) bool { return a == b || a != nil && b != nil && a.String() == b.String() }),
}

var defaultLimits = Limits{
	Unbound: 4096, UnboundPerSource: 1000, ConnectRate: 200,
	BindFailures: 10, BindFailureWindow: time.Minute, BlockFirst: 10 * time.Second, BlockMost: 5 * time.Minute,
	UpstreamDials: 64,
}

func TestFull(t *testing.T) {
	creds := credentials(t)
	dir, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	london, err := time.LoadLocation("Europe/London")
	if err != nil {
		t.Fatal(err)
	}
	secret := func(name string) Secret { return Secret{path: filepath.Join(creds, name)} }
	want := &Config{
		File:   "testdata/full.toml",
		Node:   Node{ID: "edge-1", DataDir: filepath.Join(dir, "data")},
		Listen: []Listen{{Addr: "127.0.0.1:0"}, {Addr: "[::]:2776"}},
		Intercept: Intercept{
			Upstream: "smsc-a", Divert: DivertShadow, FallbackSMSC: "smsc-own",
			ProbeEvery: time.Minute,
		},
		Accounts: []Account{
			{SystemID: "bank", Divert: true, DefaultAlphabet: coding.Latin1},
			{SystemID: "news", DefaultAlphabet: coding.ASCII},
			{SystemID: "plain", DefaultAlphabet: coding.GSM7, DataCoding1: coding.GSM7, LocalAddr: netip.MustParseAddr("203.0.113.5")},
		},
		SMSCs: []SMSC{
			{Name: "smsc-a", Addr: "smsc.example.net:2775", Sessions: 2, Window: 500, Rate: 2000},
			{
				Name: "smsc-own", Addr: "[2001:db8::7]:2775", SystemID: "shunt", Password: secret("own.password"),
				Bind: TransmitterReceiver, Sessions: 3, Window: 32, Rate: 20, MessageID: IDHexRespDecReceipt,
			},
		},
		Apps: []App{
			{
				ID: "chat", Body: BodyText, ActiveFor: day, InactiveAfter: 7 * day,
				APNs: &APNs{
					TeamID: "ABCDE12345", KeyID: "FGHIJ67890", Key: secret("chat.p8"), Topic: "com.example.chat",
					Endpoint: "https://127.0.0.1:2197", CA: secret("ca.pem"),
				},
				FCM: &FCM{
					ServiceAccount: secret("chat.json"), Endpoint: "https://127.0.0.1:2198/v1", CA: secret("ca.pem"),
				},
			},
			{ID: "ios-only", ActiveFor: day, InactiveAfter: 7 * day, APNs: &APNs{
				TeamID: "ABCDE12345", KeyID: "FGHIJ67890", Key: secret("chat.p8"), Topic: "com.example.other",
			}},
		},
		Plans: []Plan{
			{
				Name: "news",
				Match: Match{
					To: []string{"+44", "+353"}, From: []string{"NEWS*"},
					Account: []string{"bank", "news"}, ServiceType: []string{"", "CMT"},
				},
				Order: []Channel{ViaApp, Carrier}, ClaimWithin: 2 * time.Minute, Lease: time.Minute, Prefer: msg.PossibleDuplicate,
			},
			{
				Name: "ads",
				Match: Match{
					Priority: []byte{0, 3}, Content: []msg.Content{msg.ContentOneTimeCode, msg.ContentPromotional},
					Hours: []msg.Hours{{From: 8 * 60, To: 20*60 + 30}, {From: 22 * 60, To: 6 * 60}, {From: 0, To: 24 * 60}}, Zone: london,
				},
				Order: []Channel{ViaApp, Carrier}, ClaimWithin: 30 * time.Second, Lease: 10 * time.Second, Prefer: msg.PossibleLoss,
			},
			{
				Name: "never", Match: Match{From: []string{"112"}}, Order: []Channel{Carrier},
				ClaimWithin: 30 * time.Second, Lease: 10 * time.Second, Prefer: msg.PossibleLoss,
			},
			BuiltInPlan(),
		},
		Policy: Policy{
			DivertFrom: []string{"*", "BANK"}, NeverDivertFrom: []string{"BANK*", "112"},
			NeverDivertServiceType: []string{}, AllowOTP: true, OTPAfterProof: 3 * day, Share: 10, AcceptedWithin: 24 * time.Hour,
		},
		Retention: Retention{Messages: 30 * day, Audit: 400 * day},
		CDR:       CDR{Forwarded: true, MaxSize: 1 << 30, MaxAge: time.Hour, Retention: 90 * day},
		API: API{
			Listen: "[::1]:8444", Rate: 20, CORSOrigins: []string{"https://app.example.com"},
			Streams: 500, StreamGrace: 2 * time.Second, ReplyValidity: 24 * time.Hour,
		},
		NOC: NOC{
			Socket: "/tmp/noc.sock", Listen: "127.0.0.1:9465", Hosts: []string{"noc.example.com", "edge-1"}, AlarmWebhook: "https://noc.example.com/hooks/1?node=edge",
			AlarmWebhookToken: Secret{path: filepath.Join(creds, "own.password")}, AlarmWebhookCA: Secret{path: filepath.Join(creds, "ca.pem")},
		},
		Log: Log{FullNumbers: true, Level: slog.LevelDebug, Messages: MessagesAll},
		SMPP: SMPP{
			SessionInit: 5 * time.Second, EnquireLink: time.Minute, Response: 90 * time.Second,
			MaxPDU: 1 << 20, WriteStall: time.Hour, Window: 65536, WriteBuffer: 1 << 20,
		},
		Limits:       defaultLimits,
		Verification: defaultVerification,
		Registry: Registry{RecycledEvery: time.Minute, External: []ExternalRegistry{
			{
				Name: "hlr", URL: "https://reg.example/v1/numbers/{number}", Token: Secret{path: filepath.Join(creds, "own.password")},
				To: []string{"+44", "+353"}, Timeout: 200 * time.Millisecond, Concurrency: 8, Cache: 1000,
				PositiveTTL: 2 * time.Minute, NegativeTTL: time.Hour,
			},
			{
				Name: "ported", URL: "http://localhost:8080/?n={number}", Timeout: 150 * time.Millisecond, Concurrency: 64, Cache: 100_000,
				PositiveTTL: time.Minute, NegativeTTL: 30 * time.Second,
			},
		}},
	}
	got := load(t, "testdata/full.toml")
	if d := cmp.Diff(want, got, secretPaths); d != "" {
		t.Errorf("Load(full.toml) (-want +got):\n%s", d)
	}
	own, _ := got.SMSC("smsc-own")
	if p := string(own.Password.Bytes()); p != "s3cret" {
		t.Errorf("password = %q, want it without its line end", p)
	}
	if got.Plans[2].AppFirst() || !got.Plans[0].AppFirst() || (&Plan{}).AppFirst() {
		t.Error("AppFirst: want only the plans with the app in front")
	}
}

func TestDefaults(t *testing.T) {
	creds := credentials(t)
	host, err := os.Hostname()
	if err != nil || identifier(host) != nil {
		host = "shunt"
	}
	want := &Config{
		File:      "testdata/minimal.toml",
		Node:      Node{ID: host, DataDir: "/var/lib/shunt"},
		Listen:    []Listen{{Addr: "0.0.0.0:2775"}},
		Intercept: Intercept{Upstream: "smsc-a", Divert: DivertOn, FallbackSMSC: "smsc-own", ProbeEvery: 10 * time.Second},
		SMSCs: []SMSC{
			{Name: "smsc-a", Addr: "192.0.2.1:2775", Sessions: 2, Window: 500, Rate: 2000},
			{
				Name: "smsc-own", Addr: "192.0.2.1:2775", Sessions: 2, Window: 500, Rate: 2000,
				SystemID: "shunt", Password: Secret{path: filepath.Join(creds, "own.password")},
			},
		},
		Apps:  []App{{ID: "chat", ActiveFor: day, InactiveAfter: 7 * day, FCM: &FCM{ServiceAccount: Secret{path: filepath.Join(creds, "chat.json")}}}},
		Plans: []Plan{BuiltInPlan()},
		Policy: Policy{
			DivertFrom: []string{"*"}, NeverDivertServiceType: []string{"WAP", "VMA", "VMN", "USSD"}, Share: 100, OTPAfterProof: 3 * day,
		},
		Retention: Retention{Messages: 72 * time.Hour, Audit: 3 * 365 * day},
		CDR:       CDR{MaxSize: 64 << 20, MaxAge: day, Retention: 30 * day},
		API:       API{Listen: "127.0.0.1:8443", Rate: 100, Streams: 10_000, StreamGrace: 1500 * time.Millisecond, ReplyValidity: 72 * time.Hour},
		NOC:       NOC{Socket: "/run/shunt/noc.sock", Listen: "127.0.0.1:9464"},
		Log:       Log{Level: slog.LevelInfo, Messages: MessagesFinal},
		SMPP: SMPP{
			SessionInit: 10 * time.Second, EnquireLink: 30 * time.Second, Response: 60 * time.Second,
			MaxPDU: 70 << 10, WriteStall: 30 * time.Second, Window: 4096, WriteBuffer: 1 << 20,
		},
		Limits:       defaultLimits,
		Verification: defaultVerification, Registry: Registry{RecycledEvery: time.Minute},
	}
	if d := cmp.Diff(want, load(t, "testdata/minimal.toml"), secretPaths); d != "" {
		t.Errorf("Load(minimal.toml) (-want +got):\n%s", d)
	}
	transit := load(t, "testdata/transit.toml")
	if p := transit.Policy.DivertFrom; p != nil {
		t.Errorf("divert_from = %q without one in the file, want none", p)
	}
}

// TestAccounts: opting in is by account once there are accounts.
func TestAccounts(t *testing.T) {
	credentials(t)
	all := load(t, "testdata/minimal.toml")
	some := load(t, "testdata/full.toml")
	for _, tt := range []struct {
		c    *Config
		id   string
		want Account
	}{
		{all, "anyone", Account{SystemID: "anyone", Divert: true, DefaultAlphabet: coding.GSM7}},
		{some, "bank", Account{SystemID: "bank", Divert: true, DefaultAlphabet: coding.Latin1}},
		{some, "news", Account{SystemID: "news", Divert: false, DefaultAlphabet: coding.ASCII}},
		{some, "anyone", Account{SystemID: "anyone", Divert: false, DefaultAlphabet: coding.GSM7}},
	} {
		if d := cmp.Diff(tt.want, tt.c.Account(tt.id), secretPaths); d != "" {
			t.Errorf("Account(%q) of %s (-want +got):\n%s", tt.id, tt.c.File, d)
		}
	}
	if m, ok := some.SMSC("nobody"); ok {
		t.Errorf("SMSC(nobody) = %+v", m)
	}
}

func TestLoadUnreadable(t *testing.T) {
	path := filepath.Join(t.TempDir(), "none.toml")
	if _, _, err := Load(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("Load of no file: %v, want an error that names %s", err, path)
	}
	write(t, path, strings.Repeat("#", maxFile+1))
	if _, _, err := Load(path); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("Load of a huge file: %v, want it refused", err)
	}
}

// TestLoadHostile loads the largest files of the kinds that make parsers run
// out of stack or of time. Each must come to an end with faults.
func TestLoadHostile(t *testing.T) {
	for _, tt := range []struct{ name, before, part, after string }{
		{"open brackets", "a = ", "[", ""},
		{"open braces", "a = ", "{a=", ""},
		{"a dotted key", "", "a.", "a = 1"},
		{"a dotted header", "[", "a.", "a]"},
		{"array tables", "", "[[listen]]\n", ""},
		{"control characters", "", "\n\x00", ""},
		{"an unknown key", "", "a", " = 1"},
		{"list items", "[policy]\ndivert_from = [", "1,", "]"},
		{"one long string", "node.id = \"", "é", "\""},
	} {
		path := filepath.Join(t.TempDir(), "hostile.toml")
		n := (maxFile - len(tt.before) - len(tt.after)) / len(tt.part)
		write(t, path, tt.before+strings.Repeat(tt.part, n)+tt.after)
		_, faults, err := Load(path)
		if err != nil || !Fatal(faults) {
			t.Errorf("Load of a file full of %s: error %v, fatal %t, want faults", tt.name, err, Fatal(faults))
		}
		for _, f := range faults {
			if len(f.String()) > 1000 {
				t.Errorf("Load of a file full of %s: a fault of %d octets", tt.name, len(f.String()))
				break
			}
		}
	}
}

func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob("testdata/*.toml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	credentials(f)
	path := filepath.Join(f.TempDir(), "shunt.toml")
	f.Fuzz(func(t *testing.T, data []byte) {
		c, faults := parse(path, data)
		lines := strings.Count(string(data), "\n") + 1
		for _, fault := range faults {
			if fault.Line < 1 || fault.Line > lines || fault.Col < 1 || fault.Text == "" {
				t.Errorf("parse(%q): fault without a place in the file: %+v", data, fault)
			}
			if s := fault.String(); strings.ContainsAny(s, "\n\r") {
				t.Errorf("parse(%q): fault of several lines: %q", data, s)
			}
		}
		if Fatal(faults) {
			return
		}
		if len(c.Listen) == 0 || c.Intercept.Upstream == "" || c.SMPP.Window == 0 || len(c.Plans) == 0 {
			t.Errorf("parse(%q): no faults, but not whole: %+v", data, c)
		}
	})
}

var defaultVerification = Verification{
	StopWords: []string{"STOP"}, Text: "Your code for {app} is {code}. Give it to nobody.",
	BearerGrace: 10 * time.Minute, PerNumber: 5, PerAddress: 20, PerSubnet: 100, PerApp: 10_000, PerPrefix: 1000, PrefixDigits: 6,
	AlarmSequence: 10, AlarmSent: 50, AlarmConversion: 10,
}
