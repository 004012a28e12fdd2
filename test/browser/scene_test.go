//go:build browser

package browser

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"shunt/test/sim/stage"
)

const (
	token = "operators-token-of-the-test"
	phone = "+447700900000" // the first of stage.People
)

// scene is the gateway with everybody around it.
type scene struct {
	t       *testing.T
	ctx     context.Context
	dir     string
	yard    *stage.Yard
	conf    stage.Config
	ctl     stage.Control
	gateway *stage.Process
	bin     string
	web     string // address of the page
}

func (s *scene) path(name string) string { return filepath.Join(s.dir, name) }

func (s *scene) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) sim(name string, args ...string) *stage.Process {
	s.t.Helper()
	p, err := s.yard.Run(name, nil, filepath.Join(s.bin, "shuntsim"), append([]string{name}, args...)...)
	s.must(err)
	return p
}

func (s *scene) until(what string, p *stage.Process, ok func() bool) {
	s.t.Helper()
	s.must(stage.Until(s.ctx, what, p, ok))
}

// newScene starts all of it, two ESMEs that do not cease to submit included.
func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{t: t, dir: t.TempDir(), bin: t.TempDir()}
	out, err := exec.Command("go", "build", "-o", s.bin, "shunt/cmd/shunt", "shunt/cmd/shuntsim").CombinedOutput()
	if err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute) // from here on: a build takes what it takes
	t.Cleanup(cancel)
	s.ctx, s.yard = ctx, stage.NewYard(s.dir)
	t.Cleanup(s.yard.Close)
	s.must(stage.People(s.dir, 200, 7))
	smsc := s.sim("smsc", "--addr-file", s.path("smsc.json"), "--latency", "5ms", "--jitter", "3ms", "--receipt-delay", "300ms",
		"--accounts", "bank:"+stage.Password+",shop:"+stage.Password+",shunt:"+stage.Password)
	apns := s.sim("apns", "--pki", s.path("pki"), "--addr-file", s.path("apns.json"), "--latency", "20ms")
	fcm := s.sim("fcm", "--pki", s.path("pki"), "--addr-file", s.path("fcm.json"), "--latency", "20ms")
	var at struct {
		SMPP string `json:"smpp"`
	}
	s.until("the SMSC", smsc, func() bool { return stage.ReadJSON(s.path("smsc.json"), &at) })
	s.conf = stage.Config{Dir: s.dir, SMSC: at.SMPP, Own: at.SMPP, ClaimWithin: 2 * time.Second}
	s.until("APNs", apns, func() bool { return stage.ReadJSON(s.path("apns.json"), &s.conf.APNs) })
	s.until("FCM", fcm, func() bool { return stage.ReadJSON(s.path("fcm.json"), &s.conf.FCM) })
	s.web, s.conf.Listen, s.conf.API = freeAddr(t), freeAddr(t), freeAddr(t)
	s.conf.NOC = fmt.Sprintf("listen = %q\ntoken_file = \"noc.token\"\n", s.web)
	s.must(os.WriteFile(s.path("noc.token"), []byte(token+"\n"), 0o600))
	s.must(s.conf.Write())
	s.ctl = stage.NewControl(s.conf.Socket())
	s.start()
	s.must(s.ctl.Provision(s.path(stage.DevicesFile)))
	handset := s.sim("handset", "--api", "http://"+s.conf.API, "--pushes", s.conf.APNs.Control, "--pushes", s.conf.FCM.Control,
		"--devices", s.path(stage.DevicesFile), "--ready-file", s.path("handset.json"), "--offline", "0.15", "--claim-delay", "150ms", "--ack-delay", "80ms")
	s.until("the phones", handset, func() bool { return stage.ReadJSON(s.path("handset.json"), &struct{}{}) })
	for name, rate := range map[string]string{"bank": "60", "shop": "25"} {
		_, err := s.yard.Run("esme-"+name, nil, filepath.Join(s.bin, "shuntsim"), "esme", "--addr", s.conf.Listen, "--system-id", name,
			"--password", stage.Password, "--numbers", s.path(stage.NumbersFile), "--count", "0", "--rate", rate, "--binds", "2", "--reconnect", "--mix", "gsm=1")
		s.must(err)
	}
	s.until("messages are diverted, and fall back", s.gateway, func() bool {
		st, ok := s.ctl.Status()
		return ok && st.Counters.Diverted > 50 && st.Counters.FallbackSent > 2
	})
	return s
}

// start starts the gateway, for the first time or again.
func (s *scene) start() {
	s.t.Helper()
	var err error
	s.gateway, err = s.yard.Run("shunt", nil, filepath.Join(s.bin, "shunt"), "run", "-c", s.conf.File())
	s.must(err)
	s.until("the gateway", s.gateway, func() bool {
		st, ok := s.ctl.Status()
		return ok && st.Ready()
	})
}

// shunt runs an operator's command.
func (s *scene) shunt(args ...string) {
	s.t.Helper()
	if out, err := exec.CommandContext(s.ctx, filepath.Join(s.bin, "shunt"), append(args, "--socket", s.conf.Socket())...).CombinedOutput(); err != nil {
		s.t.Fatalf("shunt %v: %v\n%s", args, err, out)
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// chromium finds the browser, or installs it.
func chromium(t *testing.T) string {
	t.Helper()
	if path, err := exec.LookPath("chromium"); err == nil {
		return path
	}
	for _, args := range [][]string{{"update", "-q"}, {"install", "-qy", "--no-install-recommends", "chromium"}} {
		if out, err := exec.Command("apt-get", args...).CombinedOutput(); err != nil {
			t.Fatalf("apt-get %v: %v\n%s", args, err, out)
		}
	}
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal(err)
	}
	return path
}
