package gateway

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"shunt/smpp/pdu"
)

// ask calls the app's API with a body and headers, and decodes what it answers.
func (n *node) ask(bearer, method, path string, body any, headers ...string) (status int, answer map[string]any) {
	n.t.Helper()
	b, err := json.Marshal(body)
	if err != nil {
		n.t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(n.t.Context(), method, "http://"+n.g.apiListener.Addr().String()+path, bytes.NewReader(b))
	if err != nil {
		n.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	if bearer != "" {
		r.Header.Set("Authorization", "Bearer "+bearer)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil && resp.StatusCode != http.StatusNoContent {
		n.t.Fatalf("%s %s: %d, %v", method, path, resp.StatusCode, err)
	}
	return resp.StatusCode, answer
}

// text sends a subscriber's SMS on Shunt's own bind.
func (c *center) text(from, to, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	sm := pdu.SM{
		Source: pdu.Address{TON: pdu.TONInternational, NPI: pdu.NPIISDN, Addr: []byte(from)},
		Dest:   pdu.Address{NPI: pdu.NPIISDN, Addr: []byte(to)}, ShortMessage: []byte(text),
	}
	for s, id := range c.sessions {
		if id != "shunt" {
			continue
		}
		err := s.Call(pdu.AppendSM(nil, pdu.DeliverSM, 0, &sm), func(resp pdu.PDU, err error) {
			if err == nil && resp.Status() == pdu.ROK {
				c.mu.Lock()
				c.taken++
				c.mu.Unlock()
			}
		})
		if err == nil { // else a session of before
			return
		}
	}
	c.t.Error("Shunt's own bind is not up")
}

// takenMO is how many subscribers' SMS were answered with ESME_ROK.
func (c *center) takenMO() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.taken
}

const verifying = `
[verification]
sender = "Shunt"
short_code = "60555"
confirm = "{app} gets your messages now. Text STOP to 60555 to end this."
`

// register goes the app's whole way to a device: a code by SMS, the check, the
// PUT. It gives the device's bearer.
func (n *node) prove(device string) (bearer string) {
	n.t.Helper()
	before := len(n.smsc.of("shunt"))
	st, v := n.ask("", "POST", "/v1/verifications", map[string]string{"number": subscriber.String(), "app": "chat"})
	if st != http.StatusAccepted {
		n.t.Fatalf("verification: %d %v", st, v)
	}
	var sm pdu.SM
	if err := sm.Decode(n.fallbacks(before + 1)[before]); err != nil || string(sm.Dest.Addr) != subscriber.String()[1:] || string(sm.Source.Addr) != "Shunt" {
		n.t.Fatalf("SMS with the code: %+v, %v", sm, err)
	}
	code := regexp.MustCompile(`[0-9]{6}`).Find(sm.ShortMessage)
	id := v["id"].(string)
	if st, a := n.ask("", "POST", "/v1/verifications/"+id+"/check", map[string]string{"code": "x"}); st/100 != 4 {
		n.t.Errorf("a wrong code: %d %v", st, a)
	}
	st, proof := n.ask("", "POST", "/v1/verifications/"+id+"/check", map[string]string{"code": string(code)})
	if st != http.StatusOK {
		n.t.Fatalf("check: %d %v", st, proof)
	}
	return n.put(device, proof["proof"].(string))
}

func (n *node) put(device, proof string) (bearer string) {
	n.t.Helper()
	st, d := n.ask("", "PUT", "/v1/devices/"+device, map[string]any{
		"proof": proof, "app": "chat", "platform": "apns", "token": strings.Repeat("0a", 32),
	})
	if st/100 != 2 || d["bearer"] == nil {
		n.t.Fatalf("device: %d %v", st, d)
	}
	return d["bearer"].(string)
}

// TestOwnNumber: a number is proven by a code that came as SMS, messages are then
// diverted, until its owner, or whoever has the number next, ends it.
func TestOwnNumber(t *testing.T) {
	a := newAppNode(t, func(text string) string { return text + verifying })
	if _, err := a.g.registry.Remove(t.Context(), subscriber, ""); err != nil {
		t.Fatal(err)
	}
	esme := bind(t, a.addr(), "parcels", 0x34)
	diverted := func(what string, want bool) (id string) {
		t.Helper()
		id = esme.submit(submitTo(subscriber.String()[1:], nil))
		if ours(id) != want {
			t.Errorf("%s: message_id %q, diverted %t, want %t", what, id, ours(id), want)
		}
		return id
	}
	diverted("before anybody proves it", false)
	first := a.prove("phone-1")
	a.until("the confirmation", func() bool {
		all := a.smsc.of("shunt")
		return strings.Contains(string(all[len(all)-1]), "Text STOP")
	})
	a.bearer = first
	if text := a.claim(diverted("proven", true)); text != "Your parcel comes on Monday." {
		t.Errorf("claim: %q", text)
	}

	// Codes, proofs and devices are there after a restart; the key of the codes too.
	a = a.next()
	esme = bind(t, a.addr(), "parcels", 0x34)
	a.claim(diverted("after a restart", true))
	key, err := os.Stat(filepath.Join(a.g.cfg.Node.DataDir, "verification.key"))
	if err != nil || key.Mode().Perm() != 0o600 {
		t.Errorf("key of codes: %v, %v, want it to be its owner's alone", key, err)
	}

	// By an SMS of the user's own. The device of before is evicted.
	st, v := a.ask("", "POST", "/v1/verifications", map[string]string{"number": subscriber.String(), "app": "chat", "channel": "silent-mo"})
	if st != http.StatusAccepted || v["short_code"] != "60555" {
		t.Fatalf("silent verification: %d %v", st, v)
	}
	check := "/v1/verifications/" + v["id"].(string) + "/check"
	if st, p := a.ask("", "POST", check, map[string]string{}); st != http.StatusConflict || p["code"] != "pending" {
		t.Errorf("check before the SMS: %d %v", st, p)
	}
	a.smsc.text(stranger, "60555", v["nonce"].(string)) // from somebody else
	a.smsc.text(subscriber.String()[1:], "60555", v["nonce"].(string))
	var proof map[string]any
	a.until("the SMS has come", func() bool {
		st, proof = a.ask("", "POST", check, map[string]string{})
		return st == http.StatusOK
	})
	second := a.put("phone-2", proof["proof"].(string))
	if st, p := a.ask(first, "GET", "/v1/devices/phone-1", nil); st != http.StatusUnauthorized || p["code"] != "evicted" {
		t.Errorf("the device of before: %d %v, want 401 evicted", st, p)
	}
	a.bearer = second
	a.claim(diverted("proven anew", true))

	// By the app.
	if st, p := a.ask(second, "DELETE", "/v1/devices/phone-2", nil); st != http.StatusNoContent {
		t.Fatalf("DELETE: %d %v", st, p)
	}
	diverted("after DELETE", false)

	// By the subscriber, without the app.
	a.register(subscriber, nil)
	diverted("registered again", true)
	before := a.smsc.takenMO()
	a.smsc.text(subscriber.String()[1:], "60555", " stop ")
	a.until("STOP is answered", func() bool { return a.smsc.takenMO() > before })
	diverted("after STOP", false)
}

// TestRecycledNumber: a feed of numbers with new subscribers ends diversion.
func TestRecycledNumber(t *testing.T) {
	a := newAppNode(t, func(text string) string {
		return text + "[registry]\nrecycled_file = \"recycled.csv\"\nrecycled_every = \"1s\"\n"
	})
	esme := bind(t, a.addr(), "parcels", 0x34)
	if id := esme.submit(submitTo(subscriber.String()[1:], nil)); !ours(id) {
		t.Fatalf("message_id %q, want one of ours", id)
	}
	feed := filepath.Join(filepath.Dir(a.g.cfg.File), "recycled.csv")
	lines := "number,date\nnonsense\n" + subscriber.String() + "," + time.Now().Add(time.Hour).UTC().Format(time.RFC3339) + "\n"
	if err := os.WriteFile(feed, []byte(lines), 0o600); err != nil {
		t.Fatal(err)
	}
	a.until("nobody has the number", func() bool { return !a.g.registry.Lookup(subscriber).Registered() })
	if id := esme.submit(submitTo(subscriber.String()[1:], nil)); ours(id) {
		t.Errorf("message_id %q: still diverted", id)
	}
	if f := a.g.owners.recycled; f.Evicted.Load() != 1 || f.Bad.Load() != 1 {
		t.Errorf("%d evicted, %d bad lines; want one each", f.Evicted.Load(), f.Bad.Load())
	}
}
