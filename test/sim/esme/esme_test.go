package esme

import (
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"shunt/smpp/coding"
	"shunt/smpp/pdu"
	"shunt/test/sim/books"
	"shunt/test/sim/smsc"
)

func startSMSC(t *testing.T, o smsc.Options) (*smsc.Server, string) {
	t.Helper()
	o.Book = filepath.Join(t.TempDir(), "smsc")
	s, err := smsc.New(o)
	if err == nil {
		err = s.Start(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, o.Book
}

const everyKind = "gsm=1,gsm-ext=1,latin1=1,ucs2=1,emoji=1,payload=1,long=1,otp=1"

// Straight from ESME to SMSC every message is forwarded, whoever encodes it.
func TestBooksAgree(t *testing.T) {
	for name, tc := range map[string]struct {
		smsc smsc.Options
		esme Options
	}{
		"shunt":           {smsc.Options{}, Options{Binds: 2}},
		"shunt, tx+rx":    {smsc.Options{ReceiptBeforeResp: 0.5}, Options{Bind: "tx+rx", Version: pdu.Version33}},
		"shunt, validity": {smsc.Options{FailRate: 0.2, ExpireRate: 0.2}, Options{Validity: time.Hour, Version: pdu.Version50}},
		"two forms of id": {smsc.Options{ID: smsc.IDHexThenDe, ReceiptBeforeResp: 0.3}, Options{IDForm: "hex-resp-dec-receipt"}},
		"the other way":   {smsc.Options{ID: smsc.IDDecThenHe}, Options{IDForm: "dec-resp-hex-receipt", Client: ClientGoSMPP}},
		"go-smpp":         {smsc.Options{FailRate: 0.1, Latency: 2 * time.Millisecond, Jitter: time.Millisecond}, Options{Client: ClientGoSMPP, Binds: 2, Window: 20}},
	} {
		t.Run(name, func(t *testing.T) {
			s, smscBook := startSMSC(t, tc.smsc)
			o := tc.esme
			o.Addr, o.SystemID, o.Count, o.Receipts, o.Mix = s.Addr().String(), "bank", 600, 0.7, everyKind
			o.Book, o.Seed, o.Linger = filepath.Join(t.TempDir(), "esme"), 42, 50*time.Millisecond
			if o.Window == 0 {
				o.Window = 50
			}
			sum, err := Run(t.Context(), o)
			if err != nil {
				t.Fatalf("Run: %v", err)
			}
			if err := sum.Fault(); err != nil || sum.Accepted != o.Count || sum.ReceiptsMatched != sum.ReceiptsAsked || sum.ReceiptsAsked < o.Count/2 {
				t.Errorf("summary %+v, fault %v, want %d accepted and every receipt", sum, err, o.Count)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			b, err := books.Load(smscBook, "", o.Book)
			if err != nil {
				t.Fatal(err)
			}
			r := books.Reconcile(b, books.Options{ForwardedIDs: o.IDForm == ""})
			if !r.OK() || r.Forwarded != o.Count || r.ReceiptsMatched != sum.ReceiptsAsked {
				t.Errorf("report: forwarded %d, receipts %d of %d, faults %v %v", r.Forwarded, r.ReceiptsMatched, r.ReceiptsAsked, r.Counts, r.Faults)
			}
		})
	}
}

func TestRefusalsAreCounted(t *testing.T) {
	s, _ := startSMSC(t, smsc.Options{ThrottleRate: 0.5, Accounts: map[string]string{"bank": "pw"}})
	o := Options{Addr: s.Addr().String(), SystemID: "bank", Password: "pw", Count: 200, Window: 10, Receipts: 1}
	sum, err := Run(t.Context(), o)
	if err != nil || sum.Fault() != nil || sum.Refused == 0 || sum.Accepted == 0 || sum.Refused+sum.Accepted != 200 {
		t.Errorf("Run = %+v, %v, want 200 answers, some of them refusals", sum, err)
	}
	o.Password = "no"
	for _, client := range []string{ClientShunt, ClientGoSMPP} {
		o.Client = client
		if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "password") {
			t.Errorf("%s with a wrong password: %v, want an error that says so", client, err)
		}
	}
}

// cutter is a TCP relay that cuts its first connections after so many octets
// from the server.
type cutter struct {
	ln    net.Listener
	to    string
	after int64
	wg    sync.WaitGroup
}

func newCutter(t *testing.T, to string, after int64, cuts int) *cutter {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{ln: ln, to: to, after: after}
	c.wg.Go(func() {
		for n := 0; ; n++ {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			c.wg.Go(func() { c.relay(in, n < cuts) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		c.wg.Wait()
	})
	return c
}

func (c *cutter) relay(in net.Conn, cut bool) {
	out, err := net.Dial("tcp", c.to)
	if err != nil {
		_ = in.Close()
		return
	}
	c.wg.Go(func() {
		_, _ = io.Copy(out, in)
		_ = out.Close()
	})
	if cut {
		_, _ = io.CopyN(in, out, c.after)
	} else {
		_, _ = io.Copy(in, out)
	}
	_ = in.Close()
	_ = out.Close()
}

// After a lost connection the ESME binds again and goes on; what was not
// answered is booked so and never sent again.
func TestReconnect(t *testing.T) {
	for _, client := range []string{ClientShunt, ClientGoSMPP} {
		t.Run(client, func(t *testing.T) {
			s, smscBook := startSMSC(t, smsc.Options{Latency: 5 * time.Millisecond, ReceiptDelay: 50 * time.Millisecond})
			c := newCutter(t, s.Addr().String(), 3000, 1)
			o := Options{
				Addr: c.ln.Addr().String(), SystemID: "bank", Client: client, Count: 400, Window: 20, Receipts: 1, Reconnect: true,
				Book: filepath.Join(t.TempDir(), "esme"), ReceiptWait: 5 * time.Second, Linger: 300 * time.Millisecond, Response: 2 * time.Second,
			}
			sum, err := Run(t.Context(), o)
			if err != nil || sum.Fault() != nil {
				t.Fatalf("Run: %v, %v", err, sum.Fault())
			}
			if sum.Lost == 0 || sum.Unanswered == 0 || sum.Unanswered+sum.Accepted != 400 {
				t.Errorf("summary %+v, want a lost connection and unanswered messages, 400 in all", sum)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			b, err := books.Load(smscBook, "", o.Book)
			if err != nil {
				t.Fatal(err)
			}
			r := books.Reconcile(b, books.Options{RepeatedReceipts: true, ForwardedIDs: true})
			if !r.OK() || r.Unanswered != sum.Unanswered {
				t.Errorf("report: unanswered %d, want %d; faults %v", r.Unanswered, sum.Unanswered, r.Faults)
			}
		})
	}
}

func TestWithoutReconnectItIsAnError(t *testing.T) {
	s, _ := startSMSC(t, smsc.Options{Latency: 5 * time.Millisecond})
	c := newCutter(t, s.Addr().String(), 1000, 2)
	for _, client := range []string{ClientShunt, ClientGoSMPP} {
		o := Options{Addr: c.ln.Addr().String(), SystemID: "bank", Client: client, Count: 1000, Window: 10, Response: 2 * time.Second}
		_, err := Run(t.Context(), o)
		if err == nil || !strings.Contains(err.Error(), "connection lost") {
			t.Errorf("%s over a connection that is cut: %v, want an error that says so", client, err)
		}
	}
}

func TestMessagesAreUniqueAndEncodable(t *testing.T) {
	o := Options{SystemID: "bank", Mix: everyKind, Receipts: 0.5, Addr: "x", Seed: 3}
	if err := o.check(); err != nil {
		t.Fatal(err)
	}
	numbers, err := Numbers("", "447700900000-447700900009")
	if err != nil {
		t.Fatal(err)
	}
	g, err := newGenerator(&o, numbers)
	if err != nil {
		t.Fatal(err)
	}
	seen, seqs, kindsSeen := map[string]bool{}, map[int]bool{}, map[string]int{}
	escapes, surrogates, parts := 0, 0, 0
	for range 20_000 {
		s, err := g.next()
		if err != nil {
			t.Fatal(err)
		}
		body := books.SumBlank(&s.sm)
		if seen[body] || seqs[s.seq] {
			t.Fatalf("message %d (%s) is there twice", s.seq, s.kind)
		}
		seen[body], seqs[s.seq] = true, true
		kindsSeen[s.kind]++
		payload, ok := s.sm.Payload()
		if !ok {
			t.Fatalf("message %d has two texts", s.seq)
		}
		if s.sm.ESMClass&0x40 != 0 {
			parts++
			if _, ok := coding.PartOf(payload); !ok {
				t.Fatalf("message %d: no sound part", s.seq)
			}
			continue
		}
		alphabet, _ := coding.OfDataCoding(s.sm.DataCoding, coding.GSM7)
		text, err := coding.Decode(alphabet, payload)
		if err != nil || text != s.text {
			t.Fatalf("message %d (%s) does not decode to its text: %v", s.seq, s.kind, err)
		}
		if s.kind == "gsm-ext" && alphabet == coding.GSM7 && strings.Contains(string(payload), "\x1b") {
			escapes++
		}
		if s.kind == "emoji" && strings.ContainsFunc(text, func(r rune) bool { return r > 0xFFFF }) {
			surrogates++
		}
		if s.kind == "gsm" && alphabet != coding.GSM7 {
			t.Fatalf("message %d of kind gsm is in %s", s.seq, alphabet)
		}
	}
	if len(kindsSeen) != len(kinds) || escapes != kindsSeen["gsm-ext"] || surrogates != kindsSeen["emoji"] || parts == 0 {
		t.Errorf("kinds %v, escapes %d, surrogates %d, parts %d", kindsSeen, escapes, surrogates, parts)
	}
}

func TestHistogram(t *testing.T) {
	var h Histogram
	for us := 1; us <= 100_000; us++ {
		h.Add(time.Duration(us) * time.Microsecond)
	}
	for q, want := range map[float64]float64{0.5: 50, 0.9: 90, 0.99: 99, 0.999: 99.9, 1: 100} {
		got := float64(h.Quantile(q).Microseconds()) / 1000
		if got < want*0.999 || got > want*1.016 {
			t.Errorf("Quantile(%v) = %v ms, want %v to 1.6 %% more", q, got, want)
		}
	}
	for i := range 64 * 34 {
		if us := upper(i); bucket(us) != i && us < 1<<39 {
			t.Fatalf("bucket(upper(%d)) = %d", i, bucket(us))
		}
	}
	h.Add(1000 * time.Hour)
	if got := h.Quantile(1); got != 1000*time.Hour {
		t.Errorf("maximum %v, want 1000 h", got)
	}
}

func TestOptions(t *testing.T) {
	good := Options{Addr: "a", SystemID: "b"}
	if err := good.check(); err != nil {
		t.Errorf("check: %v", err)
	}
	for name, spoil := range map[string]func(*Options){
		"no address":             func(o *Options) { o.Addr = "" },
		"bind":                   func(o *Options) { o.Bind = "x" },
		"client":                 func(o *Options) { o.Client = "x" },
		"id":                     func(o *Options) { o.IDForm = "x" },
		"go-smpp with tx+rx":     func(o *Options) { o.Client, o.Bind = ClientGoSMPP, "tx+rx" },
		"go-smpp with validity":  func(o *Options) { o.Client, o.Validity = ClientGoSMPP, time.Hour },
		"a window out of bounds": func(o *Options) { o.Window = 1_000_000 },
	} {
		o := Options{Addr: "a", SystemID: "b"}
		spoil(&o)
		if o.check() == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for _, span := range []string{"", "5-4", "a-b", "1-99999999999"} {
		if _, err := Numbers("", span); err == nil {
			t.Errorf("Numbers(%q): no error", span)
		}
	}
	for _, mix := range []string{"", "gsm", "x=1", "gsm=-1"} {
		if _, err := ParseMix(mix); err == nil {
			t.Errorf("ParseMix(%q): no error", mix)
		}
	}
}
