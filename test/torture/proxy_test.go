package main

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
)

const patience = 10 * time.Second

// echo is a proxy before a server that answers every line with itself.
func echo(t *testing.T) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(c, c)
				_ = c.Close()
			}()
		}
	}()
	p, err := newProxy("echo", 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.close()
		_ = ln.Close()
	})
	p.point(ln.Addr().String())
	return p
}

type peer struct {
	t *testing.T
	c net.Conn
	r *bufio.Reader
}

func connect(t *testing.T, p *proxy) *peer {
	t.Helper()
	c, err := net.Dial("tcp", p.addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return &peer{t, c, bufio.NewReader(c)}
}

func (p *peer) say(line string) {
	p.t.Helper()
	if _, err := io.WriteString(p.c, line+"\n"); err != nil {
		p.t.Fatal(err)
	}
}

// hear reads a line within d.
func (p *peer) hear(d time.Duration) (string, error) {
	_ = p.c.SetReadDeadline(time.Now().Add(d))
	s, err := p.r.ReadString('\n')
	return s, err
}

func TestProxyPassesAndStalls(t *testing.T) {
	p := echo(t)
	c := connect(t, p)
	c.say("one")
	if got, err := c.hear(patience); got != "one\n" || err != nil {
		t.Fatalf("heard %q, %v; want it back", got, err)
	}
	first, second := p.stall(), p.stall()
	c.say("two")
	if got, err := c.hear(50 * time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("heard %q, %v through a stalled leg", got, err)
	}
	first()
	if got, _ := c.hear(50 * time.Millisecond); got != "" {
		t.Errorf("heard %q while one of two stalls lasts", got)
	}
	second()
	if got, err := c.hear(patience); got != "two\n" || err != nil {
		t.Errorf("heard %q, %v after the release", got, err)
	}
	p.slow(60 * time.Millisecond)
	begun := time.Now()
	c.say("three")
	if got, err := c.hear(patience); got != "three\n" || err != nil || time.Since(begun) < 120*time.Millisecond {
		t.Errorf("heard %q, %v after %s, want it 60 ms later each way", got, err, time.Since(begun))
	}
}

func TestProxyCuts(t *testing.T) {
	p := echo(t)
	a, b := connect(t, p), connect(t, p)
	for _, c := range []*peer{a, b} {
		c.say("here")
		if _, err := c.hear(patience); err != nil {
			t.Fatal(err)
		}
	}
	release := p.stall()
	a.say("lost on the way")
	p.cut()
	release()
	for _, c := range []*peer{a, b} {
		if got, err := c.hear(patience); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("heard %q, %v; want a reset", got, err)
		}
	}
	if accepted, resets := p.counts(); accepted != 2 || resets != 2 {
		t.Errorf("%d accepted, %d reset; want 2 and 2", accepted, resets)
	}
	c := connect(t, p)
	c.say("again")
	if got, err := c.hear(patience); got != "again\n" || err != nil {
		t.Errorf("a new connection heard %q, %v", got, err)
	}
	p.point("127.0.0.1:1") // nobody is there
	d := connect(t, p)
	if _, err := d.hear(patience); err == nil {
		t.Error("a connection to nobody stays open")
	}
}
