package esme

import (
	"path/filepath"
	"testing"
	"time"

	"shunt/test/sim/books"
	"shunt/test/sim/smsc"
)

// TestReceiptsOfFailuresOnly: what asked for a receipt in case of failure gets
// it then and only then.
func TestReceiptsOfFailuresOnly(t *testing.T) {
	s, smscBook := startSMSC(t, smsc.Options{FailRate: 0.3})
	o := Options{
		Addr: s.Addr().String(), SystemID: "bank", Count: 300, Window: 50, Receipts: 0.3, OnFailure: 0.4, Burst: 4,
		Validity: time.Hour, ValidityShare: 0.5, Book: filepath.Join(t.TempDir(), "esme"), Linger: 200 * time.Millisecond,
	}
	sum, err := Run(t.Context(), o)
	if err != nil || sum.Fault() != nil || sum.OfFailures == 0 {
		t.Fatalf("Run = %+v, %v, want receipts of failures", sum, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	b, err := books.Load(smscBook, "", o.Book)
	if err != nil {
		t.Fatal(err)
	}
	r := books.Reconcile(b, books.Options{ForwardedIDs: true})
	if !r.OK() || r.ReceiptsMatched != sum.ReceiptsMatched+sum.OfFailures {
		t.Errorf("receipts %d, want %d and %d; faults %v %v", r.ReceiptsMatched, sum.ReceiptsMatched, sum.OfFailures, r.Counts, r.Faults)
	}
	pairs, valid := 0, 0
	for i := range b.ESME {
		if b.ESME[i].Validity > 0 {
			valid++
		}
		if i > 0 && b.ESME[i].Dest == b.ESME[i-1].Dest && b.ESME[i].Source == b.ESME[i-1].Source {
			pairs++
		}
	}
	if valid < 90 || valid > 210 || pairs < 100 {
		t.Errorf("%d of 300 have a validity and %d follow one of the same pair, want about 150 and 180", valid, pairs)
	}
}

// TestReceiverThatComesAndGoes: the receipts wait for it.
func TestReceiverThatComesAndGoes(t *testing.T) {
	s, _ := startSMSC(t, smsc.Options{})
	sum, err := Run(t.Context(), Options{
		Addr: s.Addr().String(), SystemID: "shop", Bind: "tx+rx", Reconnect: true, Receipts: 1, Window: 20, Rate: 500,
		For: 600 * time.Millisecond, ReceiverUp: 60 * time.Millisecond, ReceiverDown: 40 * time.Millisecond,
	})
	if err != nil || sum.Fault() != nil || sum.Lost != 0 || sum.Binds < 4 || sum.ReceiptsMatched != sum.Accepted || sum.Accepted < 50 {
		t.Errorf("Run = %+v, %v, want every receipt, several binds and no lost connection", sum, err)
	}
	for _, o := range []Options{
		{Bind: "trx", Reconnect: true, ReceiverUp: time.Second, ReceiverDown: time.Second},
		{Bind: "tx+rx", Reconnect: true, ReceiverUp: time.Second},
		{Receipts: 0.7, OnFailure: 0.4},
	} {
		o.Addr, o.SystemID = "127.0.0.1:1", "shop"
		if err := o.check(); err == nil {
			t.Errorf("check(%+v): no error", o)
		}
	}
}
