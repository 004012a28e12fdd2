package noc

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"shunt/gateway/audit"
	"shunt/gateway/msg"
)

// slowGateway takes a minute for what may take minutes, unless its caller goes.
type slowGateway struct{ testGateway }

const slow = time.Minute

func pass(ctx context.Context) error {
	select {
	case <-time.After(slow):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *slowGateway) Erase(ctx context.Context, _ msg.Number) (Erased, error) {
	return Erased{Messages: 7}, pass(ctx)
}

func (g *slowGateway) Watch(ctx context.Context, _ msg.Number, see func(*Passed) error) error {
	if err := see(nil); err != nil {
		return err
	}
	if err := pass(ctx); err != nil {
		return err
	}
	return see(&Passed{PDU: "submit_sm"})
}

// oneConn is a listener of one connection.
type oneConn struct {
	conns chan net.Conn
	done  chan struct{}
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *oneConn) Close() error   { return nil }
func (l *oneConn) Addr() net.Addr { return &net.UnixAddr{Name: "noc.sock", Net: "unix"} }

// TestLongAnswers: what takes longer than a request may take to come, in silence,
// is not ended by that.
func TestLongAnswers(t *testing.T) {
	for path, want := range map[string]string{
		"POST /v1/registry/+447700900042/erase":         `"messages":7`,
		"GET /v1/watch/+447700900042?seconds=120":       `"pdu":"submit_sm"`,
		"GET /v1/watch/+447700900042?seconds=5&unmask=": "", // its own time ends it
	} {
		t.Run(path, func(t *testing.T) {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				log := slog.New(slog.DiscardHandler)
				record := audit.Open(dir, audit.Options{}, log)
				s := NewServer(Options{Gateway: &slowGateway{}, Audit: record, Log: log})
				l := &oneConn{make(chan net.Conn, 1), make(chan struct{})}
				srv := &http.Server{Handler: s.mux}
				ended := make(chan error, 1)
				go func() { ended <- srv.Serve(l) }()
				client, server := net.Pipe()
				l.conns <- server
				if _, err := fmt.Fprintf(client, "%s HTTP/1.1\r\nHost: noc\r\nContent-Length: 0\r\n\r\n", path); err != nil {
					t.Fatal(err)
				}
				resp, err := http.ReadResponse(bufio.NewReader(client), nil)
				if err != nil {
					t.Fatal(err)
				}
				if resp.StatusCode != http.StatusOK {
					t.Fatalf("status %d, want 200", resp.StatusCode)
				}
				var got json.RawMessage
				err = json.NewDecoder(resp.Body).Decode(&got)
				if (err == nil) != (want != "") || want != "" && !bytes.Contains(got, []byte(want)) {
					t.Errorf("answer %s, %v, want %s", got, err, want)
				}
				_ = client.Close()
				close(l.done)
				_ = srv.Close()
				<-ended
				mustClose(t, record)
			})
		})
	}
}
