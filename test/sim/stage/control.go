package stage

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"shunt/gateway/noc"
	"shunt/test/sim/books"
)

// Control is HTTP over the gateway's control socket.
type Control struct {
	c      *http.Client
	socket string
}

// NewControl makes the client of a socket; it connects anew whenever the
// gateway was started again.
func NewControl(socket string) Control {
	return Control{socket: socket, c: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var nd net.Dialer
			return nd.DialContext(ctx, "unix", socket)
		},
	}}}
}

// Status is what a run needs to know of GET /v1/status.
type Status struct {
	IndexReady bool     `json:"index_ready"`
	Listen     []string `json:"listen"`
	API        []string `json:"api"`
	FailOpen   []string `json:"fail_open"` // why nothing would be diverted
	Spool      struct {
		Live        map[string]int `json:"live"` // by state
		LiveTotal   int            `json:"live_total"`
		ReceiptsDue int            `json:"receipts_due"`
		Queued      int            `json:"queued"`
		Failures    uint64         `json:"failures"`
		Doubtful    int            `json:"doubtful"`
		SetAside    uint64         `json:"set_aside"`
		Finals      map[string]int `json:"finals"` // ended so far, by state
	} `json:"spool"`
	Counters struct {
		Diverted            uint64            `json:"diverted"`
		Forwarded           uint64            `json:"forwarded"`
		Reasons             map[string]uint64 `json:"reasons"`
		FallbackSent        uint64            `json:"fallback_sent"`
		FallbackRetried     uint64            `json:"fallback_retried"`
		FallbackResubmitted uint64            `json:"fallback_resubmitted"`
	} `json:"counters"`
}

// Ready tells whether the gateway can do all that a run asks of it.
func (s *Status) Ready() bool {
	return s.IndexReady && len(s.FailOpen) == 0 && len(s.Listen) > 0 && len(s.API) > 0
}

// Status asks; false when there is no answer.
func (c Control) Status() (s Status, ok bool) {
	return s, c.get("/v1/status", &s) == nil
}

func (c Control) get(path string, v any) error {
	resp, err := c.c.Get("http://noc" + path)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", path, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(v)
}

// Provision puts every phone of the file into the registry.
func (c Control) Provision(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	n := noc.New(c.socket)
	defer n.Close()
	wrong := ""
	_, err = n.Import(context.Background(), bufio.NewReader(f), noc.FormatNDJSON, false, false, func(e *noc.ImportEvent) {
		if e.Fault != nil && wrong == "" {
			wrong = fmt.Sprintf(": line %d: %s", e.Fault.Line, e.Fault.Text)
		}
	})
	if err != nil {
		return fmt.Errorf("provision: %w%s", err, wrong)
	}
	return nil
}

// Words are what the gateway says of the message with that id, or of the last
// ones to that number; none when it does not know or does not answer.
func (c Control) Words(what string) []books.Word {
	var t struct {
		Messages []books.Word `json:"messages"`
	}
	if c.get("/v1/trace/"+url.PathEscape(what)+"?limit=200", &t) != nil {
		return nil
	}
	return t.Messages
}
