//go:build interop

package interop

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Two accounts: one bearerbox binds them both. The pair speaks v3.3, where ids
// have eight hexadecimal digits and receipts no TLVs. Only trx asks for the
// link itself; pair's binds are silent unless the gateway asks.
const kannelConfig = `
group = core
admin-interface = 127.0.0.1
admin-port = %d
admin-password = admin
smsbox-interface = 127.0.0.1
smsbox-port = %d
dlr-storage = internal
log-level = 1

group = smsc
smsc = smpp
smsc-id = trx
allowed-smsc-id = trx
host = 127.0.0.1
port = %d
transceiver-mode = true
smsc-username = kannel-trx
smsc-password = secret
system-type = VMA
interface-version = 34
dest-addr-ton = 1
dest-addr-npi = 1
enquire-link-interval = 1
reconnect-delay = 1

group = smsc
smsc = smpp
smsc-id = pair
allowed-smsc-id = pair
host = 127.0.0.1
port = %d
smsc-username = kannel-pair
smsc-password = secret
system-type = VMA
interface-version = 33
dest-addr-ton = 1
dest-addr-npi = 1
enquire-link-interval = 60
reconnect-delay = 1

group = smsc
smsc = smpp
smsc-id = pair
allowed-smsc-id = pair
host = 127.0.0.1
receive-port = %d
smsc-username = kannel-pair
smsc-password = secret
system-type = VMA
interface-version = 33
dest-addr-ton = 1
dest-addr-npi = 1
enquire-link-interval = 60
reconnect-delay = 1

group = smpp-tlv
name = channel
tag = 0x1580
type = octetstring
length = 7
smsc-id = trx

group = smsbox
bearerbox-host = 127.0.0.1
sendsms-interface = 127.0.0.1
sendsms-port = %d
log-level = 1

group = sendsms-user
username = test
password = test
max-messages = 10
concatenation = true
`

// Kannel's dlr-mask bits, and the type that it calls back with.
const (
	dlrDelivered = 1
	dlrFailed    = 2
	dlrAccepted  = 8 // the SMSC answered with ESME_ROK
	dlrRejected  = 16
)

// callback is one report of Kannel's on one of our texts.
type callback struct {
	N      int    // of the text
	Type   int    // one bit of the mask
	ID     string // the message_id that it is about
	SMSC   string // the account
	Meta   string // TLVs by the names of the configuration, as one query a group
	Report string // what the SMSC's answer or receipt said
}

// kannel is a bearerbox with its smsbox. The callbacks belong to mu.
type kannel struct {
	bearerbox, smsbox *part
	sendsms           string
	status            string
	back              *httptest.Server

	mu    sync.Mutex
	calls []callback
}

// freePorts are n loopback ports below those that Linux gives to clients, so
// that nobody takes one before it is listened on. Kannel wants them given.
func freePorts(t *testing.T, n int) (ports []int) {
	t.Helper()
	for range 1000 {
		port := 20000 + rand.IntN(12000)
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			continue
		}
		defer func() { _ = l.Close() }() // all are held until all are found
		if ports = append(ports, port); len(ports) == n {
			return ports
		}
	}
	t.Fatalf("no %d free ports between 20000 and 32000", n)
	return nil
}

// needKannel finds bearerbox and smsbox. The package comes without its init
// script, so that installing it starts nothing.
func needKannel(t *testing.T) (bearerbox, smsbox string) {
	t.Helper()
	if _, err := exec.LookPath("bearerbox"); err != nil {
		need(t, "bearerbox", "kannel", "-o", "DPkg::Options::=--path-exclude=/etc/init.d/kannel")
	}
	return need(t, "bearerbox", "kannel"), need(t, "smsbox", "kannel")
}

// startKannel starts both boxes in front of the gateway's port.
func startKannel(t *testing.T, s *scene, port int) *kannel {
	t.Helper()
	bearerbox, smsbox := needKannel(t)
	k := &kannel{}
	k.back = httptest.NewServer(http.HandlerFunc(k.called))
	t.Cleanup(k.back.Close)
	free := freePorts(t, 3)
	k.status = fmt.Sprintf("http://127.0.0.1:%d/status.txt?password=admin", free[0])
	k.sendsms = fmt.Sprintf("http://127.0.0.1:%d/cgi-bin/sendsms", free[2])
	write(t, s.path("kannel.conf"), kannelConfig, free[0], free[1], port, port, port, free[2])
	k.bearerbox = run(t, s.dir, "bearerbox", bearerbox, "-v", "1", s.path("kannel.conf"))
	poll(t, "bearerbox", k.bearerbox, func() bool { return k.says() != "" })
	k.smsbox = run(t, s.dir, "smsbox", smsbox, "-v", "1", s.path("kannel.conf"))
	poll(t, "smsbox", k.smsbox, func() bool {
		conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", free[2]))
		if err == nil {
			_ = conn.Close()
		}
		return err == nil && strings.Contains(k.says(), "smsbox:(none), IP 127.0.0.1")
	})
	return k
}

var kannelHTTP = &http.Client{Timeout: patience}

// says is bearerbox's own status; empty while it does not answer.
func (k *kannel) says() string {
	resp, err := kannelHTTP.Get(k.status)
	if err != nil {
		return ""
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		return ""
	}
	return string(b)
}

// called takes one callback.
func (k *kannel) called(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	c := callback{ID: q.Get("id"), SMSC: q.Get("smsc"), Meta: q.Get("meta"), Report: q.Get("report")}
	var err error
	if c.N, err = strconv.Atoi(q.Get("n")); err == nil {
		c.Type, err = strconv.Atoi(q.Get("type"))
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	k.mu.Lock()
	k.calls = append(k.calls, c)
	k.mu.Unlock()
}

// reports are the callbacks of a type so far, by text.
func (k *kannel) reports(kind int) map[int][]callback {
	k.mu.Lock()
	defer k.mu.Unlock()
	m := map[int][]callback{}
	for _, c := range k.calls {
		if c.Type == kind {
			m[c.N] = append(m[c.N], c)
		}
	}
	return m
}

// send gives texts to smsbox, which must take each; first is the number of the
// first in the callbacks. While Kannel is not bound it queues them.
func (k *kannel) send(t *testing.T, first int, list []letter) {
	t.Helper()
	for i, m := range list {
		q := url.Values{
			"username": {"test"}, "password": {"test"}, "smsc": {m.smsc}, "from": {"KANNEL"}, "to": {m.to},
			"charset": {"UTF-8"}, "coding": {strconv.Itoa(m.coding)}, "text": {m.plain},
			"dlr-mask": {strconv.Itoa(dlrDelivered | dlrFailed | dlrAccepted | dlrRejected)},
			"dlr-url":  {fmt.Sprintf("%s/?n=%d&type=%%d&id=%%F&smsc=%%i&meta=%%D&report=%%A", k.back.URL, first+i)},
		}
		resp, err := kannelHTTP.Get(k.sendsms + "?" + q.Encode())
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusAccepted {
			t.Fatalf("sendsms of text %d: %s %q, %v, want 202", first+i, resp.Status, b, err)
		}
	}
}
