// Package esme is a simulated ESME: it sends real-looking messages in many
// alphabets, measures the responses and matches every receipt to its message.
package esme

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"shunt/smpp/pdu"
	"shunt/test/sim/books"
)

// Clients that an ESME can be.
const (
	ClientShunt  = "shunt"   // the engine in shunt/smpp
	ClientGoSMPP = "go-smpp" // github.com/fiorix/go-smpp, an independent peer
)

// Options are what the ESME does.
type Options struct {
	Addr                 string
	SystemID, Password   string
	SystemType           string
	Bind                 string // trx or tx+rx
	Binds                int
	Version              byte // interface_version
	Window               int  // unanswered submit_sm a bind
	Client               string
	Rate                 float64       // submit_sm a second over all binds; 0: as fast as it goes
	Count                int           // submit_sm in all; 0: until stopped
	For                  time.Duration // sends for so long; 0: no end but Count
	Numbers, NumberRange string        // a file, or FROM-TO
	From                 []string
	Mix                  string
	Burst                int           // up to so many messages in sequence between the same two; 0: 1
	Receipts             float64       // share that asks for a receipt
	OnFailure            float64       // share that asks for one in case of failure only
	Validity             time.Duration // 0: the SMSC's default
	ValidityShare        float64       // of the messages that have it; 0: all
	ReceiverUp           time.Duration // receivers stay bound so long, and then away for ReceiverDown; 0: for good
	ReceiverDown         time.Duration
	IDForm               string // raw, hex-resp-dec-receipt, dec-resp-hex-receipt
	Seed                 uint64
	Book                 string
	ReceiptWait          time.Duration // without any news, before missing receipts are given up
	Linger               time.Duration // stays bound so long after the last receipt, to see doubled ones
	Response             time.Duration // how long a response may take
	Reconnect            bool          // binds again after a lost connection
	Progress             func(Progress)
}

// Progress is how far an ESME is.
type Progress struct {
	Count    int `json:"count"`
	Sent     int `json:"sent"`
	Answered int `json:"answered"`
	Receipts int `json:"receipts"`
	Open     int `json:"receipts_open"`
}

// Summary counts what happened.
type Summary struct {
	SystemID        string         `json:"system_id"`
	Client          string         `json:"client"`
	Seed            uint64         `json:"seed"`
	Submitted       int            `json:"submitted"`
	Answered        int            `json:"answered"`
	Accepted        int            `json:"accepted"`
	Refused         int            `json:"refused"`
	Unanswered      int            `json:"unanswered"`
	Statuses        map[string]int `json:"statuses"`
	SameID          int            `json:"same_message_id"`
	ReceiptsAsked   int            `json:"receipts_asked"`
	ReceiptsMatched int            `json:"receipts_matched"`
	ReceiptsMissing int            `json:"receipts_missing"`
	ReceiptsDoubled int            `json:"receipts_doubled"`
	OfFailures      int            `json:"receipts_of_failures"` // that were asked for in case of failure only
	Unmatched       int            `json:"receipts_unmatched"`
	Unasked         int            `json:"receipts_unasked"`
	Unreadable      int            `json:"receipts_unreadable"`
	Intermediate    int            `json:"intermediate"`
	MO              int            `json:"mo"`
	Unencodable     int            `json:"unencodable"`
	Binds           int            `json:"binds"`
	Lost            int            `json:"connections_lost"`
	Elapsed         float64        `json:"elapsed_s"`
	Rate            float64        `json:"rate_per_s"` // responses a second while sending
	Latency         Latency        `json:"latency"`
}

// Fault says what went wrong that must not, or nil. Refusals are the SMSC's
// right, and unanswered messages the connection's. A lost connection may also
// cut off the answer to a receipt, which then comes again, and the response to
// a message, whose receipt then names an id that was never seen.
func (s *Summary) Fault() error {
	doubled, unmatched := s.ReceiptsDoubled, s.Unmatched
	if s.Lost > 0 {
		doubled = 0
	}
	if s.Unanswered > 0 {
		unmatched = 0
	}
	for _, f := range []struct {
		n    int
		what string
	}{
		{s.ReceiptsMissing, "receipts missing"},
		{doubled, "receipts doubled"},
		{unmatched, "receipts for no message of ours"},
		{s.Unasked, "receipts that nobody asked for"},
		{s.Unreadable, "receipts that cannot be read"},
		{s.SameID, "message ids given twice"},
		{s.Unencodable, "messages that the client cannot encode"},
	} {
		if f.n > 0 {
			return fmt.Errorf("%d %s", f.n, f.what)
		}
	}
	return nil
}

func (o *Options) check() error {
	def := func(s *string, v string) {
		if *s == "" {
			*s = v
		}
	}
	def(&o.Bind, "trx")
	def(&o.Client, ClientShunt)
	def(&o.Mix, mixStart)
	def(&o.IDForm, "raw")
	if o.Numbers == "" {
		def(&o.NumberRange, "447700900000-447700909999")
	}
	if len(o.From) == 0 {
		o.From = senders
	}
	if o.Version == 0 {
		o.Version = pdu.Version34
	}
	o.Binds, o.Window, o.Burst = max(o.Binds, 1), max(o.Window, 1), max(o.Burst, 1)
	if o.ValidityShare <= 0 {
		o.ValidityShare = 1
	}
	if o.ReceiptWait <= 0 {
		o.ReceiptWait = 30 * time.Second
	}
	if o.Response <= 0 {
		o.Response = 60 * time.Second
	}
	switch {
	case o.Addr == "" || o.SystemID == "":
		return errors.New("addr and system-id are required")
	case o.Bind != "trx" && o.Bind != "tx+rx":
		return fmt.Errorf("bind %q: want trx or tx+rx", o.Bind)
	case o.Client != ClientShunt && o.Client != ClientGoSMPP:
		return fmt.Errorf("client %q: want shunt or go-smpp", o.Client)
	case o.Client == ClientGoSMPP && (o.Bind != "trx" || o.Version != pdu.Version34 || o.Validity > 0):
		return errors.New("client go-smpp: only --bind trx, --version 3.4 and no --validity")
	case o.IDForm != "raw" && o.IDForm != "hex-resp-dec-receipt" && o.IDForm != "dec-resp-hex-receipt":
		return fmt.Errorf("id %q: want raw, hex-resp-dec-receipt or dec-resp-hex-receipt", o.IDForm)
	case o.Binds > 1000 || o.Window > 100_000 || o.Count < 0 || o.Rate < 0:
		return errors.New("binds at most 1000, window at most 100000, count and rate 0 or more")
	case o.Receipts+o.OnFailure > 1 || o.ValidityShare > 1:
		return errors.New("receipts and on-failure together, and validity-share: at most 1")
	case o.ReceiverUp > 0 && (o.Bind != "tx+rx" || !o.Reconnect || o.ReceiverDown <= 0):
		return errors.New("receiver-up: only with --bind tx+rx, --reconnect and --receiver-down")
	}
	return nil
}

// Run sends everything, waits for the receipts, writes the book and returns
// the counts. When ctx ends it stops sending and closes the book as things are.
func Run(ctx context.Context, o Options) (Summary, error) {
	if err := o.check(); err != nil {
		return Summary{}, err
	}
	numbers, err := Numbers(o.Numbers, o.NumberRange)
	if err != nil {
		return Summary{}, err
	}
	gen, err := newGenerator(&o, numbers)
	if err != nil {
		return Summary{}, err
	}
	book, err := books.Create(o.Book)
	if err != nil {
		return Summary{}, err
	}
	r := &run{o: &o, t: newTracker(&o), items: make(chan submit, 64)}
	err = r.all(ctx, gen)
	sum := r.t.summary(book)
	sum.Binds, sum.Lost = int(r.bound.Load()), int(r.lost.Load())
	sum.Elapsed = r.elapsed.Seconds()
	if sum.Elapsed > 0 {
		sum.Rate = float64(sum.Answered) / sum.Elapsed
	}
	return sum, errors.Join(err, book.Close())
}

// all runs the binds, the generator and the wait for the receipts.
func (r *run) all(ctx context.Context, gen *generator) error {
	bound, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var links, senders sync.WaitGroup
	if err := r.connect(bound, cancel, &links, &senders); err != nil {
		cancel(err)
		links.Wait()
		return err
	}
	stopProgress := r.progress()
	defer stopProgress()
	start := time.Now()
	err := r.generate(bound, gen)
	close(r.items)
	senders.Wait() // every message is answered or known to be lost
	r.elapsed = time.Since(start)
	if err == nil && ctx.Err() == nil {
		r.waitReceipts(bound)
	}
	cause := context.Cause(bound)
	cancel(nil)
	links.Wait()
	if err == nil && cause != nil && ctx.Err() == nil {
		err = cause
	}
	return err
}

// generate feeds the binds at the rate until the count is reached or ctx ends.
func (r *run) generate(ctx context.Context, gen *generator) error {
	limit := rate.NewLimiter(rate.Inf, 1)
	if r.o.Rate > 0 {
		limit = rate.NewLimiter(rate.Limit(r.o.Rate), max(1, int(r.o.Rate/50)))
	}
	if r.o.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.o.For)
		defer cancel()
	}
	for n := 0; r.o.Count == 0 || n < r.o.Count; n++ {
		s, err := gen.next()
		if err != nil {
			return err
		}
		if limit.Wait(ctx) != nil {
			return nil
		}
		select {
		case r.items <- s:
		case <-ctx.Done():
			return nil
		}
	}
	return nil
}

// waitReceipts returns when every receipt is there and Linger is over, or when
// nothing came for ReceiptWait.
func (r *run) waitReceipts(ctx context.Context) {
	for {
		_, _, _, open, last := r.t.counts()
		wait := r.o.ReceiptWait
		if open == 0 {
			wait = r.o.Linger
		}
		wait -= time.Since(last)
		if wait <= 0 {
			return
		}
		timer := time.NewTimer(wait)
		select {
		case <-r.t.changed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
		if ctx.Err() != nil {
			return
		}
	}
}

// progress reports a few times a second until the function that it returns is
// called, which reports once more.
func (r *run) progress() func() {
	if r.o.Progress == nil {
		return func() {}
	}
	report := func() {
		s, a, n, open, _ := r.t.counts()
		r.o.Progress(Progress{Count: r.o.Count, Sent: s, Answered: a, Receipts: n, Open: open})
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				report()
			case <-stop:
				report()
				return
			}
		}
	})
	return func() {
		close(stop)
		wg.Wait()
	}
}
