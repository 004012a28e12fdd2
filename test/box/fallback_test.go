package box

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"shunt/smpp"
	"shunt/smpp/pdu"
	"shunt/test/sim/handset"
	"shunt/test/sim/provider"
	"shunt/test/sim/stage"
)

// push runs a simulated push provider until the test ends.
func push(t *testing.T, dir, name string) (info provider.Info) {
	t.Helper()
	file := filepath.Join(dir, name+".json")
	cmd := exec.Command(filepath.Join(bin, "shuntsim"), name, "--pki", filepath.Join(dir, "pki"), "--addr-file", file)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	eventually(t, name+" serves", func() bool { return stage.ReadJSON(file, &info) })
	return info
}

// site is a gateway in front of a simulated SMSC and simulated providers, with one
// phone.
type site struct {
	*gateway
	ctl stage.Control
	api string // base URL of the app API, of the process that runs
}

const phoneBearer = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

// newSite starts one; number is the phone's, without "+".
func newSite(t *testing.T, number string, claimWithin time.Duration) *site {
	t.Helper()
	g := &site{gateway: &gateway{dir: t.TempDir(), listen: freeAddr(t)}}
	behind := smsc(t)
	conf := stage.Config{
		Dir: g.dir, Listen: g.listen, SMSC: behind, Own: behind, APNs: push(t, g.dir, "apns"), FCM: push(t, g.dir, "fcm"),
		ClaimWithin: claimWithin,
	}
	if err := conf.Write(); err != nil {
		t.Fatal(err)
	}
	g.conf, g.socket = conf.File(), conf.Socket()
	g.ctl = stage.NewControl(g.socket)
	g.startDiverting(t)
	phone, err := json.Marshal(handset.Device{
		Number: "+" + number, App: "chat", Platform: "apns", Token: strings.Repeat("ab", 32), Device: "phone", Bearer: phoneBearer, State: "active",
	})
	if err != nil {
		t.Fatal(err)
	}
	devices := filepath.Join(g.dir, stage.DevicesFile)
	if err := os.WriteFile(devices, phone, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := g.ctl.Provision(devices); err != nil {
		t.Fatal(err)
	}
	return g
}

// startDiverting starts the gateway's process and waits until it diverts.
func (g *site) startDiverting(t *testing.T) {
	t.Helper()
	g.start(t)
	eventually(t, "the gateway diverts", func() bool {
		st, ok := g.ctl.Status()
		if ok && len(st.API) > 0 {
			g.api = "http://" + st.API[0]
		}
		return ok && st.Ready()
	})
}

// kill ends the gateway with SIGKILL.
func (g *gateway) kill(t *testing.T) {
	t.Helper()
	if err := g.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-g.done
}

// esme is one bind of an ESME.
type esme struct {
	s        *smpp.Session
	receipts chan smpp.Receipt
}

func bindAs(t *testing.T, addr string, id pdu.ID) *esme {
	t.Helper()
	s, _, err := smpp.Dial(t.Context(), addr, id, pdu.Bind{SystemID: "bank", InterfaceVersion: pdu.Version34}, smpp.Config{})
	if err != nil {
		t.Fatal(err)
	}
	e := &esme{s: s, receipts: make(chan smpp.Receipt, 10)}
	go func() { _ = s.Serve(e) }()
	t.Cleanup(func() { s.Close(nil) })
	return e
}

func (e *esme) HandleRequest(p pdu.PDU) {
	var m pdu.SM
	if p.ID() == pdu.DeliverSM && m.Decode(p) == nil {
		if r, ok := smpp.ParseReceipt(&m); ok {
			e.receipts <- r
		}
		_ = e.s.Send(pdu.AppendMessageResp(nil, pdu.DeliverSMResp, pdu.ROK, p.Seq(), ""))
	}
}
func (e *esme) HandleResponse(pdu.PDU) {}
func (e *esme) HandleBatch()           {}

// submit returns the message_id of the response.
func (e *esme) submit(t *testing.T, to string) string {
	t.Helper()
	m := pdu.SM{
		Source: pdu.Address{TON: pdu.TONAlphanumeric, Addr: []byte("Bank")}, Dest: pdu.Address{TON: 1, NPI: 1, Addr: []byte(to)},
		RegisteredDelivery: 1, ShortMessage: []byte("Your table is booked."),
	}
	type answer struct {
		id  string
		err error
	}
	got := make(chan answer, 1)
	if err := e.s.Call(pdu.AppendSM(nil, pdu.SubmitSM, 0, &m), func(p pdu.PDU, err error) {
		var a answer
		if a.err = err; err == nil {
			a.id, a.err = pdu.MessageID(p)
		}
		got <- a
	}); err != nil {
		t.Fatal(err)
	}
	select {
	case a := <-got:
		if a.err != nil {
			t.Fatalf("submit_sm to %s: %v", to, a.err)
		}
		return a.id
	case <-time.After(20 * time.Second):
		t.Fatalf("submit_sm to %s has no answer", to)
	}
	return ""
}

func (e *esme) unbind(t *testing.T) {
	t.Helper()
	e.s.Unbind(5 * time.Second)
	select {
	case <-e.s.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("the bind does not end")
	}
}

// TestFallbackOutlivesItsESMEAndTheGateway: a message of an ESME that bound as
// transmitter only, unbound, and lost the gateway to kill -9 still goes as SMS.
// Its receipt waits, over another kill -9 and past a bind that may not receive,
// for one that may.
func TestFallbackOutlivesItsESMEAndTheGateway(t *testing.T) {
	const number = "447700900042"
	g := newSite(t, number, 4*time.Second)

	tx := bindAs(t, g.listen, pdu.BindTransmitter)
	id := tx.submit(t, number)
	tx.unbind(t)
	is := func(state string) func() bool {
		return func() bool {
			words := g.ctl.Words(id)
			return len(words) == 1 && words[0].State == state
		}
	}
	eventually(t, "the push is taken", is("PUSHED"))
	g.kill(t)
	g.startDiverting(t)
	eventually(t, "the SMS is delivered", is("SMS_DELIVERED"))
	g.kill(t)
	g.startDiverting(t)

	waits := func(when string) {
		t.Helper()
		if st, ok := g.ctl.Status(); !ok || st.Spool.ReceiptsDue != 1 {
			t.Errorf("%s: %d receipts due, want 1", when, st.Spool.ReceiptsDue)
		}
	}
	waits("after the second kill")
	tx = bindAs(t, g.listen, pdu.BindTransmitter)
	tx.submit(t, "447700950001") // to the SMSC and back: the bind was there all the time
	waits("with a bind that may not receive")
	tx.unbind(t)
	rx := bindAs(t, g.listen, pdu.BindReceiver)
	for {
		select {
		case r := <-rx.receipts:
			if r.ID != id { // of the message that only passed
				continue
			}
			if r.State != smpp.StateDelivered {
				t.Errorf("the receipt says %s, want DELIVRD", r.State.Stat())
			}
		case <-time.After(20 * time.Second):
			t.Fatal("no receipt came")
		}
		break
	}
	eventually(t, "the receipt is done", func() bool {
		st, ok := g.ctl.Status()
		return ok && st.Spool.ReceiptsDue == 0 && st.Spool.LiveTotal == 0
	})
	select {
	case r := <-rx.receipts:
		if r.ID == id {
			t.Error("the receipt came twice")
		}
	default:
	}
}
