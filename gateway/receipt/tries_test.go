package receipt

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"shunt/gateway/msg"
	"shunt/smpp"
	"shunt/smpp/pdu"
)

// TestTriesAreInTheTrace: the first three times that an ESME does not take a
// receipt are steps of the message's trace, and the last says how many there were;
// also after a restart.
func TestTriesAreInTheTrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		f := start(t, dir, 2)
		b := &scripted{version: 0x34}
		f.up(bank, b)
		id := f.finish(bank, 1)[0]
		one := func() delivery {
			t.Helper()
			time.Sleep(2 * time.Second) // of the bubble's clock: the account rests for one
			synctest.Wait()
			sent := b.take()
			wantIDs(t, "sent", sent, []string{id})
			return sent[0]
		}
		one().answer(pdu.RMSGQFUL)
		one().done(nil, smpp.ErrClosed)
		for range 5 {
			one().answer(pdu.RTHROTTLED)
		}
		last := one()
		parsed, err := msg.ParseID(id)
		if err != nil {
			t.Fatal(err)
		}
		told := func(f *fixture) (all []string) {
			steps, err := f.spool.Trace(parsed)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range steps[3:] { // accept, claim, delivered
				all = append(all, fmt.Sprintf("%s %s->%s %s: %s", s.Event, s.From, s.To, s.Reason, s.Detail))
			}
			return all
		}
		const tried, by = "receipt-tried DELIVERED->DELIVERED receipt: ", ", bind=7 rx 192.0.2.1:4711"
		want := []string{tried + "ESME_RMSGQFUL after 2s" + by, tried + "no answer after 1s" + by + ", try 2", tried + "ESME_RTHROTTLED after 2s" + by + ", try 3"}
		if diff := cmp.Diff(want, told(f)); diff != "" {
			t.Errorf("after seven tries (-want +got):\n%s", diff)
		}
		time.Sleep(time.Second) // what is in memory alone is written
		synctest.Wait()
		f.stop()
		<-f.ended
		if err := f.spool.Close(); err != nil {
			t.Fatal(err)
		}
		last.done(nil, smpp.ErrClosed)

		f = start(t, dir, 2)
		if diff := cmp.Diff(want, told(f)); diff != "" {
			t.Errorf("after the restart (-want +got):\n%s", diff)
		}
		b = &scripted{version: 0x34}
		f.up(bank, b)
		synctest.Wait()
		b.take()[0].answer(pdu.RSYSERR)
		one().answer(pdu.ROK)
		synctest.Wait()
		want = append(want, tried+"ESME_RSYSERR after 0s"+by, "receipt-done DELIVERED->DELIVERED receipt: ESME_ROK after 1s"+by+", try 2")
		if diff := cmp.Diff(want, told(f)); diff != "" {
			t.Errorf("once it is taken (-want +got):\n%s", diff)
		}
		if f.receiptsDue() != 0 {
			t.Errorf("%d due, want 0", f.receiptsDue())
		}
	})
}
