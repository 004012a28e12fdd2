package gateway

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"shunt/gateway/msg"
	"shunt/gateway/noc"
	"shunt/smpp/pdu"
)

// TestWatch: of a watched number every PDU is shown, of what is forwarded and of
// what is diverted, and nothing of others; when nobody watches the tap is off.
func TestWatch(t *testing.T) {
	a := newAppNode(t, nil)
	e := bind(t, a.addr(), "parcels", 0x34)
	c := &control{a.g}
	const watched msg.Number = 447700900222
	start := func(n msg.Number) (seen chan noc.Passed, stop func()) {
		seen = make(chan noc.Passed, 100)
		ctx, cancel := context.WithCancel(t.Context())
		begun, ended := make(chan struct{}), make(chan error, 1)
		go func() {
			ended <- c.Watch(ctx, n, func(p *noc.Passed) error {
				if p == nil {
					close(begun)
				} else {
					seen <- *p
				}
				return nil
			})
		}()
		<-begun
		return seen, func() {
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("Watch() = %v", err)
			}
		}
	}
	said := func(p noc.Passed) string {
		return fmt.Sprintf("%s %s %s %s>%s %s", p.ESME, p.Way, p.PDU, p.From, p.To, p.Status)
	}
	forwarded, stopForwarded := start(watched)
	diverted, stopDiverted := start(subscriber)
	e.submit(submitTo(stranger, nil)) // nobody's
	id := e.submit(submitTo("447700900222", func(m *pdu.SM) { m.Source.Addr = []byte("Shop") }))
	for _, want := range []string{
		"parcels esme-to-smsc submit_sm Shop>447700900222 ",
		"parcels smsc-to-esme submit_sm_resp > ESME_ROK",
	} {
		if got := <-forwarded; said(got) != want {
			t.Errorf("saw %q, want %q", said(got), want)
		} else if got.Status != "" && (got.Message != id || got.TookMS <= 0) {
			t.Errorf("answer %+v, want message_id %s and its time", got, id)
		}
	}
	own := e.submit(saying("a text that is not shown", nil))
	for _, want := range []string{
		"parcels esme-to-smsc submit_sm Parcel24>" + subscriber.String()[1:] + " ",
		"parcels shunt-to-esme submit_sm_resp > ESME_ROK",
	} {
		got := <-diverted
		if said(got) != want || strings.Contains(fmt.Sprintf("%+v", got), "a text that") {
			t.Errorf("saw %+v, want %q", got, want)
		}
		if got.Status != "" && got.Message != own {
			t.Errorf("answer %+v, want message_id %s", got, own)
		}
	}
	a.smsc.judging(func(string, pdu.PDU) pdu.Status { return pdu.RINVDSTADR })
	if st := e.ask(submitTo(stranger, nil)).Status(); st != pdu.RINVDSTADR {
		t.Errorf("submit_sm_resp = %v", st)
	}
	if all := c.Sessions(); len(all) != 1 || !strings.HasPrefix(all[0].LastError, "ESME_RINVDSTADR at 20") {
		t.Errorf("sessions = %+v, want the SMSC's last refusal", all)
	}
	stopForwarded()
	stopDiverted()
	if len(forwarded)+len(diverted) > 0 {
		t.Errorf("%d and %d more were seen", len(forwarded), len(diverted))
	}
	w := &a.g.watches
	if len(w.all)+len(w.awaiting)+len(w.since) > 0 {
		t.Errorf("left: %d watches, %d requests", len(w.all), len(w.awaiting))
	}
	var stops []func()
	for range maxWatches {
		_, stop := start(watched)
		stops = append(stops, stop)
	}
	if err := c.Watch(t.Context(), watched, func(*noc.Passed) error { return nil }); err != noc.ErrTooManyWatches {
		t.Errorf("one watch too many = %v, want %v", err, noc.ErrTooManyWatches)
	}
	for _, stop := range stops {
		stop()
	}
}
