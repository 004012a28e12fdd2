//go:build interop

package interop

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"shunt/test/sim/handset"
)

const config = `
[node]
id = "interop"
data_dir = %q
[[listen]]
addr = "127.0.0.1:0"
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
listen = "127.0.0.1:0"
[noc]
socket = %q
`

// The destinations. Nobody has the offline phones' tokens.
const (
	unregistered = "447700950001"
	claimingAPNs = "447700900001"
	claimingFCM  = "447700900002"
	offlineAPNs  = "447700900003"
	offlineFCM   = "447700900004"
)

// scene is the gateway between two node peers, with providers and phones.
type scene struct {
	dir        string
	esme, smsc *part
	gateway    *part
	phones     *part
	listen     string // the gateway's SMPP address
}

type provider struct {
	Control string `json:"control"`
	URL     string `json:"url"`
	CAFile  string `json:"ca_file"`
	KeyFile string `json:"key_file"`
}

// set starts everything but the capture and the ESME.
func set(t *testing.T) *scene {
	t.Helper()
	s := &scene{dir: t.TempDir()}
	path := func(name string) string { return filepath.Join(s.dir, name) }
	node, npm := need(t, "node", "nodejs"), need(t, "npm", "npm")
	for _, f := range []string{"package.json", "wire.js", "smsc.js", "esme.js"} {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		write(t, path(f), "%s", b)
	}
	// The version is exact and stands in package.json; a lock would name the
	// registry of whoever wrote it.
	output(t, s.dir, npm, "install", "--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts")
	for _, name := range []string{"shunt", "shuntsim"} {
		output(t, "../..", "go", "build", "-o", path(name), "./cmd/"+name)
	}

	s.smsc = run(t, s.dir, "node-smsc", node, "smsc.js")
	s.smsc.until(t, "its address", func() bool { return len(s.smsc.all("listening")) > 0 })
	behind := s.smsc.all("listening")[0].Addr
	var apns, fcm provider
	for name, v := range map[string]*provider{"apns": &apns, "fcm": &fcm} {
		p := run(t, s.dir, name, path("shuntsim"), name, "--pki", path("pki"), "--addr-file", path(name+".json"))
		poll(t, name, p, func() bool { return readJSON(path(name+".json"), v) })
	}
	socket := path("noc.sock")
	write(t, path("own.password"), "own-pw\n")
	write(t, path("shunt.toml"), config, path("data"), behind, behind,
		apns.KeyFile, apns.URL, apns.CAFile, fcm.KeyFile, fcm.URL, fcm.CAFile, socket)
	s.gateway = run(t, s.dir, "shunt", path("shunt"), "run", "-c", path("shunt.toml"))
	noc := overSocket(socket)
	var st struct {
		Ready    bool     `json:"index_ready"`
		FailOpen []string `json:"fail_open"`
		Listen   []string `json:"listen"`
		API      []string `json:"api"`
	}
	poll(t, "the gateway", s.gateway, func() bool {
		resp, err := noc.Get("http://noc/v1/status")
		if err != nil {
			return false
		}
		defer func() { _ = resp.Body.Close() }()
		return json.NewDecoder(resp.Body).Decode(&st) == nil && st.Ready && len(st.FailOpen) == 0 && len(st.API) > 0
	})
	s.listen = st.Listen[0]
	s.people(t, noc)
	s.phones = run(t, s.dir, "handset", path("shuntsim"), "handset", "--api", "http://"+st.API[0],
		"--pushes", apns.Control+","+fcm.Control, "--devices", path("phones.ndjson"), "--book", path("handset.ndjson"),
		"--ready-file", path("handset.json"), "--twice", "0.5")
	poll(t, "the phones", s.phones, func() bool { return readJSON(path("handset.json"), &struct{}{}) })
	return s
}

// people registers four numbers; only two of them have a phone that is on.
func (s *scene) people(t *testing.T, noc *http.Client) {
	t.Helper()
	var all, on strings.Builder
	for i, number := range []string{claimingAPNs, claimingFCM, offlineAPNs, offlineFCM} {
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
	write(t, filepath.Join(s.dir, "phones.ndjson"), "%s", on.String())
	resp, err := noc.Post("http://noc/v1/registry/bulk", "application/x-ndjson", strings.NewReader(all.String()))
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		t.Fatalf("provision: %s", resp.Status)
	}
}
