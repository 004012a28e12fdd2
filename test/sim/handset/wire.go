package handset

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"
)

// wire asks an API without TLS over connections that are kept. Many phones live
// in this one process, beside the gateway that is measured: net/http's client,
// with two goroutines a connection, takes five times the processor time.
type wire struct {
	host string
	idle chan *wireConn
}

type wireConn struct {
	net.Conn
	r *bufio.Reader
}

func newWire(host string, conns int) *wire { return &wire{host, make(chan *wireConn, conns)} }

func (w *wire) get() (c *wireConn, kept bool, err error) {
	select {
	case c = <-w.idle:
		return c, true, nil
	default:
	}
	conn, err := net.DialTimeout("tcp", w.host, callTimeout)
	if err != nil {
		return nil, false, err
	}
	return &wireConn{conn, bufio.NewReaderSize(conn, 4<<10)}, false, nil
}

// do makes one request without a body. All calls are safe to repeat, and one on
// a connection that the gateway has closed meanwhile is.
func (w *wire) do(method, path, bearer string) (status int, body []byte, err error) {
	for {
		c, kept, err := w.get()
		if err != nil {
			return 0, nil, err
		}
		status, body, keep, err := c.roundTrip(method, w.host, path, bearer)
		if err == nil && keep {
			select {
			case w.idle <- c:
				return status, body, nil
			default:
			}
		}
		_ = c.Close()
		if err == nil || !kept {
			return status, body, err
		}
	}
}

func (c *wireConn) roundTrip(method, host, path, bearer string) (status int, body []byte, keep bool, err error) {
	if err = c.SetDeadline(time.Now().Add(callTimeout)); err != nil {
		return 0, nil, false, err
	}
	length := ""
	if method != http.MethodGet {
		length = "Content-Length: 0\r\n"
	}
	if _, err = fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\n%s\r\n", method, path, host, bearer, length); err != nil {
		return 0, nil, false, err
	}
	res, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		return 0, nil, false, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err = io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	return res.StatusCode, body, !res.Close, err
}

func (w *wire) close() {
	for {
		select {
		case c := <-w.idle:
			_ = c.Close()
		default:
			return
		}
	}
}
