package stage

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"shunt/test/sim/provider"
)

// Password is that of every account.
const Password = "demo-pw"

const configText = `# Everything on loopback, everything simulated.
[node]
id = "demo"
data_dir = %q

[[listen]]
addr = %q

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
%s
[[plan]]
name = "demo"
order = ["app", "carrier"]
claim_within = %q
prefer = "possible-loss"

[policy]
divert_from = ["*"]

[api]
listen = %q

[noc]
socket = %q
%s`

// Config is a gateway's configuration in a directory.
type Config struct {
	Dir         string
	Listen, API string // "127.0.0.1:0" when empty
	SMSC, Own   string // addresses of the ESMEs' SMSC, and of the one for fallbacks
	APNs, FCM   provider.Info
	ClaimWithin time.Duration
	Sections    string // more of it, before the last plan
	NOC         string // more of [noc]
}

// Write writes shunt.toml and its password file.
func (c *Config) Write() error {
	chosen := func(addr string) string {
		if addr == "" {
			return "127.0.0.1:0"
		}
		return addr
	}
	text := fmt.Sprintf(configText, c.DataDir(), chosen(c.Listen), c.SMSC, c.Own,
		c.APNs.KeyFile, c.APNs.URL, c.APNs.CAFile, c.FCM.KeyFile, c.FCM.URL, c.FCM.CAFile, c.Sections,
		c.ClaimWithin.String(), chosen(c.API), c.Socket(), c.NOC)
	if err := os.WriteFile(filepath.Join(c.Dir, "smsc-own.password"), []byte(Password+"\n"), 0o600); err != nil {
		return err
	}
	return os.WriteFile(c.File(), []byte(text), 0o600)
}

// File is the configuration's path.
func (c *Config) File() string { return filepath.Join(c.Dir, "shunt.toml") }

// DataDir is node.data_dir.
func (c *Config) DataDir() string { return filepath.Join(c.Dir, "data") }

// Socket is the control socket.
func (c *Config) Socket() string { return filepath.Join(c.Dir, "noc.sock") }

// ReadJSON reads a file that somebody is about to write; false: not yet.
func ReadJSON(path string, v any) bool {
	b, err := os.ReadFile(path)
	return err == nil && json.Unmarshal(b, v) == nil
}
