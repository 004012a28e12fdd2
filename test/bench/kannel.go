package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"shunt/smpp/pdu"
)

// kannels are the figures of Kannel's bearerbox as a relay from SMPP to SMPP.
// It is an ESME on both sides: it takes deliver_sm on one bind and, by
// reroute-smsc-id, submits each on another.
type kannels struct {
	Version   string    `json:"version"`
	Case      string    `json:"case"`
	PerSecond []float64 `json:"per_s"`
	CPU       []float64 `json:"cpu_us_per_message"`
	Shunt     []float64 `json:"shunt_per_s"` // in the same rounds
}

// All lists every round.
func (k *kannels) All() string {
	parts := make([]string, len(k.PerSecond))
	for i, v := range k.PerSecond {
		parts[i] = fmt.Sprintf("%.1f", v/1e3)
	}
	return strings.Join(parts, ", ")
}

const (
	kannelPairs  = 8
	kannelWindow = 100
)

const kannelCore = `group = core
admin-port = %d
admin-password = bench
admin-interface = 127.0.0.1
smsbox-port = %d
smsbox-interface = 127.0.0.1
dlr-storage = internal
log-level = 4
log-file = %q

group = smsbox
bearerbox-host = 127.0.0.1

`

// kannelPair is one relayed connection: what comes on the left goes out on the
// right. allowed-smsc-id keeps it from looping back. The smsbox of the core's
// configuration must be named and need not run.
const kannelPair = `group = smsc
smsc = smpp
smsc-id = left%[1]d
allowed-smsc-id = left%[1]d
reroute-smsc-id = right%[1]d
host = 127.0.0.1
port = %[2]d
transceiver-mode = true
smsc-username = left
smsc-password = secret
system-type = VMA
interface-version = 34

group = smsc
smsc = smpp
smsc-id = right%[1]d
allowed-smsc-id = right%[1]d
host = 127.0.0.1
port = %[3]d
transceiver-mode = true
smsc-username = right
smsc-password = secret
system-type = VMA
interface-version = 34
max-pending-submits = %[4]d

`

// kannel measures bearerbox and the gateway in turn, on the same machine.
func (b *bench) kannel(all *results) error {
	box, err := findKannel()
	if err != nil {
		return err
	}
	version, _ := exec.Command(box, "--version").CombinedOutput()
	g, err := startGateway(b.dir, b.shunt, b.registered, b.sink)
	if err != nil {
		return err
	}
	defer g.stop()
	fmt.Fprintf(os.Stderr, "Kannel's bearerbox and the gateway, %d × %d; %d rounds of %s in turn\n", kannelPairs, kannelWindow, b.rounds, 2*b.duration)
	k := &kannels{Case: fmt.Sprintf("%d × %d", kannelPairs, kannelWindow), Version: "bearerbox"}
	if _, rest, ok := strings.Cut(string(version), "version \x60"); ok {
		k.Version, _, _ = strings.Cut(rest, "'")
	}
	for range b.rounds {
		f, cpu, err := b.kannelRound(box)
		if err != nil {
			return err
		}
		s, err := runClient(g.addr, kannelPairs, kannelWindow, b.duration)
		if err != nil {
			return err
		}
		k.PerSecond = append(k.PerSecond, f.rate())
		k.CPU = append(k.CPU, float64(cpu.Microseconds())/float64(f.Messages))
		k.Shunt = append(k.Shunt, s.rate())
	}
	all.Kannel = k
	return nil
}

// findKannel finds bearerbox, and installs it where that is possible. The
// package comes without its init script, so that installing it starts nothing.
func findKannel() (string, error) {
	if p, err := exec.LookPath("bearerbox"); err == nil {
		return p, nil
	}
	apt, err := exec.LookPath("apt-get")
	if err != nil || os.Getuid() != 0 {
		return "", errors.New("bearerbox is not installed, and installing it needs root and apt")
	}
	fmt.Fprintln(os.Stderr, "installing kannel")
	for _, args := range [][]string{{"update"}, {"install", "-y", "--no-install-recommends", "-o", "DPkg::Options::=--path-exclude=/etc/init.d/kannel", "kannel"}} {
		cmd := exec.Command(apt, append([]string{"-q", "-o", "DPkg::Lock::Timeout=120"}, args...)...)
		cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("apt-get %s: %w\n%s", args[0], err, out)
		}
	}
	return exec.LookPath("bearerbox")
}

// kannelRound starts the peers of both sides and bearerbox between them.
func (b *bench) kannelRound(box string) (f figures, cpu time.Duration, err error) {
	dir, err := os.MkdirTemp(b.dir, "kannel-")
	if err != nil {
		return f, 0, err
	}
	self, err := os.Executable()
	if err != nil {
		return f, 0, err
	}
	ports := filepath.Join(dir, "ports")
	peer := exec.Command(self, "-role", "kannel", "-addr", ports, "-conns", strconv.Itoa(kannelPairs),
		"-window", strconv.Itoa(kannelWindow), "-duration", (2 * b.duration).String())
	peer.Stderr = os.Stderr
	out, err := peer.StdoutPipe()
	if err != nil {
		return f, 0, err
	}
	if err := peer.Start(); err != nil {
		return f, 0, err
	}
	defer func() {
		_ = peer.Process.Kill()
		_ = peer.Wait()
	}()
	text, err := waitFile(ports, 10*time.Second)
	if err != nil {
		return f, 0, err
	}
	var left, right int
	if _, err := fmt.Sscan(text, &left, &right); err != nil {
		return f, 0, err
	}
	conf := filepath.Join(dir, "kannel.conf")
	config := fmt.Sprintf(kannelCore, freePort(), freePort(), filepath.Join(dir, "kannel.log"))
	for i := range kannelPairs {
		config += fmt.Sprintf(kannelPair, i+1, left, right, kannelWindow)
	}
	if err := os.WriteFile(conf, []byte(config), 0o600); err != nil {
		return f, 0, err
	}
	bearer := exec.Command(box, conf)
	if err := bearer.Start(); err != nil {
		return f, 0, err
	}
	got := json.NewDecoder(out).Decode(&f)
	cpu = (&gateway{cmd: bearer}).cpu()
	_ = bearer.Process.Kill()
	_ = bearer.Wait()
	if got != nil || f.Messages == 0 {
		log, _ := os.ReadFile(filepath.Join(dir, "kannel.log"))
		return f, 0, fmt.Errorf("nothing came through bearerbox: %v\n%s", got, log[max(0, len(log)-1000):])
	}
	return f, cpu, nil
}

// freePort is a port that nothing listens on at the moment, below those that
// Linux gives to clients.
func freePort() int {
	for {
		port := 20000 + rand.IntN(12000)
		if l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port)); err == nil {
			_ = l.Close()
			return port
		}
	}
}

// kannelPeer is both sides of a relay that is an ESME: it sends deliver_sm on
// the binds of "left" and takes submit_sm on those of "right", and keeps no
// more on the way than the windows of all connections. It begins when all have
// bound, and counts what arrives within d.
func kannelPeer(portsFile string, conns, window int, d time.Duration) error {
	left, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	right, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ports := fmt.Sprintf("%d %d\n", left.Addr().(*net.TCPAddr).Port, right.Addr().(*net.TCPAddr).Port)
	if err := os.WriteFile(portsFile, []byte(ports), 0o600); err != nil {
		return err
	}
	var sent, arrived atomic.Int64
	bound := make(chan net.Conn, 4*conns)
	for range conns {
		if err := acceptBind(right, func(p pdu.PDU) {
			if p.ID() == pdu.SubmitSM {
				arrived.Add(1)
			}
		}, nil); err != nil {
			return err
		}
		if err := acceptBind(left, nil, bound); err != nil {
			return err
		}
	}
	began := time.Now()
	for i := range conns {
		c := <-bound
		go deliver(c, uint64(i), func() bool { return sent.Load()-arrived.Load() < int64(conns*window) }, &sent)
	}
	time.Sleep(d)
	f := figures{Messages: uint64(arrived.Load()), Elapsed: time.Since(began)}
	return json.NewEncoder(os.Stdout).Encode(f)
}

// acceptBind takes one connection, answers all that comes on it, and tells of
// its bind.
func acceptBind(l net.Listener, took func(pdu.PDU), bound chan<- net.Conn) error {
	_ = l.(*net.TCPListener).SetDeadline(time.Now().Add(20 * time.Second))
	c, err := l.Accept()
	if err != nil {
		return fmt.Errorf("bearerbox did not connect: %w", err)
	}
	go func() {
		defer c.Close()
		in, have := make([]byte, 64<<10), 0
		var out []byte
		for {
			n, err := c.Read(in[have:])
			if err != nil {
				return
			}
			have += n
			at := 0
			told := false
			for {
				n, err := pdu.Frame(in[at:have], len(in))
				if err != nil || n == 0 {
					break
				}
				p := pdu.PDU(in[at : at+n])
				if took != nil {
					took(p)
				}
				out = answer(out, p)
				told = told || p.ID().IsBind()
				at += n
			}
			have = copy(in, in[at:have])
			if len(out) > 0 {
				if _, err := c.Write(out); err != nil {
					return
				}
				out = out[:0]
			}
			if told && bound != nil {
				bound <- c
			}
		}
	}()
	return nil
}

// deliver sends deliver_sm while there is room on the way.
func deliver(c net.Conn, seed uint64, room func() bool, sent *atomic.Int64) {
	r := rand.New(rand.NewPCG(seed, 1))
	for seq := uint32(1); ; seq++ {
		for !room() {
			time.Sleep(100 * time.Microsecond)
		}
		var m pdu.SM
		_ = m.Decode(message(firstFree + r.Uint64N(100_000_000)))
		m.TLVs = nil // Kannel drops them
		m.RegisteredDelivery = 0
		sent.Add(1)
		if _, err := c.Write(pdu.AppendSM(nil, pdu.DeliverSM, seq, &m)); err != nil {
			return
		}
	}
}
