package handset

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"shunt/test/sim/books"
)

const (
	maxLine      = 64 << 10
	maxOpen      = 200_000 // messages in the phones' hands at a time
	maxSeen      = 1_000_000
	resubscribe  = 100 * time.Millisecond
	callTimeout  = 10 * time.Second
	retryBackoff = 100 * time.Millisecond
)

// push is one line of a provider's GET /pushes.
type push struct {
	Token   string    `json:"token"`
	ID      string    `json:"id"`
	From    string    `json:"from"`
	At      time.Time `json:"at"`
	Expires time.Time `json:"expires"`
	Error   string    `json:"error"`
}

// Park is all phones together. Its counts and its open messages belong to mu.
type Park struct {
	o       Options
	devices map[string]*Device
	book    *books.Writer
	api     *http.Client
	wire    *wire           // instead of api where there is no TLS
	slots   chan struct{}   // calls under way
	off     <-chan struct{} // closed when the phones are switched off
	wg      sync.WaitGroup

	mu   sync.Mutex
	seen map[string]*books.HandsetLine // by id and token, for repeated pushes
	open int
	sum  Summary
}

// Run takes pushes until ctx ends, finishes the calls that are under way,
// completes the book and returns the counts.
func Run(ctx context.Context, o Options) (Summary, error) {
	if err := o.check(); err != nil {
		return Summary{}, err
	}
	devices, err := readDevices(o.Devices)
	if err != nil {
		return Summary{}, err
	}
	book, err := books.Create(o.Book)
	if err != nil {
		return Summary{}, err
	}
	p := &Park{
		o: o, devices: devices, book: book, slots: make(chan struct{}, o.Concurrency), off: ctx.Done(), seen: map[string]*books.HandsetLine{},
		api: &http.Client{Timeout: callTimeout, Transport: &http.Transport{
			MaxIdleConnsPerHost: o.Concurrency, MaxConnsPerHost: o.Concurrency, IdleConnTimeout: time.Minute,
		}},
		sum: Summary{Seed: o.Seed, Devices: len(devices), Behaviours: map[string]int{}, Claims: map[string]int{}},
	}
	if host, ok := strings.CutPrefix(o.API, "http://"); ok && !strings.Contains(host, "/") {
		p.wire = newWire(host, o.Concurrency)
		defer p.wire.close()
	}
	err = p.run(ctx)
	p.api.CloseIdleConnections()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sum, errors.Join(err, book.Close())
}

func (p *Park) run(ctx context.Context) error {
	var readers sync.WaitGroup
	subscribed := make(chan struct{}, len(p.o.Pushes))
	for _, addr := range p.o.Pushes {
		readers.Go(func() { p.subscribe(ctx, addr, subscribed) })
	}
	for range p.o.Pushes {
		select {
		case <-subscribed:
		case <-ctx.Done():
		}
	}
	var err error
	if p.o.ReadyFile != "" && ctx.Err() == nil {
		err = books.WriteFile(p.o.ReadyFile, map[string]int{"pid": os.Getpid(), "devices": len(p.devices)})
	}
	readers.Wait()
	p.wg.Wait()
	return err
}

// subscribe reads one provider's pushes, again and again until ctx ends.
func (p *Park) subscribe(ctx context.Context, addr string, subscribed chan<- struct{}) {
	for first := true; ; {
		p.stream(ctx, addr, func() {
			if first {
				first = false
				subscribed <- struct{}{}
				return
			}
			p.count(func(s *Summary) { s.Resubscribed++ })
		})
		select {
		case <-ctx.Done():
			return
		case <-time.After(resubscribe):
		}
	}
}

func (p *Park) stream(ctx context.Context, addr string, began func()) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/pushes", nil)
	if err != nil {
		return
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return
	}
	began()
	sc := bufio.NewScanner(resp.Body)
	sc.Buffer(make([]byte, 4096), maxLine)
	for sc.Scan() {
		var m push
		if json.Unmarshal(sc.Bytes(), &m) == nil && m.Error == "" {
			p.take(ctx, m)
		}
	}
}

// take hands a push to its phone. A push that is repeated replaces the
// notification on the screen, as its id is its collapse id.
func (p *Park) take(ctx context.Context, m push) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sum.Pushes++
	d := p.devices[m.Token]
	if d == nil {
		p.sum.UnknownToken++
		return
	}
	key := m.ID + " " + m.Token
	if l := p.seen[key]; l != nil {
		l.Pushes++
		p.sum.Repeated++
		return
	}
	if p.open >= maxOpen {
		p.sum.Overload++
		return
	}
	p.open++
	if len(p.seen) >= maxSeen {
		clear(p.seen) // a repeated push of an old message would be claimed again, which is no fault
	}
	now := time.Now()
	l := &books.HandsetLine{
		ID: m.ID, Device: d.Device, Number: d.Number, Platform: d.Platform, PushedAt: &now, Pushes: 1,
		Behaviour: p.o.behaviour(m.ID),
	}
	p.seen[key] = l
	p.sum.Behaviours[l.Behaviour]++
	p.wg.Go(func() {
		p.live(ctx, d, m, l)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.open--
		if l.Fault != "" {
			p.sum.Faults++
		}
		p.book.Write(l)
	})
}

func (p *Park) count(f func(*Summary)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.sum)
}

// live is one message's life on one phone. l is its own, but for Pushes.
func (p *Park) live(ctx context.Context, d *Device, m push, l *books.HandsetLine) {
	wait := p.o.delay(p.o.ClaimDelay, m.ID, "claim")
	switch l.Behaviour {
	case offline:
		return
	case late:
		wait = time.Until(m.Expires) + p.o.LateBy
	}
	if !pause(ctx, wait) {
		return
	}
	listed := true
	if l.Behaviour == syncs {
		listed = p.lists(d, m.ID)
	}
	answer, ok := p.claim(d, l)
	if !ok {
		return
	}
	if !listed {
		l.Fault = "the list lacked a message that could be claimed"
	}
	l.Text, l.From = books.Sum([]byte(answer.Text)), answer.From
	if answer.ID != l.ID {
		l.Fault = "the claim was answered with another id"
	}
	if l.Behaviour == late {
		p.count(func(s *Summary) { s.LateWon++ })
	}
	if l.Behaviour == twice {
		p.replay(d, l)
	}
	if l.Behaviour != neverAck && pause(ctx, p.o.delay(p.o.AckDelay, m.ID, "ack")) {
		p.acknowledge(d, l)
	}
}

// pause waits; false: the phones are being switched off.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (p *Park) acknowledge(d *Device, l *books.HandsetLine) {
	l.Delivered, _ = p.call(d, http.MethodPut, "/v1/messages/"+l.ID+"/receipts/delivered", nil)
	if l.Delivered/100 != 2 {
		if l.Delivered != http.StatusConflict { // the lease was over: the message fell back
			l.Fault = fmt.Sprintf("delivered was answered with %d", l.Delivered)
		}
		return
	}
	p.count(func(s *Summary) { s.Delivered++ })
	if draw(p.o.Seed, l.ID, "read") >= p.o.Read {
		return
	}
	if l.Read, _ = p.call(d, http.MethodPut, "/v1/messages/"+l.ID+"/receipts/read", nil); l.Read/100 != 2 {
		l.Fault = fmt.Sprintf("read was answered with %d", l.Read)
		return
	}
	p.count(func(s *Summary) { s.Read++ })
}

// claimed is the answer to a claim.
type claimed struct {
	ID   string `json:"id"`
	From string `json:"from"`
	Text string `json:"text"`
}

// claim asks for the text; ok when this phone won.
func (p *Park) claim(d *Device, l *books.HandsetLine) (a claimed, ok bool) {
	l.Claim, l.Attempts = p.call(d, http.MethodPost, "/v1/messages/"+l.ID+"/claim", &a)
	now := time.Now()
	l.ClaimedAt = &now
	p.count(func(s *Summary) { s.Claims[strconv.Itoa(l.Claim)]++ })
	switch l.Claim {
	case http.StatusOK:
		return a, true
	case http.StatusConflict, 0:
	default:
		l.Fault = fmt.Sprintf("the claim was answered with %d", l.Claim)
	}
	return a, false
}

// replay claims again what was won: the answer must be the same.
func (p *Park) replay(d *Device, l *books.HandsetLine) {
	var a claimed
	l.Replay, _ = p.call(d, http.MethodPost, "/v1/messages/"+l.ID+"/claim", &a)
	l.ReplaySum = books.Sum([]byte(a.Text))
	p.count(func(s *Summary) { s.Replays++ })
}

// lists syncs as an app does when it wakes, and tells whether id is listed.
func (p *Park) lists(d *Device, id string) bool {
	after := ""
	for {
		var page struct {
			Messages []struct {
				ID string `json:"id"`
			} `json:"messages"`
			Next string `json:"next"`
		}
		status, _ := p.call(d, http.MethodGet, "/v1/messages?limit=200&after="+after, &page)
		if status != http.StatusOK {
			return status == 0
		}
		for _, m := range page.Messages {
			if m.ID == id {
				return true
			}
		}
		if page.Next == "" || page.Next == after {
			return false
		}
		after = page.Next
	}
}
