package gateway

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"shunt/test/sim/pki"
)

const operatorsToken = "operators-token-0001"

// withPage is a node's configuration with noc.listen, and more of [noc].
func withPage(more string) func(string) string {
	return func(text string) string {
		return strings.Replace(text, "socket = \"noc.sock\"", "socket = \"noc.sock\"\nlisten = \"127.0.0.1:0\"\n"+more, 1)
	}
}

func fetch(t *testing.T, c *http.Client, url string) (status int, body string) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// TestPageWithTLSAndToken: what an operator switches on the page is what the
// control socket switches, and survives a restart like that.
func TestPageWithTLSAndToken(t *testing.T) {
	dir := t.TempDir()
	ca, err := pki.NewCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	writePair(t, ca, dir)
	file := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(file("noc.token"), []byte(operatorsToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	n := newNode(t, withPage(fmt.Sprintf("token_file = %q\ntls = { cert_file = %q, key_file = %q }", file("noc.token"), file("own.crt"), file("own.key")))).run()
	at := "https://" + n.g.web.Addr().String()
	c := &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool()}}}
	defer c.CloseIdleConnections()

	n.register(subscriber, nil)
	e := bind(t, n.addr(), "shop", 0x34)
	id := e.submit(submitTo(subscriber.String()[1:], nil))
	for what, want := range map[string][]string{
		"/":                                  {"edge-1", ">shop<", "Set divert", "Ready, diverting"},
		"/message?id=" + id:                  {id, "&#43;4477••••0042", "What happened to it"},
		"/message?id=%2B" + "447700900042":   {id, "&#43;4477••••0042"},
		"/message?id=" + stranger:            {"No diverted message"},
		"/message?id=s01JZ" + "000000000000": {"No diverted message"},
	} {
		_, body := fetch(t, c, at+what)
		for _, w := range want {
			if !strings.Contains(body, w) {
				t.Errorf("GET %s has no %q:\n%s", what, w, body)
			}
		}
		if strings.Contains(body, "447700900042") || strings.Contains(body, "parcel comes") {
			t.Errorf("GET %s shows a number or a text", what)
		}
	}

	post := func(path, token string) int {
		resp, err := c.PostForm(at+path, url.Values{"token": {token}, "mode": {"off"}})
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode
	}
	if st := post("/divert", "wrong"); st != 403 || (&control{n.g}).Divert() != "on" {
		t.Errorf("POST /divert with a wrong token = %d, divert %s", st, (&control{n.g}).Divert())
	}
	if st := post("/divert", operatorsToken); st != 200 || (&control{n.g}).Divert() != "off" {
		t.Errorf("POST /divert = %d, divert %s", st, (&control{n.g}).Divert())
	}
	if st := post("/drain", operatorsToken); st != 200 || !(&control{n.g}).Drain().Draining {
		t.Errorf("POST /drain = %d, %+v", st, (&control{n.g}).Drain())
	}
	_, body := fetch(t, c, at+"/")
	for _, want := range []string{"page: wrong token, nothing was switched", "divert switched by an operator", "mode=off", "drain switched by an operator"} {
		if !strings.Contains(body, want) {
			t.Errorf("the faults have no %q:\n%s", want, body)
		}
	}
	if strings.Contains(body, operatorsToken) {
		t.Error("the page shows the token")
	}
	n.halt()
	if got := (&control{n.again().g}).Divert(); got != "off" {
		t.Errorf("divert after a restart = %s, want off", got)
	}
}

// TestPageOfAThousandBinds: what the page and the metrics cost is bounded, with
// a thousand binds of as many accounts.
func TestPageOfAThousandBinds(t *testing.T) {
	const binds = 1000
	n := newNode(t, func(text string) string {
		return withPage("")(text) + "\n[limits]\nconnect_rate = \"0/s\"\nunbound_per_source = 0\n"
	}).run()
	var wg sync.WaitGroup
	left := make(chan int, binds)
	for i := range binds {
		left <- i
	}
	close(left)
	for range 16 {
		wg.Go(func() {
			for i := range left {
				bind(t, n.addr(), fmt.Sprintf("esme-%04d", i), 0x34).submit(submitTo(stranger, nil))
			}
		})
	}
	wg.Wait()
	at := "http://" + n.g.web.Addr().String()
	for _, c := range []struct {
		path, want     string
		octets, allocs int
	}{
		{"/", "200 of 1,000 sessions", 150_000, 80_000},
		{"/metrics", "shunt_binds{bind=\"transceiver\"} 1000", 200_000, 80_000},
	} {
		n.until("all are bound", func() bool { return len(n.g.hub.Binds()) == binds })
		fetch(t, http.DefaultClient, at+"/healthz") // the connection is made; the page is not, nobody has asked for it
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		_, body := fetch(t, http.DefaultClient, at+c.path)
		took := time.Since(start)
		runtime.ReadMemStats(&after)
		allocs := int(after.Mallocs - before.Mallocs)
		t.Logf("GET %s with %d binds: %s, %d octets, %d allocations in the whole process", c.path, binds, took, len(body), allocs)
		if !strings.Contains(body, c.want) {
			t.Errorf("GET %s has no %q", c.path, c.want)
		}
		if len(body) > c.octets || allocs > c.allocs {
			t.Errorf("GET %s: %d octets, %d allocations; want up to %d and %d", c.path, len(body), allocs, c.octets, c.allocs)
		}
	}
}
