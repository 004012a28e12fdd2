package gateway

import (
	"net/http"
	"strings"
	"testing"

	"shunt/gateway/alarm"
	"shunt/gateway/msg"
	"shunt/store/registry"
)

// second registers one more device of the subscriber's and returns a node that
// calls with its bearer.
func (a *appNode) second(app, device string, preference uint8) *appNode {
	a.t.Helper()
	res, err := a.g.registry.Put(a.t.Context(), registry.Put{
		Number: subscriber, App: app, Platform: registry.APNs, Token: strings.Repeat("0b", 32), Device: device, Active: true,
		Traits: registry.Traits{Preference: preference},
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return &appNode{node: a.node, provider: a.provider, bearer: res.Bearer}
}

// TestSiblingDevices: the first claim wins, and the other device, which listens,
// is told so and gets no text.
func TestSiblingDevices(t *testing.T) {
	phone := newAppNode(t, nil)
	tablet := phone.second("chat", "tablet", 0)
	onPhone, onTablet := phone.follow(), tablet.follow()
	id := bind(t, phone.addr(), "parcels", 0x34).submit(submitTo(registeredNumber, nil))
	for name, events := range map[string]<-chan [2]string{"phone": onPhone, "tablet": onTablet} {
		if e := <-events; e != [2]string{"message", id} {
			t.Fatalf("%s: event %v, want the message %s", name, e, id)
		}
	}
	if text := tablet.claim(id); text == "" {
		t.Error("claim without a text")
	}
	if e := <-onPhone; e != [2]string{"superseded", id} {
		t.Errorf("phone: event %v, want that %s is gone", e, id)
	}
	if st, p := phone.ask(phone.bearer, "POST", "/v1/messages/"+id+"/claim", nil); st != http.StatusConflict || p["code"] != "superseded" || p["text"] != nil {
		t.Errorf("the phone's claim: %d %v, want 409 superseded", st, p)
	}
	if st, m := phone.ask(phone.bearer, "GET", "/v1/messages/"+id, nil); m["text"] != nil {
		t.Errorf("the phone's GET: %d %v, want no text", st, m)
	}
	if got := phone.listed(phone.bearer); len(got) > 0 {
		t.Errorf("the phone lists %q", got)
	}
	tablet.claim(id) // the winner's replay
	tablet.acknowledge(id, "delivered")
	phone.await(id, msg.Delivered)
}

const twoApps = `
[[app]]
id = "news"
active_for = "24h"
apns = { team_id = "ABCDE12345", key_id = "FGHIJ67890", key_file = "chat.p8", topic = "com.example.news", endpoint = "https://127.0.0.1:1" }
`

// TestPreferenceAmongApps: of the apps of a number the one with the lowest
// preference has its messages; without it, the next.
func TestPreferenceAmongApps(t *testing.T) {
	a := newAppNode(t, func(text string) string { return text + twoApps }) // chat, preference 0
	esme := bind(t, a.addr(), "parcels", 0x34)
	appOf := func(when, want string) {
		t.Helper()
		wire := esme.submit(submitTo(registeredNumber, nil))
		id, err := msg.ParseID(wire)
		if err != nil {
			t.Fatalf("%s: message_id %q, want one of ours", when, wire)
		}
		if r, err := a.g.spool.Get(id); err != nil || r.App != want {
			t.Errorf("%s: for app %q, %v, want %q", when, r.App, err, want)
		}
	}
	news := a.second("news", "reader", 7)
	appOf("chat has 0, news 7", "chat")
	body := map[string]any{"app": "chat", "platform": "apns", "token": strings.Repeat("0a", 32), "preference": 9}
	if st, d := a.ask(a.bearer, "PUT", "/v1/devices/phone", body); st != http.StatusOK || d["preference"] != 9.0 {
		t.Fatalf("PUT of a preference: %d %v", st, d)
	}
	appOf("chat has 9, news 7", "news")
	if st, p := a.ask(news.bearer, "POST", "/v1/devices/reader/heartbeat", map[string]any{"permission": "denied"}); st != http.StatusNoContent {
		t.Fatalf("heartbeat: %d %v", st, p)
	}
	appOf("news may not notify", "chat")
}

// TestEvictNumber: with evict = "number" a proof takes the devices of all apps off
// the number, without it those of the same app alone.
func TestEvictNumber(t *testing.T) {
	for evict, want := range map[string]int{"app": http.StatusOK, "number": http.StatusUnauthorized} {
		t.Run(evict, func(t *testing.T) {
			a := newAppNode(t, func(text string) string {
				return text + twoApps + strings.Replace(verifying, "[verification]", "[verification]\nevict = \""+evict+"\"", 1)
			})
			news := a.second("news", "reader", 0)
			a.prove("phone-2")
			if st, p := a.ask(a.bearer, "GET", "/v1/devices/phone", nil); st != http.StatusUnauthorized || p["code"] != "evicted" {
				t.Errorf("the app's own device of before: %d %v, want 401 evicted", st, p)
			}
			if st, p := a.ask(news.bearer, "GET", "/v1/devices/reader", nil); st != want || want != http.StatusOK && p["code"] != "evicted" {
				t.Errorf("the other app's device: %d %v, want %d", st, p, want)
			}
		})
	}
}

// TestPresence: a device that says nothing becomes stale and inactive, a
// heartbeat brings it back at once, and a restart forgets neither.
func TestPresence(t *testing.T) {
	a := newAppNode(t, func(text string) string {
		return strings.Replace(text, `id = "chat"`, "id = \"chat\"\nactive_for = \"1s\"\ninactive_after = \"2s\"", 1)
	})
	state := func() string {
		st, d := a.ask(a.bearer, "POST", "/v1/devices/phone/heartbeat", map[string]any{})
		if st != http.StatusNoContent {
			t.Fatalf("heartbeat: %d %v", st, d)
		}
		_, d = a.ask(a.bearer, "GET", "/v1/devices/phone", nil)
		return d["state"].(string)
	}
	entry := func() msg.Entry { return a.g.registry.Lookup(subscriber) }
	a.until("stale", func() bool { e := entry(); return e.Active() && e.Stale() })
	a.until("inactive", func() bool { return !entry().Active() })
	esme := bind(t, a.addr(), "parcels", 0x34)
	if id := esme.submit(submitTo(registeredNumber, nil)); ours(id) {
		t.Errorf("message_id %q: diverted to an inactive device", id)
	}
	a = a.next()
	a.until("the index", a.g.registry.Ready)
	if entry().Active() {
		t.Error("a restart made an inactive device active")
	}
	if got := state(); got != "active" {
		t.Errorf("after a heartbeat: %s, want active", got)
	}
	esme = bind(t, a.addr(), "parcels", 0x34)
	if e := entry(); !e.Active() || e.Stale() {
		t.Errorf("after a heartbeat: entry %x, want active", e)
	}
	if id := esme.submit(submitTo(registeredNumber, nil)); !ours(id) {
		t.Errorf("message_id %q: not diverted after a heartbeat", id)
	}
}

// TestPumpingIsAnAlarm: what the API is asked for raises the gateway's alarm.
func TestPumpingIsAnAlarm(t *testing.T) {
	n := newNode(t, func(text string) string { return text + verifying + "alarm_sequence = 3\n" }).run()
	for _, number := range []string{"+447700900061", "+447700900062", "+447700900063"} {
		if st, p := n.ask("", "POST", "/v1/verifications", map[string]string{"number": number, "app": "chat"}); st != http.StatusAccepted {
			t.Fatalf("verification: %d %v", st, p)
		}
	}
	n.until("the alarm", func() bool {
		for _, a := range n.g.alarms.Raised() {
			if a.Name == alarm.Pumping {
				return strings.Contains(a.Text, "+447700") && !strings.Contains(a.Text, "900063")
			}
		}
		return false
	})
}
