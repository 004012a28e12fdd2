package noc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestListen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "deep", "er", "noc.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	st, err := os.Lstat(path)
	if err != nil || st.Mode() != fs.ModeSocket|socketMode {
		t.Errorf("socket = %v, %v, want mode 0660", st.Mode(), err)
	}
	if _, err := Listen(path); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), path) {
		t.Errorf("Listen on a socket that answers = %v, want ErrInUse with the path", err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the refused Listen removed the socket: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("socket after Close: %v, want it gone", err)
	}
}

func TestListenReplacesAStaleSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "noc.sock")
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	old.SetUnlinkOnClose(false)
	old.Close() // like a crash: the file stays
	if _, err := os.Lstat(path); err != nil {
		t.Fatal(err)
	}
	l, err := Listen(path)
	if err != nil {
		t.Fatalf("Listen on a stale socket: %v", err)
	}
	l.Close()
}

func TestListenLeavesOtherFilesAlone(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		file:                                 "no socket",
		dir:                                  "no socket",
		filepath.Join(file, "noc.sock"):      "directory",
		dir + "/" + strings.Repeat("x", 110): "at most 107",
	} {
		if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Listen(%s) = %v, want %q", path, err, want)
		}
	}
	if b, err := os.ReadFile(file); string(b) != "mine" || err != nil {
		t.Errorf("the file = %q, %v, want it as it was", b, err)
	}
}

// A listener that ends late does not take its successor's socket away.
func TestCloseLeavesASuccessorsSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "noc.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	next, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	l.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("the successor's socket: %v", err)
	}
}

func TestServeRemovesItsSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "noc.sock")
	s := NewServer(Options{Gateway: &testGateway{mode: "off"}, Log: slog.New(slog.DiscardHandler)})
	if err := s.Serve(t.Context(), filepath.Dir(path)); err == nil {
		t.Error("Serve on a directory = nil, want an error")
	}
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.ServeOn(ctx, l) }()
	if mode, err := New(path).Divert(t.Context()); mode != "off" || err != nil {
		t.Errorf("Divert = %s, %v, want off", mode, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("ServeOn = %v, want nil", err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("socket after ServeOn: %v, want it gone", err)
	}
	if err := s.ServeOn(t.Context(), l); !errors.Is(err, net.ErrClosed) {
		t.Errorf("ServeOn a closed listener = %v, want net.ErrClosed", err)
	}
}

// Every way in which nobody answers is one line that says what to do.
func TestClientUnreached(t *testing.T) {
	dir := t.TempDir()
	file, stale, datagram := filepath.Join(dir, "file"), filepath.Join(dir, "stale"), filepath.Join(dir, "datagram")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	d, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: datagram, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for path, want := range map[string]string{
		filepath.Join(dir, "nothing"): "there is no such socket: is the gateway running? start it with `shunt run`",
		stale:                         "nobody answers: is the gateway running?",
		file:                          "that is not a control socket",
		datagram:                      "that is not a control socket",
		dir:                           "that is not a control socket",
	} {
		_, err := New(path).Status(t.Context())
		if err == nil || !strings.HasPrefix(err.Error(), "control socket "+path+": "+want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("Status on %s = %v, want one line: %s", path, err, want)
		}
	}
}

// A server that is broken, another's or silent never looks like an answer.
func TestClientAgainstBrokenServers(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nServer: shunt\r\nContent-Type: application/json\r\n"
	whole := head + "Content-Length: 13\r\n\r\n" + `{"mode":"on"}`
	say := func(text string) func(net.Conn) {
		return func(c net.Conn) {
			defer c.Close()
			_, _ = c.Read(make([]byte, 4096))
			fmt.Fprint(c, text)
		}
	}
	if mode, err := answerWith(t, say(whole)).Divert(t.Context()); mode != "on" || err != nil {
		t.Fatalf("the whole answer = %q, %v, want on", mode, err)
	}
	for i := range len(whole) {
		if mode, err := answerWith(t, say(whole[:i])).Divert(t.Context()); err == nil {
			t.Errorf("the answer's first %d octets = %q, want an error", i, mode)
		}
	}
	for text, want := range map[string]string{
		whole[:len(whole)-3]:                     "breaks off",
		head + "Content-Length: 5\r\n\r\n{\"mod": "cannot be read",
		"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 4\r\n\r\n<p/>":                                                          "not this gateway's control server",
		"HTTP/1.1 500 Oh\r\nServer: shunt\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\noops":                                        "not this gateway's control server",
		"HTTP/1.1 404 No\r\nServer: shunt\r\nContent-Type: application/problem+json\r\nContent-Length: 2\r\n\r\n{}":                            "not this gateway's control server",
		"HTTP/1.1 409 No\r\nServer: shunt\r\nContent-Type: application/problem+json\r\nContent-Length: 23\r\n\r\n" + `{"detail":"too early"} `: "too early",
		"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n" + `{"mode":"on"}`:                                    "not this gateway's control server",
		"SSH-2.0-OpenSSH_10.0\r\n": "see the gateway's log",
	} {
		_, err := answerWith(t, say(text)).Divert(t.Context())
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "http://") {
			t.Errorf("answer %q = %v, want %q", text, err, want)
		}
	}

	silent := make(chan struct{})
	c := answerWith(t, func(c net.Conn) {
		<-silent
		c.Close()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := c.Divert(ctx)
	close(silent)
	if err == nil || !strings.Contains(err.Error(), "did not answer in time") {
		t.Errorf("a silent server = %v, want: did not answer in time", err)
	}
}

func TestClientCapsTheAnswer(t *testing.T) {
	c := answerWith(t, func(c net.Conn) {
		defer c.Close()
		_, _ = c.Read(make([]byte, 4096))
		fmt.Fprint(c, "HTTP/1.1 200 OK\r\nServer: shunt\r\nContent-Type: application/json\r\n\r\n\"")
		chunk := []byte(strings.Repeat("x", 1<<20))
		for range maxAnswer/len(chunk) + 2 {
			if _, err := c.Write(chunk); err != nil {
				return
			}
		}
	})
	if _, err := c.Divert(t.Context()); err == nil || !strings.Contains(err.Error(), "longer than") {
		t.Errorf("an endless answer = %v, want: longer than", err)
	}
}

// What comes in lines has an end to each, also of a server that never ends one,
// and nobody else's answer is taken for a registry or a backup.
func TestClientStreams(t *testing.T) {
	for name, call := range map[string]func(*Client) error{
		"import": func(c *Client) error {
			_, err := c.Import(t.Context(), strings.NewReader("{}\n"), FormatNDJSON, false, false, func(*ImportEvent) {})
			return err
		},
		"watch": func(c *Client) error {
			return c.Watch(t.Context(), "+447700900042", time.Hour, false, func(*Passed) error { return nil })
		},
		"backup": func(c *Client) error {
			_, err := c.Backup(t.Context(), io.Discard, func(int64) {})
			return err
		},
		"export": func(c *Client) error {
			_, err := c.Export(t.Context(), io.Discard, FormatCSV, func(int64) {})
			return err
		},
		"erase": func(c *Client) error {
			_, err := c.Erase(t.Context(), "+447700900042", false)
			return err
		},
	} {
		asked := make(chan string, 10)
		c := serving(t, func(w http.ResponseWriter, r *http.Request) {
			asked <- r.Method
			_, _ = io.WriteString(w, "<p/>")
		})
		if err := call(c); err == nil || !strings.Contains(err.Error(), "not this gateway's control server") || len(asked) != 1 || <-asked != http.MethodGet {
			t.Errorf("%s of another's server = %v, want it told after one question, which changes nothing", name, err)
		}
		if name == "export" || name == "erase" {
			continue // one is as long as the registry, the other an answer like all others
		}
		const parts = 100
		sent := make(chan int, 1)
		c = serving(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Server", serverName)
			if r.URL.Path == "/v1/divert" {
				_ = writeJSON(w, divertBody{"on"})
				return
			}
			n := 0
			for part := []byte(strings.Repeat("x", 1<<20)); n < parts; n++ {
				if _, err := w.Write(part); err != nil {
					break
				}
			}
			sent <- n
		})
		if err := call(c); err == nil || !strings.Contains(err.Error(), "breaks off") {
			t.Errorf("%s without a line's end = %v", name, err)
		}
		if n := <-sent; n == parts {
			t.Errorf("%s reads %d MiB of one line", name, n)
		}
	}
}

// serving is a client of a server that answers so.
func serving(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	c := New(socket)
	t.Cleanup(c.Close)
	return c
}
