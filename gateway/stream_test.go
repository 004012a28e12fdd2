package gateway

import (
	"bufio"
	"net/http"
	"slices"
	"strings"
	"testing"

	"shunt/gateway/msg"
	"shunt/smpp"
	"shunt/smpp/pdu"
)

// follow opens a stream for the handset; what it names comes on the channel, as
// the event's name and the id.
func (a *appNode) follow() <-chan [2]string {
	a.t.Helper()
	r, err := http.NewRequestWithContext(a.t.Context(), "GET", "http://"+a.g.apiListener.Addr().String()+"/v1/stream", nil)
	if err != nil {
		a.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+a.bearer)
	resp, err := http.DefaultClient.Do(r)
	if err != nil || resp.StatusCode != http.StatusOK {
		a.t.Fatalf("stream: %v, %v", resp, err)
	}
	a.t.Cleanup(func() { _ = resp.Body.Close() })
	events := make(chan [2]string, 100)
	go func() {
		defer close(events)
		name := ""
		for sc := bufio.NewScanner(resp.Body); sc.Scan(); {
			line := sc.Text()
			if v, ok := strings.CutPrefix(line, "event: "); ok {
				name = v
			}
			if v, ok := strings.CutPrefix(line, "data: "); ok {
				id := v[strings.Index(v, `"s`)+1:]
				events <- [2]string{name, id[:strings.IndexByte(id, '"')]}
			}
		}
	}()
	return events
}

// TestStreamInsteadOfPush: an app that listens gets its message with no push at
// all; what it does not claim is pushed after a moment; and it is told when a
// message is gone.
func TestStreamInsteadOfPush(t *testing.T) {
	a := newAppNode(t, func(text string) string {
		return strings.Replace(text, "[api]\n", "[api]\nstream_grace = \"300ms\"\n", 1) +
			"[[plan]]\nname = \"app\"\nmatch = {}\nclaim_within = \"3s\"\n"
	})
	esme := bind(t, a.addr(), "parcels", 0x34)
	events := a.follow()
	first := esme.submit(submitTo(subscriber.String()[1:], nil))
	if e := <-events; e != [2]string{"message", first} {
		t.Fatalf("event %v, want the message %s", e, first)
	}
	if a.state(first) != msg.Accepted {
		t.Errorf("announced: %s, want ACCEPTED", a.state(first))
	}
	a.claim(first)
	a.acknowledge(first, "delivered")
	second := esme.submit(submitTo(subscriber.String()[1:], nil))
	if e := <-events; e != [2]string{"message", second} {
		t.Fatalf("event %v, want the message %s", e, second)
	}
	a.until("a push of the one that nobody claimed", func() bool { return len(a.provider.took()) > 0 })
	if got := a.provider.took(); len(got) != 1 || got[0] != second {
		t.Errorf("pushes of %q, want one, of %s", got, second)
	}
	if e := <-events; e != [2]string{"superseded", second} { // its claim time is over
		t.Errorf("event %v, want that %s is gone", e, second)
	}
	if n := len(a.fallbacks(1)); n != 1 {
		t.Errorf("%d SMS, want one", n)
	}
}

// reply sends a reply of the handset's.
func (a *appNode) reply(key string, body map[string]string) (status int, answer map[string]any) {
	a.t.Helper()
	return a.ask(a.bearer, "POST", "/v1/replies", body, "Idempotency-Key", key)
}

// TestReplyReachesTheESME: also when the node stops between the answer and the
// delivery, the user's reply comes to the account that wrote, once, and as
// the acknowledgement that it asked for.
func TestReplyReachesTheESME(t *testing.T) {
	a := newAppNode(t, nil)
	esme := bind(t, a.addr(), "parcels", 0x34)
	id := esme.submit(submitTo(subscriber.String()[1:], func(m *pdu.SM) { m.RegisteredDelivery = 0x08 }))
	a.claim(id)
	a.acknowledge(id, "delivered")
	esme.s.Close(smpp.ErrClosed) // nobody takes it now
	a.until("the ESME is gone", func() bool { return len(a.g.hub.Binds()) == 0 })
	reply := map[string]string{"message_id": id, "text": "Grüße, danke"}
	for range 2 { // without a key each would be a reply of its own
		if st, r := a.reply("key-1", reply); st != http.StatusAccepted || r["message_id"] != id {
			t.Fatalf("reply: %d %v", st, r)
		}
	}
	if st, r := a.reply("key-1", map[string]string{"message_id": id, "text": "another"}); st != http.StatusUnprocessableEntity || r["code"] != "key-reused" {
		t.Errorf("another reply under the same key: %d %v", st, r)
	}
	a = a.next()
	got := bindReceiver(t, a.addr(), "parcels", 0x34)
	taken := func() []pdu.SM {
		got.mu.Lock()
		defer got.mu.Unlock()
		return slices.Clone(got.took)
	}
	a.until("the reply", func() bool { return len(taken()) > 0 })
	if m := taken()[0]; string(m.Source.Addr) != subscriber.String()[1:] || string(m.Dest.Addr) != "Parcel24" || m.ESMClass&0x3C != 0x10 {
		t.Errorf("deliver_sm: %+v, want a manual acknowledgement from the subscriber", m)
	}
	a.until("it is done", func() bool { return a.g.spool.WaitingReplies() == 0 })
	if n := len(taken()); n != 1 {
		t.Errorf("%d deliver_sm, want one", n)
	}
}
