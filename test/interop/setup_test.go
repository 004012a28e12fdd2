//go:build interop

package interop

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"shunt/gateway/noc"
	"shunt/test/sim/handset"
)

const config = `
[node]
id = "interop"
data_dir = %q
[[listen]]
addr = %q
[intercept]
mode = "transparent"
upstream = "node"
divert = "on"
fallback_smsc = "node-own"
[[smsc]]
name = "node"
addr = %q
[[smsc]]
name = "node-own"
addr = %q
system_id = "shunt"
password_file = "own.password"
[[app]]
id = "chat"
[app.apns]
team_id = "ABCDE12345"
key_id = "FGHIJ67890"
key_file = %q
topic = "com.example.chat"
endpoint = %q
ca_file = %q
[app.fcm]
service_account_file = %q
endpoint = %q
ca_file = %q
[[plan]]
name = "interop"
order = ["app", "carrier"]
claim_within = "2s"
[policy]
divert_from = ["*"]
[api]
listen = %q
[noc]
socket = %q
`

// The destinations. Nobody has the offline phones' tokens; the SMSC reaches none
// of the numbers that end in 66, of which the second is registered and offline.
const (
	unregistered = "447700950001"
	claimingAPNs = "447700900001"
	claimingFCM  = "447700900002"
	offlineAPNs  = "447700900003"
	offlineFCM   = "447700900004"
	unreachable  = "447700950066"
	offlineGone  = "447700900066"
)

// scene is the gateway between two foreign peers, with providers and phones.
type scene struct {
	dir        string
	esme, smsc *part
	gateway    *part
	phones     *part
	apns, fcm  provider
	behind     string // the SMSC's address
	listen     string // the gateway's SMPP address
	api        string // the gateway's HTTP address for the phones
	noc        *http.Client
}

type provider struct {
	Control string `json:"control"`
	URL     string `json:"url"`
	CAFile  string `json:"ca_file"`
	KeyFile string `json:"key_file"`
}

func (s *scene) path(name string) string { return filepath.Join(s.dir, name) }

// set starts everything but the capture and the ESME.
func set(t *testing.T) *scene {
	t.Helper()
	s := backstage(t)
	s.configure(t, "127.0.0.1:0", "127.0.0.1:0", "")
	s.startGateway(t)
	s.people(t)
	s.startPhones(t)
	return s
}

// backstage starts what is behind the gateway: the SMSC, with arguments of its
// own, and the providers.
func backstage(t *testing.T, smscArgs ...string) *scene {
	t.Helper()
	s := &scene{dir: t.TempDir()}
	s.noc = overSocket(s.path("noc.sock"))
	node, npm := need(t, "node", "nodejs"), need(t, "npm", "npm")
	for _, f := range []string{"package.json", "wire.js", "smsc.js", "esme.js"} {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		write(t, s.path(f), "%s", b)
	}
	// The version is exact and stands in package.json; a lock would name the
	// registry of whoever wrote it.
	output(t, s.dir, npm, "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts")
	for _, name := range []string{"shunt", "shuntsim"} {
		output(t, "../..", "go", "build", "-o", s.path(name), "./cmd/"+name)
	}

	s.smsc = run(t, s.dir, "node-smsc", node, append([]string{"smsc.js"}, smscArgs...)...)
	s.smsc.until(t, "its address", func() bool { return len(s.smsc.all("listening")) > 0 })
	s.behind = s.smsc.all("listening")[0].Addr
	for name, v := range map[string]*provider{"apns": &s.apns, "fcm": &s.fcm} {
		p := run(t, s.dir, name, s.path("shuntsim"), name, "--pki", s.path("pki"), "--addr-file", s.path(name+".json"))
		poll(t, name, p, func() bool { return readJSON(s.path(name+".json"), v) })
	}
	write(t, s.path("own.password"), "own-pw\n")
	return s
}

// configure writes the gateway's configuration; more goes to its end.
func (s *scene) configure(t *testing.T, listen, api, more string) {
	t.Helper()
	write(t, s.path("shunt.toml"), config+"%s", s.path("data"), listen, s.behind, s.behind,
		s.apns.KeyFile, s.apns.URL, s.apns.CAFile, s.fcm.KeyFile, s.fcm.URL, s.fcm.CAFile, api, s.path("noc.sock"), more)
}

// startGateway returns when the gateway diverts.
func (s *scene) startGateway(t *testing.T) {
	t.Helper()
	s.gateway = run(t, s.dir, "shunt", s.path("shunt"), "run", "-c", s.path("shunt.toml"))
	var st struct {
		Ready    bool     `json:"index_ready"`
		FailOpen []string `json:"fail_open"`
		Listen   []string `json:"listen"`
		API      []string `json:"api"`
	}
	poll(t, "the gateway", s.gateway, func() bool {
		resp, err := s.noc.Get("http://noc/v1/status")
		if err != nil {
			return false
		}
		defer func() { _ = resp.Body.Close() }()
		return json.NewDecoder(resp.Body).Decode(&st) == nil && st.Ready && len(st.FailOpen) == 0 && len(st.API) > 0
	})
	s.listen, s.api = st.Listen[0], st.API[0]
}

// startPhones switches the phones on that people provided for.
func (s *scene) startPhones(t *testing.T) {
	t.Helper()
	s.phones = run(t, s.dir, "handset", s.path("shuntsim"), "handset", "--api", "http://"+s.api,
		"--pushes", s.apns.Control+","+s.fcm.Control, "--devices", s.path("phones.ndjson"), "--book", s.path("handset.ndjson"),
		"--ready-file", s.path("handset.json"), "--twice", "0.5")
	poll(t, "the phones", s.phones, func() bool { return readJSON(s.path("handset.json"), &struct{}{}) })
}

// people registers five numbers; only two of them have a phone that is on.
func (s *scene) people(t *testing.T) {
	t.Helper()
	var all, on strings.Builder
	for i, number := range []string{claimingAPNs, claimingFCM, offlineAPNs, offlineFCM, offlineGone} {
		v := handset.Device{
			Number: "+" + number, App: "chat", Device: "phone-" + number, State: "active",
			Bearer: strings.Repeat(string(rune('a'+i)), 43), Platform: "apns", Token: strings.Repeat("0123456789abcde"+string(rune('0'+i)), 4),
		}
		if i%2 == 1 {
			v.Platform, v.Token = "fcm", "fcm-token-"+number
		}
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(append(b, '\n'))
		if i < 2 {
			on.Write(append(b, '\n'))
		}
	}
	write(t, s.path("phones.ndjson"), "%s", on.String())
	c := noc.New(s.path("noc.sock"))
	defer c.Close()
	if _, err := c.Import(t.Context(), strings.NewReader(all.String()), noc.FormatNDJSON, false, false, func(*noc.ImportEvent) {}); err != nil {
		t.Fatalf("provision: %v", err)
	}
}
