package gateway

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"shunt/gateway/msg"
	"shunt/gateway/noc"
	"shunt/smpp"
	"shunt/smpp/pdu"
	"shunt/test/sim/pki"
)

// tlsNode is a gateway with certificates on every side.
type tlsNode struct {
	t    *testing.T
	dir  string
	ca   *pki.CA
	g    *Gateway
	mine tls.Certificate // an ESME's
}

func newTLSNode(t *testing.T) *tlsNode {
	t.Helper()
	dir := t.TempDir()
	ca, err := pki.NewCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	n := &tlsNode{t: t, dir: dir, ca: ca, mine: writePair(t, ca, dir)}
	n.write("shunt.toml", fmt.Sprintf(tlsConfig, filepath.Join(dir, "data"), tlsSMSC(t, ca, n.mine, nil), filepath.Join(dir, "s")))
	n.g = runTLS(t, filepath.Join(dir, "shunt.toml"))
	return n
}

func (n *tlsNode) write(name, text string) {
	n.t.Helper()
	if err := os.WriteFile(filepath.Join(n.dir, name), []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

// bind binds an ESME over TLS, and gives the certificate that it was shown.
func (n *tlsNode) bind(systemID string, ca *pki.CA, mine tls.Certificate) (s *smpp.Session, shown []byte, err error) {
	c := &tls.Config{RootCAs: ca.Pool(), ServerName: "127.0.0.1", Certificates: []tls.Certificate{mine}}
	c.VerifyConnection = func(st tls.ConnectionState) error {
		shown = st.PeerCertificates[0].Raw
		return nil
	}
	s, _, err = smpp.Dial(n.t.Context(), n.g.addrs()[0], pdu.BindTransceiver, pdu.Bind{SystemID: systemID, InterfaceVersion: pdu.Version34}, smpp.Config{TLS: c})
	if err != nil {
		return nil, shown, err
	}
	go func() { _ = s.Serve(noHandler{}) }()
	n.t.Cleanup(func() { s.Close(smpp.ErrClosed) })
	return s, shown, nil
}

// api gives the certificate that the app API shows.
func (n *tlsNode) api(ca *pki.CA) ([]byte, error) {
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool()}, DisableKeepAlives: true}}
	resp, err := client.Get("https://" + n.g.apiListener.Addr().String() + "/v1/messages")
	if err != nil {
		return nil, err
	}
	_ = resp.Body.Close()
	return resp.TLS.PeerCertificates[0].Raw, nil
}

func answersSubmit(t *testing.T, s *smpp.Session) {
	t.Helper()
	answer := make(chan error, 1)
	m := pdu.SM{Dest: pdu.Address{TON: 1, NPI: 1, Addr: []byte("447700900001")}, ShortMessage: []byte("over TLS")}
	err := s.Call(pdu.AppendSM(nil, pdu.SubmitSM, 0, &m), func(p pdu.PDU, err error) {
		if err == nil && p.Status() != pdu.ROK {
			err = errors.New(p.Status().String())
		}
		answer <- err
	})
	if err == nil {
		err = <-answer
	}
	if err != nil {
		t.Errorf("submit_sm: %v", err)
	}
}

// TestReloadCertificates: everybody's certificates, keys and CAs are replaced
// under 200 binds over TLS, as by a renewal: all stay, and new handshakes are
// with the new ones, towards the SMSC too. Files that are unfit change nothing.
func TestReloadCertificates(t *testing.T) {
	n := newTLSNode(t)
	first := n.mine
	var all []*smpp.Session
	for i := range 200 {
		s, shown, err := n.bind(fmt.Sprintf("esme-%d", i), n.ca, first)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 && !bytes.Equal(shown, first.Certificate[0]) {
			t.Fatal("another certificate than the one in use")
		}
		all = append(all, s)
	}
	was := n.g.hub.Binds()

	// A key that is not the certificate's: the old pair goes on.
	good, err := os.ReadFile(filepath.Join(n.dir, "own.key"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := os.ReadFile(filepath.Join(n.dir, "ca.key"))
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{"another key": string(key), "no PEM": "nothing", "empty": ""} {
		n.write("own.key", bad)
		_, err := n.g.Reload()
		var refused *noc.Refused
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), "listen.tls.key_file") {
			t.Errorf("%s: Reload() = %v, want a fault of listen.tls.key_file", name, err)
		}
		if _, shown, err := n.bind("esme", n.ca, first); err != nil || !bytes.Equal(shown, first.Certificate[0]) {
			t.Errorf("%s: a bind after a refused reload: %v, or another certificate", name, err)
		}
	}
	n.write("own.key", string(good))

	// The same CA has made new ones.
	second := writePair(t, n.ca, n.dir)
	r, err := n.g.Reload()
	if err != nil || !slices.Equal(r.Changed, []string{"listen.tls", "[[smsc]]", "api.tls"}) {
		t.Errorf("Reload() = %+v, %v, want listen, smsc and api changed", r, err)
	}
	s, shown, err := n.bind("esme", n.ca, second)
	if err != nil || !bytes.Equal(shown, second.Certificate[0]) {
		t.Fatalf("a bind after the renewal: %v, or the old certificate", err)
	}
	answersSubmit(t, s)
	if shown, err := n.api(n.ca); err != nil || !bytes.Equal(shown, second.Certificate[0]) {
		t.Errorf("the app API after the renewal: %v, or the old certificate", err)
	}

	// Another CA altogether, and an SMSC that has its certificate from there.
	other, err := pki.NewCA(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	third := writePair(t, other, n.dir)
	pool, err := os.ReadFile(other.File())
	if err != nil {
		t.Fatal(err)
	}
	n.write("ca.pem", string(pool))
	asked := make(chan []byte, 1)
	smsc := tlsSMSC(t, other, third, func(c *tls.Config) {
		c.VerifyConnection = func(st tls.ConnectionState) error {
			asked <- st.PeerCertificates[0].Raw
			return nil
		}
	})
	n.write("shunt.toml", fmt.Sprintf(tlsConfig, filepath.Join(n.dir, "data"), smsc, filepath.Join(n.dir, "s")))
	if _, err := n.g.Reload(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := n.bind("esme", other, first); err == nil {
		t.Error("an ESME with a certificate of the CA before is let in")
	}
	s, shown, err = n.bind("esme", other, third)
	if err != nil || !bytes.Equal(shown, third.Certificate[0]) {
		t.Fatalf("a bind with the new CA: %v, or another certificate", err)
	}
	answersSubmit(t, s)
	if got := <-asked; !bytes.Equal(got, third.Certificate[0]) {
		t.Error("the SMSC was shown another certificate than the new one")
	}

	for _, s := range all {
		answersSubmit(t, s)
	}
	if now := n.g.hub.Binds()[:len(was)]; !slices.Equal(was, now) {
		t.Error("the 200 binds are not those of before")
	}
}

// TestReloadSMSC: new binds, and Shunt's own, go to the new address with the new
// credentials; pairs that are up stay.
func TestReloadSMSC(t *testing.T) {
	n := newAppNode(t, nil)
	old := bind(t, n.addr(), "shop", 0x34)
	next := newCenter(t)
	n.edit(n.smsc.l.Addr().String(), next.l.Addr().String())
	n.edit(`system_id = "shunt"`, `system_id = "shunt-2"`)
	if r, err := n.g.Reload(); err != nil || !slices.Equal(r.Changed, []string{"[[smsc]]"}) {
		t.Fatalf("Reload() = %+v, %v", r, err)
	}
	fresh := bind(t, n.addr(), "bank", 0x34)
	old.submit(submitTo(stranger, nil))
	fresh.submit(submitTo(stranger, nil))
	if a, b := len(n.smsc.of("shop")), len(next.of("bank")); a != 1 || b != 1 {
		t.Errorf("%d messages to the old SMSC and %d to the new one, want one each", a, b)
	}
	n.until("own bind at the new SMSC", func() bool {
		next.mu.Lock()
		defer next.mu.Unlock()
		for _, id := range next.sessions {
			if id == "shunt-2" {
				return n.g.own.Ready()
			}
		}
		return false
	})
	n.until("no bind of its own at the old SMSC", func() bool {
		n.smsc.mu.Lock()
		defer n.smsc.mu.Unlock()
		for s, id := range n.smsc.sessions {
			if id == "shunt" {
				select {
				case <-s.Done():
				default:
					return false
				}
			}
		}
		return true
	})

	// Another name: the pair at the one that is gone stays.
	n.edit(`upstream = "smsc-a"`, `upstream = "smsc-b"`)
	n.edit("[[app]]", fmt.Sprintf("[[smsc]]\nname = \"smsc-b\"\naddr = %q\n[[app]]", n.smsc.l.Addr().String()))
	if r, err := n.g.Reload(); err != nil || !slices.Equal(r.Changed, []string{"intercept.upstream", "[[smsc]]"}) {
		t.Fatalf("Reload() = %+v, %v", r, err)
	}
	third := bind(t, n.addr(), "third", 0x34)
	third.submit(submitTo(stranger, nil))
	fresh.submit(submitTo(stranger, nil))
	if a, b := len(n.smsc.of("third")), len(next.of("bank")); a != 1 || b != 2 {
		t.Errorf("%d messages at smsc-b and %d of the old pair at smsc-a, want 1 and 2", a, b)
	}
}

// TestReloadApps: another key and topic are used for the next push; an app that
// is gone keeps its registrations, and its messages are plain SMS; one that comes
// back has them again.
func TestReloadApps(t *testing.T) {
	n := newAppNode(t, nil)
	e := bind(t, n.addr(), "shop", 0x34)
	sent := 0
	diverted := func() bool {
		t.Helper()
		sent++ // a sender each: none waits for another
		return !strings.HasPrefix(e.submit(submitTo("447700900042", func(m *pdu.SM) { m.Source.Addr = fmt.Appendf(nil, "Parcel%d", sent) })), "smsc-")
	}
	if !diverted() {
		t.Fatal("nothing is diverted")
	}
	n.until("a push", func() bool { return len(n.provider.took()) == 1 })

	other := newProvider(t)
	n.edit(n.provider.url, other.url)
	n.edit(n.provider.ca, other.ca)
	if r, err := n.g.Reload(); err != nil || !slices.Equal(r.Changed, []string{"[[app]]"}) {
		t.Fatalf("Reload() = %+v, %v", r, err)
	}
	if !diverted() {
		t.Fatal("nothing is diverted after the reload")
	}
	n.until("a push to the new provider", func() bool { return len(other.took()) == 1 })
	if got := len(n.provider.took()); got != 1 {
		t.Errorf("%d pushes to the old provider, want 1", got)
	}

	// A key that is none is refused as a whole.
	file := filepath.Join(filepath.Dir(n.g.cfg.File), "chat.p8")
	key, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("none")}), 0o600); err != nil {
		t.Fatal(err)
	}
	n.edit(`divert_from = ["*"]`, `divert_from = ["nobody"]`)
	if _, err := n.g.Reload(); err == nil || !strings.Contains(err.Error(), "app.apns.key_file") {
		t.Errorf("Reload() with a key that is none = %v", err)
	}
	if !diverted() {
		t.Error("a refused reload has changed the policy")
	}
	if err := os.WriteFile(file, key, 0o600); err != nil {
		t.Fatal(err)
	}
	n.edit(`divert_from = ["nobody"]`, `divert_from = ["*"]`)

	b, err := os.ReadFile(n.g.cfg.File)
	if err != nil {
		t.Fatal(err)
	}
	with := string(b)
	from, to := strings.Index(with, "[[app]]"), strings.Index(with, "[policy]")
	if err := os.WriteFile(n.g.cfg.File, []byte(with[:from]+strings.Replace(with[from:to], `"chat"`, `"news"`, 1)+with[to:]), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := n.g.Reload(); err != nil {
		t.Fatal(err)
	}
	if diverted() {
		t.Error("a message of an app that is gone is diverted")
	}
	if _, apps := (&control{n.g}).Names(); !slices.Equal(apps, []string{"news"}) { // what can be registered
		t.Errorf("apps = %q, want those of the file that was read last", apps)
	}
	if got := n.g.hub.Binds()[0].Reasons[msg.ReasonAppDown].Load(); got != 1 {
		t.Errorf("%d verdicts app-down, want 1", got)
	}
	if _, err := n.g.registry.Get(subscriber); err != nil {
		t.Errorf("the registration of an app that is gone: %v", err)
	}
	if err := os.WriteFile(n.g.cfg.File, []byte(with), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := n.g.Reload(); err != nil {
		t.Fatal(err)
	}
	if !diverted() {
		t.Error("nothing is diverted to an app that is back")
	}
}
