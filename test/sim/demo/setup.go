package demo

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"shunt/test/sim/handset"
)

// Fictitious numbers: Ofcom keeps +44 7700 900xxx for drama; the same block
// with two digits more is nobody's either.
const (
	registeredFrom   = 447700900_000
	unregisteredFrom = 447700950_000
	inactiveShare    = 0.05
	claimWithin      = 3 * time.Second
)

const configText = `# The demo's configuration: everything on loopback, everything simulated.
[node]
id = "demo"
data_dir = %q

[[listen]]
addr = "127.0.0.1:0"

[intercept]
mode = "transparent"
upstream = "smsc-a"
divert = "on"
fallback_smsc = "smsc-own"

[[smsc]]
name = "smsc-a"
addr = %q

[[smsc]]
name = "smsc-own"
addr = %q
system_id = "shunt"
password_file = "smsc-own.password"
bind = "transceiver"
sessions = 2
window = 100

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
name = "demo"
order = ["app", "carrier"]
claim_within = %q
prefer = "possible-loss"

[policy]
divert_from = ["*"]

[api]
listen = "127.0.0.1:0"

[noc]
socket = %q
`

// provider is what a push simulator writes to its --addr-file.
type provider struct {
	Addr    string `json:"addr"`
	Control string `json:"control"`
	URL     string `json:"url"`
	CAFile  string `json:"ca_file"`
	KeyFile string `json:"key_file"`
}

func readJSON(path string, v any) bool {
	b, err := os.ReadFile(path)
	return err == nil && json.Unmarshal(b, v) == nil
}

// configure writes shunt.toml and its password file.
func (d *demo) configure(smsc string, apns, fcm provider) error {
	text := fmt.Sprintf(configText, filepath.Join(d.dir, "data"), smsc, smsc,
		apns.KeyFile, apns.URL, apns.CAFile, fcm.KeyFile, fcm.URL, fcm.CAFile, claimWithin.String(), d.socket)
	if err := os.WriteFile(filepath.Join(d.dir, "smsc-own.password"), []byte(password+"\n"), 0o600); err != nil {
		return err
	}
	return os.WriteFile(d.path("shunt.toml"), []byte(text), 0o600)
}

// people writes the phones' file and the list of destinations, registered and
// not.
func (d *demo) people() error {
	rng := rand.New(rand.NewPCG(d.o.Seed, 0x44454d4f))
	word := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return hex.EncodeToString(b)
	}
	var devices, numbers bytes.Buffer
	enc := json.NewEncoder(&devices)
	for i := range d.o.Numbers {
		v := handset.Device{
			Number: fmt.Sprintf("+%d", registeredFrom+i), App: "chat", Platform: "apns", Token: word(32),
			Device: fmt.Sprintf("phone-%05d", i), Bearer: word(32), State: "active",
		}
		if i%2 == 1 {
			v.Platform, v.Token = "fcm", fmt.Sprintf("fcm%05d:APA91b%s", i, word(24))
		}
		if rng.Float64() < inactiveShare {
			v.State = "inactive"
		}
		if err := enc.Encode(v); err != nil {
			return err
		}
		fmt.Fprintf(&numbers, "%d\n%d\n", registeredFrom+i, unregisteredFrom+i)
	}
	if err := os.WriteFile(d.path("devices.ndjson"), devices.Bytes(), 0o600); err != nil {
		return err
	}
	return os.WriteFile(d.path("numbers.txt"), numbers.Bytes(), 0o600)
}

// control is HTTP over the gateway's control socket.
type control struct{ c *http.Client }

func newControl(socket string) control {
	return control{&http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var nd net.Dialer
			return nd.DialContext(ctx, "unix", socket)
		},
	}}}
}

// status is what the demo needs to know of GET /v1/status.
type status struct {
	IndexReady bool     `json:"index_ready"`
	Listen     []string `json:"listen"`
	API        []string `json:"api"`
	FailOpen   []string `json:"fail_open"` // why nothing would be diverted
	Spool      struct {
		LiveTotal   int `json:"live_total"`
		ReceiptsDue int `json:"receipts_due"`
		Queued      int `json:"queued"`
	} `json:"spool"`
}

func (c control) status() (s status, ok bool) {
	resp, err := c.c.Get("http://noc/v1/status")
	if err != nil {
		return s, false
	}
	defer func() { _ = resp.Body.Close() }()
	return s, resp.StatusCode == http.StatusOK && json.NewDecoder(resp.Body).Decode(&s) == nil
}

// ready tells whether the gateway can do all that the demo asks of it.
func (s *status) ready() bool {
	return s.IndexReady && len(s.FailOpen) == 0 && len(s.Listen) > 0 && len(s.API) > 0
}

// provision puts every phone into the registry.
func (c control) provision(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	resp, err := c.c.Post("http://noc/v1/registry/bulk", "application/x-ndjson", bufio.NewReader(f))
	if err != nil {
		return fmt.Errorf("provision: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode/100 != 2 {
		b, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		return fmt.Errorf("provision: %s: %s", resp.Status, strings.TrimSpace(string(b)))
	}
	return nil
}
