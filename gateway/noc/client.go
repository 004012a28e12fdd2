package noc

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"syscall"
	"time"
)

// DefaultSocket is where the control socket is unless the configuration says
// otherwise ([noc] socket).
const DefaultSocket = "/run/shunt/noc.sock"

// serverName is in every answer: a client takes nothing from anybody else.
const serverName = "shunt"

const (
	maxAnswer    = 64 << 20 // octets
	maxEvent     = 1 << 20  // octets of a line of an answer that comes in lines
	answerWithin = 15 * time.Second
)

// Client talks to a running gateway. It is safe for concurrent use. Every
// error is for an operator to read: where it is the gateway's refusal it is a
// *Problem.
type Client struct {
	socket string
	http   *http.Client
}

// New is a client of the gateway whose control socket is at this path. It
// connects with the first call.
func New(socket string) *Client {
	return &Client{socket, &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", socket)
		},
		DisableCompression: true,
		MaxIdleConns:       1,
		IdleConnTimeout:    answerWithin,
	}}}
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status is the gateway at a glance.
func (c *Client) Status(ctx context.Context) (st Status, err error) {
	return st, c.call(ctx, http.MethodGet, "/v1/status", nil, nil, &st)
}

// Sessions are the ESMEs' binds.
func (c *Client) Sessions(ctx context.Context) ([]Session, error) {
	var b sessionsBody
	err := c.call(ctx, http.MethodGet, "/v1/sessions", nil, nil, &b)
	return b.Sessions, err
}

// Divert is the switch: on, shadow or off.
func (c *Client) Divert(ctx context.Context) (string, error) {
	var b divertBody
	err := c.call(ctx, http.MethodGet, "/v1/divert", nil, nil, &b)
	return b.Mode, err
}

// SetDivert switches and returns what the switch is at then.
func (c *Client) SetDivert(ctx context.Context, mode string) (string, error) {
	var b divertBody
	err := c.call(ctx, http.MethodPut, "/v1/divert", nil, divertBody{mode}, &b)
	return b.Mode, err
}

// Reload has the gateway read its configuration again. A file with faults is a
// *Problem that lists them, and changes nothing.
func (c *Client) Reload(ctx context.Context) (r Reload, err error) {
	return r, c.call(ctx, http.MethodPost, "/v1/reload", nil, nil, &r)
}

// List is a page of up to limit registrations, 1 to MaxPage, behind after: ""
// for the beginning, a number, or the Next of the page before.
func (c *Client) List(ctx context.Context, after string, limit int, unmask bool) (p Page, err error) {
	q := url.Values{"limit": {strconv.Itoa(limit)}}
	if after != "" {
		q.Set("after", after)
	}
	return p, c.call(ctx, http.MethodGet, "/v1/registry", unmasked(q, unmask), nil, &p)
}

// Count says how much is registered.
func (c *Client) Count(ctx context.Context) (n Count, err error) {
	return n, c.call(ctx, http.MethodGet, "/v1/registry/count", nil, nil, &n)
}

// Get is one number's registration.
func (c *Client) Get(ctx context.Context, number string, unmask bool) (r Registration, err error) {
	return r, c.call(ctx, http.MethodGet, "/v1/registry/"+url.PathEscape(number), unmasked(nil, unmask), nil, &r)
}

// Put registers a device. The answer holds the bearer only if the gateway
// made it, and it is shown only here.
func (c *Client) Put(ctx context.Context, number string, p Put, unmask bool) (a PutAnswer, err error) {
	return a, c.call(ctx, http.MethodPut, "/v1/registry/"+url.PathEscape(number), unmasked(nil, unmask), p, &a)
}

// Remove takes a device off a number, or with device "" the whole number. What
// is not there is a *Problem with status 404.
func (c *Client) Remove(ctx context.Context, number, device string, unmask bool) error {
	q := url.Values{}
	if device != "" {
		q.Set("device", device)
	}
	var b removedBody
	return c.call(ctx, http.MethodDelete, "/v1/registry/"+url.PathEscape(number), unmasked(q, unmask), nil, &b)
}

// Trace finds diverted messages by Shunt's id, by the message_id that an ESME
// was given, or by number, newest first.
func (c *Client) Trace(ctx context.Context, what string, unmask bool) ([]Trace, error) {
	var b tracesBody
	err := c.call(ctx, http.MethodGet, "/v1/trace/"+url.PathEscape(what), unmasked(nil, unmask), nil, &b)
	return b.Messages, err
}

func unmasked(q url.Values, unmask bool) url.Values {
	if unmask {
		if q == nil {
			q = url.Values{}
		}
		q.Set("unmask", "1")
	}
	return q
}

// call sends one request and reads its answer, within answerWithin.
func (c *Client) call(ctx context.Context, method, path string, q url.Values, body, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return fmt.Errorf("control socket %s: encode the request: %w", c.socket, err)
		}
		r = bytes.NewReader(b)
	}
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://noc"+path, r)
	if err != nil {
		return fmt.Errorf("control socket %s: %w", c.socket, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return c.do(req, answer)
}

func (c *Client) do(req *http.Request, answer any) error {
	res, err := c.http.Do(req)
	if err != nil {
		return c.unreached(err)
	}
	defer res.Body.Close()
	if err := c.ours(res); err != nil {
		return err
	}
	b, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	switch {
	case err != nil:
		return fmt.Errorf("control socket %s: the gateway's answer breaks off (%w): see its log, then try again", c.socket, plainCause(err))
	case len(b) > maxAnswer:
		return fmt.Errorf("control socket %s: the answer is longer than %d octets: ask for less with --limit", c.socket, maxAnswer)
	}
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	p := &Problem{}
	switch {
	case kind == "application/problem+json" && json.Unmarshal(b, p) == nil && p.Detail != "":
		return p
	case kind != "application/json" || res.StatusCode != http.StatusOK:
		return c.foreign(res)
	}
	if err := json.Unmarshal(b, answer); err != nil {
		return fmt.Errorf("control socket %s: the answer cannot be read (%w): is the gateway of another version than this command?", c.socket, err)
	}
	return nil
}

// ours tells whether a gateway answered.
func (c *Client) ours(res *http.Response) error {
	if res.Header.Get("Server") != serverName {
		return c.foreign(res)
	}
	return nil
}

func (c *Client) foreign(res *http.Response) error {
	kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type"))
	return fmt.Errorf("control socket %s: what answers there is not this gateway's control server (status %d, %q): check --socket", c.socket, res.StatusCode, kind)
}

// there makes sure, within answerWithin, that a gateway is at the other end: what
// follows may take as long as it takes.
func (c *Client) there(ctx context.Context) error {
	_, err := c.Divert(ctx)
	return err
}

// events reads an answer that comes in lines of JSON, one after the other, until
// each says that it was the last. io.EOF: the answer ended before.
func events[T any](r io.Reader, each func(*T) (last bool, err error)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, maxEvent)
	for lines.Scan() {
		var e T
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return err
		}
		if last, err := each(&e); last || err != nil {
			return err
		}
	}
	return cmp.Or(lines.Err(), io.EOF)
}

// unreached says in an operator's words why there is no answer.
func (c *Client) unreached(err error) error {
	hint := "is the gateway running? start it with `shunt run`, or name its socket with --socket"
	var text string
	switch {
	case errors.Is(err, syscall.ENOENT):
		text = "there is no such socket: " + hint
	case errors.Is(err, syscall.EPROTOTYPE), !c.isSocket():
		text = "that is not a control socket: name the gateway's with --socket"
	case errors.Is(err, syscall.ECONNREFUSED):
		text = "nobody answers: " + hint
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		text = "no permission: run this as root or as a member of the socket's group"
	case errors.Is(err, context.DeadlineExceeded):
		text = "the gateway did not answer in time: see its log, then try again"
	case errors.Is(err, context.Canceled):
		text = "interrupted: whether the gateway carried it out is not known"
	default:
		return fmt.Errorf("control socket %s: %w: see the gateway's log, then try again", c.socket, plainCause(err))
	}
	return &unreachable{fmt.Sprintf("control socket %s: %s", c.socket, text), err}
}

func (c *Client) isSocket() bool {
	st, err := os.Stat(c.socket)
	return err != nil || st.Mode().Type() == fs.ModeSocket
}

// plainCause drops the request's method and URL, which mean nothing to an
// operator.
func plainCause(err error) error {
	if u := new(url.Error); errors.As(err, &u) {
		return u.Err
	}
	return err
}

// unreachable has a text of its own and keeps the cause for errors.Is.
type unreachable struct {
	text  string
	cause error
}

func (u *unreachable) Error() string { return u.text }
func (u *unreachable) Unwrap() error { return u.cause }
