package box

import (
	"bytes"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"shunt/smpp"
	"shunt/smpp/pdu"
)

// listener is a bind that keeps the subscriber's replies and takes everything.
type listener struct {
	s       *smpp.Session
	replies chan pdu.SM
}

func listen(t *testing.T, addr string) *listener {
	t.Helper()
	s, _, err := smpp.Dial(t.Context(), addr, pdu.BindReceiver, pdu.Bind{SystemID: "bank", InterfaceVersion: pdu.Version34}, smpp.Config{})
	if err != nil {
		t.Fatal(err)
	}
	l := &listener{s: s, replies: make(chan pdu.SM, 10)}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { s.Close(nil) })
	return l
}

func (l *listener) HandleRequest(p pdu.PDU) {
	var m pdu.SM
	if p.ID() != pdu.DeliverSM || m.Decode(bytes.Clone(p)) != nil {
		return
	}
	if _, ok := smpp.ParseReceipt(&m); !ok {
		l.replies <- m
	}
	_ = l.s.Send(pdu.AppendMessageResp(nil, pdu.DeliverSMResp, pdu.ROK, p.Seq(), ""))
}
func (*listener) HandleResponse(pdu.PDU) {}
func (*listener) HandleBatch()           {}

func (l *listener) next(t *testing.T) pdu.SM {
	t.Helper()
	select {
	case m := <-l.replies:
		return m
	case <-time.After(20 * time.Second):
		t.Fatal("no reply within 20 s")
	}
	return pdu.SM{}
}

// shows waits until what an operator's command prints has all of that, and nothing
// of the reply's text.
func (g *site) shows(t *testing.T, command, arg string, want ...string) {
	t.Helper()
	args := []string{command, "--socket", g.socket}
	if arg != "" {
		args = append(args, arg)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for late := time.After(20 * time.Second); ; {
		out, err := exec.Command(filepath.Join(bin, "shunt"), args...).CombinedOutput()
		all := err == nil
		for _, w := range want {
			all = all && regexp.MustCompile(w).Match(out)
		}
		if bytes.Contains(out, []byte("Table for two")) {
			t.Fatalf("shunt %s shows the text:\n%s", command, out)
		}
		if all {
			return
		}
		select {
		case <-tick.C:
		case <-late:
			t.Fatalf("shunt %s never has all of %q, at last (%v):\n%s", command, want, err, out)
		}
	}
}

// TestReplyOutlivesKill9: a reply that was answered with 2xx comes to the ESME
// after kill -9 and a restart, once, whoever repeats it.
func TestReplyOutlivesKill9(t *testing.T) {
	const number = "447700900042"
	g := newSite(t, number, time.Minute)
	call := func(method, path, body, key string, want int) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, g.api+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+phoneBearer)
		if body != "" {
			req.Header.Set("Content-Type", "application/json")
		}
		if key != "" {
			req.Header.Set("Idempotency-Key", key)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		b, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != want {
			t.Fatalf("%s %s = %d %s, %v, want %d", method, path, resp.StatusCode, b, err, want)
		}
		return string(b)
	}
	tx := bindAs(t, g.listen, pdu.BindTransmitter) // it may not receive
	id := tx.submit(t, number)
	tx.unbind(t)
	call("POST", "/v1/messages/"+id+"/claim", "", "", http.StatusOK)
	reply := func(text string) string { return `{"message_id":"` + id + `","text":"` + text + `"}` }
	first := call("POST", "/v1/replies", reply("Table for two"), "key-1", http.StatusAccepted)
	g.kill(t) // at once
	g.startDiverting(t)
	if again := call("POST", "/v1/replies", reply("Table for two"), "key-1", http.StatusAccepted); again != first {
		t.Errorf("the same reply after kill -9 = %s, want %s", again, first)
	}
	l := listen(t, g.listen)
	m := l.next(t)
	if string(m.Source.Addr) != number || string(m.Dest.Addr) != "Bank" || string(m.ShortMessage) != "Table for two" {
		t.Errorf("deliver_sm %+v, want the reply from the subscriber", m)
	}
	g.shows(t, "trace", id, `(?m) reply +- +- +reply=s\w+ parts=1$`, `(?m) reply-done +- +receipt +reply=s\w+ ESME_ROK after [0-9.]+(µs|ms), bind=1 rx `)
	g.shows(t, "status", "", `(?m)^replies +waiting 0, delivered 1, refused 0, given up 0$`)
	// Were it to come twice, it would be before the next one.
	if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	<-g.done
	g.startDiverting(t)
	l = listen(t, g.listen)
	call("POST", "/v1/replies", reply("For three"), "key-2", http.StatusAccepted)
	if m := l.next(t); string(m.ShortMessage) != "For three" {
		t.Errorf("after it came %q, want the next reply", m.ShortMessage)
	}
	if n := len(l.replies); n != 0 {
		t.Errorf("%d replies too many", n)
	}
}
