package smpptest

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/nettest"
)

// The pipe behaves as a net.Conn should: the standard suite, which wants room
// for eight octets.
func TestConn(t *testing.T) {
	for _, capacity := range []int{0, 64} {
		nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
			a, b := Pipe(capacity)
			return a, b, func() {
				_ = a.Close()
				_ = b.Close()
			}, nil
		})
	}
}

func TestPipeTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := Pipe(4)
		start := time.Now()
		_ = a.SetReadDeadline(start.Add(3 * time.Second))
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != 3*time.Second {
			t.Errorf("Read = %v after %v", err, time.Since(start))
		}
		_ = a.SetWriteDeadline(start.Add(5 * time.Second))
		n, err := a.Write([]byte("123456"))
		if n != 4 || !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != 5*time.Second {
			t.Errorf("Write = %d, %v after %v, want 4 and the time-out", n, err, time.Since(start))
		}
		if a.Unread() != 4 || a.Peak() != 4 || b.Unread() != 0 {
			t.Errorf("Unread = %d, Peak = %d", a.Unread(), a.Peak())
		}
		_ = a.SetDeadline(time.Time{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			if n, err := a.Write([]byte("5678")); n != 4 || err != nil {
				t.Errorf("Write = %d, %v", n, err)
			}
		}()
		synctest.Wait() // durably blocked, or this would not return
		got := make([]byte, 8)
		if _, err := io.ReadFull(b, got); err != nil || string(got) != "12345678" {
			t.Errorf("read %q, %v", got, err)
		}
		<-done
	})
}

func TestPipeEnds(t *testing.T) {
	a, b := Pipe(0)
	if _, err := a.Write([]byte("last")); err != nil {
		t.Fatal(err)
	}
	_ = a.CloseWrite()
	if got, err := io.ReadAll(b); string(got) != "last" || err != nil {
		t.Errorf("after CloseWrite: read %q, %v", got, err)
	}
	if _, err := b.Write([]byte("back")); err != nil { // the other direction is open
		t.Errorf("Write = %v", err)
	}
	got := make([]byte, 4)
	if _, err := io.ReadFull(a, got); err != nil || !bytes.Equal(got, []byte("back")) {
		t.Errorf("read %q, %v", got, err)
	}
	_ = a.Close()
	if _, err := b.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("Write to a closed end = %v", err)
	}
	if _, err := a.Read(got); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Read from a closed end = %v", err)
	}

	a, b = Pipe(0)
	if _, err := a.Write([]byte("lost")); err != nil {
		t.Fatal(err)
	}
	a.Reset()
	if n, err := b.Read(got); n != 0 || !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("Read after a reset = %d, %v", n, err)
	}
	if _, err := b.Write([]byte("x")); err == nil {
		t.Error("Write after a reset succeeded")
	}
}
