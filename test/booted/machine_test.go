//go:build booted

package booted

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// patience bounds every wait of a test.
const patience = time.Minute

// root is the repository.
const root = "../.."

// tree is the system that is booted: made once, kept in build/.
const (
	tree    = root + "/build/rootfs-1"
	include = "systemd,systemd-sysv,dbus,iproute2,procps"
)

// setUp installs what the tests need of this machine, and makes the tree.
func setUp(t *testing.T) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Fatal("want root: a container is booted")
	}
	for tool, pkg := range map[string]string{"mmdebstrap": "mmdebstrap", "systemd-nspawn": "systemd-container", "dpkg-deb": "dpkg", "nsenter": "util-linux"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Logf("installing %s", pkg)
			run(t, "apt-get", "update", "-q")
			run(t, "apt-get", "install", "-qy", "--no-install-recommends", pkg)
		}
	}
	if _, err := os.Stat(filepath.Join(tree, "lib/systemd/systemd")); err == nil {
		return
	}
	began := time.Now()
	half := tree + ".new"
	if err := os.RemoveAll(half); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(half), 0o755); err != nil {
		t.Fatal(err)
	}
	sources := "/etc/apt/sources.list"
	if _, err := os.Stat("/etc/apt/sources.list.d/debian.sources"); err == nil {
		sources = "/etc/apt/sources.list.d/debian.sources"
	}
	run(t, "mmdebstrap", "--mode=root", "--variant=minbase", "--include="+include, suite(t), half, sources)
	if err := os.WriteFile(filepath.Join(half, "etc/machine-id"), []byte(strings.Repeat("5", 32)+"\n"), 0o444); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(half, tree); err != nil {
		t.Fatal(err)
	}
	t.Logf("made %s in %v", tree, time.Since(began).Round(time.Second))
}

func suite(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile("/etc/os-release")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^VERSION_CODENAME=(\w+)$`).FindSubmatch(b)
	if m == nil || !bytes.Contains(b, []byte("\nID=debian\n")) {
		t.Fatalf("want Debian, this is\n%s", b)
	}
	return string(m[1])
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// machine is a booted container. It has a network of its own, with loopback
// alone.
type machine struct {
	t      *testing.T
	leader string // PID of its init
	netns  *os.File
}

const bootScript = `set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs "$WORK"
mkdir "$WORK/upper" "$WORK/work" "$WORK/root"
mount -t overlay overlay -o "lowerdir=$TREE,upperdir=$WORK/upper,workdir=$WORK/work" "$WORK/root"
cp "$DEB" "$WORK/root/var/tmp/shunt.deb"
exec systemd-nspawn -q -D "$WORK/root" --register=no --keep-unit --private-network --console=pipe --setenv=SHUNT_BOOTED="$MARK" --boot
`

// boot boots the tree, with a package in /var/tmp/shunt.deb.
func boot(t *testing.T, deb string) *machine {
	t.Helper()
	m := &machine{t: t}
	mark := fmt.Sprintf("%d-%d", os.Getpid(), time.Now().UnixNano())
	lower, err := filepath.Abs(tree)
	if err != nil {
		t.Fatal(err)
	}
	c := exec.Command("unshare", "-m", "bash", "-c", bootScript)
	c.Env = append(os.Environ(), "WORK="+t.TempDir(), "TREE="+lower, "DEB="+deb, "MARK="+mark)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var console bytes.Buffer
	c.Stdout, c.Stderr = &console, &console
	c.WaitDelay = 10 * time.Second
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = c.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGTERM) // nspawn has its init shut down
		select {
		case <-ended:
		case <-time.After(30 * time.Second):
			_ = syscall.Kill(-c.Process.Pid, syscall.SIGKILL)
			<-ended
		}
	})
	until(t, "the container has an init", func() bool {
		select {
		case <-ended:
			t.Fatalf("the container has ended:\n%s", console.String())
		default:
		}
		m.leader = leaderOf(mark)
		return m.leader != ""
	})
	until(t, "the container runs", func() bool {
		out, _ := m.try("systemctl", "is-system-running")
		return strings.TrimSpace(out) == "running"
	})
	if m.netns, err = os.Open("/proc/" + m.leader + "/ns/net"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.netns.Close() })
	return m
}

// leaderOf finds the process that is 1 in its container and has that mark.
func leaderOf(mark string) string {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		env, err := os.ReadFile(d + "/environ")
		if err != nil || !bytes.Contains(env, []byte("SHUNT_BOOTED="+mark+"\x00")) {
			continue
		}
		st, err := os.ReadFile(d + "/status")
		if err == nil && regexp.MustCompile(`(?m)^NSpid:.*\s1$`).Match(st) {
			return filepath.Base(d)
		}
	}
	return ""
}

func (m *machine) try(args ...string) (string, error) {
	out, err := m.command(args...).CombinedOutput()
	return string(out), err
}

func (m *machine) command(args ...string) *exec.Cmd {
	return exec.CommandContext(m.t.Context(), "nsenter", append([]string{"-t", m.leader, "-a", "--"}, args...)...)
}

// sh runs a script in the container, which must succeed.
func (m *machine) sh(script string) string {
	m.t.Helper()
	out, err := m.try("sh", "-c", script)
	if err != nil {
		journal, _ := m.try("journalctl", "--no-pager", "-n", "40")
		m.t.Fatalf("%s: %v\n%s\njournal:\n%s", script, err, out, journal)
	}
	return out
}

// write writes a file in the container.
func (m *machine) write(path, text string) {
	m.t.Helper()
	c := m.command("sh", "-c", "cat > "+path)
	c.Stdin = strings.NewReader(text)
	if out, err := c.CombinedOutput(); err != nil {
		m.t.Fatalf("write %s: %v\n%s", path, err, out)
	}
}

// property is one of shunt.service.
func (m *machine) property(name string) string {
	m.t.Helper()
	return strings.TrimSpace(m.sh("systemctl show -P " + name + " shunt.service"))
}

// inside runs f with a thread in the container's network. What it opens stays
// there; only sockets that f itself opens, on its goroutine, are.
func (m *machine) inside(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		if err := unix.Setns(int(m.netns.Fd()), unix.CLONE_NEWNET); err != nil {
			m.t.Errorf("setns: %v", err)
			return
		}
		f()
	}()
	<-done
}

// dial connects to a port of the container's loopback.
func (m *machine) dial(port int) (conn net.Conn, err error) {
	m.inside(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		var d net.Dialer
		conn, err = d.DialContext(ctx, "tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	})
	if conn == nil && err == nil {
		err = errors.New("no thread in the container's network")
	}
	return conn, err
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	limit := time.After(patience)
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
