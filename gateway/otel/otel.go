// Package otel tells an OpenTelemetry collector of diverted messages, a trace
// each: what the spool has observed anyway, made into spans elsewhere than where
// messages wait for it.
package otel

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"shunt/gateway/msg"
	"shunt/store/spool"
)

// Bounds. What finds no place is dropped and counted: a collector that is slow
// or gone holds nothing up.
const (
	queued      = 8192 // changes that wait
	remembered  = 65536
	batch       = 512 // spans of one request
	sendEvery   = time.Second
	sendWithin  = 3 * time.Second
	stopWithin  = 2 * time.Second
	failedEvery = time.Minute // a line of the log
)

// Options of a Tracer.
type Options struct {
	Endpoint string // http or https URL; without a path /v1/traces is asked
	CA       []byte // PEM of the only certificates to trust; empty: the system's
	Token    string // shown as a bearer; "": none
	Node     string // service.instance.id
	Version  string // service.version
	Log      *slog.Logger
}

// Tracer makes spans of changes and sends them. A nil Tracer does nothing.
// Anybody may call Observe; the rest belongs to Run's goroutine.
type Tracer struct {
	queue    chan change
	exporter sdk.SpanExporter
	resource *resource.Resource
	log      *slog.Logger

	since  map[msg.ID]time.Time // when the state was entered that a message is in
	spans  []sdk.ReadOnlySpan
	warned time.Time

	Sent    atomic.Uint64 // spans that the collector took
	Dropped atomic.Uint64 // changes that found the queue full, and spans that the collector did not take
}

// change is what is kept of one: no text, no sender, and the number masked later.
type change struct {
	id                   msg.ID
	account, app, detail string
	to                   msg.Number
	from, state          msg.State
	event                msg.Event
	reason               msg.Reason
	received, at         time.Time
	receiptDue           bool
}

// New makes a Tracer; Run starts it. It does not connect.
func New(o Options) (*Tracer, error) {
	u, err := url.Parse(o.Endpoint)
	if err != nil {
		return nil, errors.New("otel.endpoint: is no URL")
	}
	if strings.Trim(u.Path, "/") == "" {
		u.Path = "/v1/traces"
	}
	options := []otlptracehttp.Option{
		otlptracehttp.WithEndpointURL(u.String()), otlptracehttp.WithTimeout(sendWithin),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: false}), otlptracehttp.WithCompression(otlptracehttp.GzipCompression),
	}
	if o.Token != "" {
		options = append(options, otlptracehttp.WithHeaders(map[string]string{"Authorization": "Bearer " + o.Token}))
	}
	var trusted *tls.Config
	if len(o.CA) > 0 {
		trusted = &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: x509.NewCertPool()}
		if !trusted.RootCAs.AppendCertsFromPEM(o.CA) {
			return nil, errors.New("otel.ca_file: holds no PEM certificate")
		}
	}
	options = append(options, otlptracehttp.WithHTTPClient(client(trusted)))
	e, err := otlptrace.New(context.Background(), otlptracehttp.NewClient(options...))
	if err != nil {
		return nil, fmt.Errorf("otel: %w", err)
	}
	return &Tracer{
		queue: make(chan change, queued), exporter: e, log: o.Log, since: make(map[msg.ID]time.Time),
		resource: resource.NewSchemaless(attribute.String("service.name", "shunt"),
			attribute.String("service.instance.id", o.Node), attribute.String("service.version", o.Version)),
	}, nil
}

// Observe takes a change that the spool has synced. It does not block.
func (t *Tracer) Observe(c *spool.Change) {
	if t == nil || c.Replay {
		return
	}
	r := &c.Record
	n := change{
		id: r.ID, account: r.Account.SystemID, app: r.App, detail: c.Event.Detail, to: r.To, from: c.From, state: c.To,
		event: c.Event.Kind, reason: c.Event.Reason, received: r.ReceivedAt, at: time.Now(), receiptDue: r.ReceiptDue,
	}
	select {
	case t.queue <- n:
	default:
		t.Dropped.Add(1)
	}
}

// Run sends until ctx is done, and then what is there, if the collector takes it
// at once. A request that is under way is finished.
func (t *Tracer) Run(ctx context.Context) {
	if t == nil {
		return
	}
	tick := time.NewTicker(sendEvery)
	defer tick.Stop()
	lasting := context.WithoutCancel(ctx) // each request has a limit of its own
	for {
		select {
		case c := <-t.queue:
			t.take(&c)
			if len(t.spans) >= batch {
				t.send(lasting)
			}
		case <-tick.C:
			t.send(lasting)
		case <-ctx.Done():
			t.stop(lasting)
			return
		}
	}
}

func (t *Tracer) stop(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, stopWithin)
	defer cancel()
	for len(t.queue) > 0 && ctx.Err() == nil {
		c := <-t.queue
		t.take(&c)
		if len(t.spans) >= batch {
			t.send(ctx)
		}
	}
	t.send(ctx)
	_ = t.exporter.Shutdown(ctx)
}

// stages are the names of the spans by the state that a message leaves.
var stages = map[msg.State]string{
	msg.None: "spool", msg.Held: "hold", msg.Accepted: "queue", msg.Pushing: "push", msg.Pushed: "claim",
	msg.Claimed: "deliver", msg.Fallback: "fallback", msg.SMSUnknown: "sms-unknown", msg.SMSSubmitted: "sms",
}

// take makes the spans that end with a change: of the stage that is left, with
// the outcome of the message as a whole, and when the ESME has its receipt of
// that.
func (t *Tracer) take(c *change) {
	switch {
	case c.event == msg.EvReceiptDone:
		t.add(c, "receipt", t.begun(c), false)
		delete(t.since, c.id)
	case c.from != c.state:
		if name := stages[c.from]; name != "" {
			begin := c.received
			if c.from != msg.None {
				begin = t.begun(c)
			}
			t.add(c, name, begin, false)
		}
		if c.state.Final() && !c.from.Final() {
			t.add(c, "message", c.received, true)
		}
		if c.state.Final() && !c.receiptDue {
			delete(t.since, c.id)
			return
		}
		if _, known := t.since[c.id]; known || len(t.since) < remembered {
			t.since[c.id] = c.at
		}
	}
}

// begun is when the state began that c ends; of a message from before the start,
// or beyond those that are remembered, c's own time: its span has no length.
func (t *Tracer) begun(c *change) time.Time {
	if at, ok := t.since[c.id]; ok {
		return at
	}
	return c.at
}

func (t *Tracer) add(c *change, name string, begin time.Time, whole bool) {
	s := &span{name: name, begin: begin, end: c.at, resource: t.resource, status: sdk.Status{Code: codes.Unset}}
	s.of = spanContext(c.id, name)
	if !whole {
		s.parent = spanContext(c.id, "message")
	}
	s.attributes = []attribute.KeyValue{
		attribute.String("shunt.msg_id", c.id.String()), attribute.String("shunt.esme", c.account), attribute.String("shunt.app", c.app),
		attribute.String("shunt.number", c.to.Masked()), attribute.String("shunt.event", c.event.String()), attribute.String("shunt.state", c.state.String()),
	}
	if c.reason != msg.NoReason {
		s.attributes = append(s.attributes, attribute.String("shunt.reason", c.reason.String()))
	}
	if c.detail != "" {
		s.attributes = append(s.attributes, attribute.String("shunt.detail", c.detail))
	}
	if c.state == msg.SMSFailed || c.state == msg.Expired {
		s.status = sdk.Status{Code: codes.Error, Description: c.state.String()}
	}
	if name != "message" { // a stage may come again, as a fallback after a temporary status
		s.of = repeated(s.of, c.at)
	}
	t.spans = append(t.spans, s)
}

// send sends what is there. What the collector does not take is lost.
func (t *Tracer) send(ctx context.Context) {
	if len(t.spans) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, sendWithin)
	defer cancel()
	err := t.exporter.ExportSpans(ctx, t.spans)
	n := uint64(len(t.spans))
	clear(t.spans)
	t.spans = t.spans[:0]
	if err == nil {
		t.Sent.Add(n)
		return
	}
	t.Dropped.Add(n)
	if now := time.Now(); now.Sub(t.warned) >= failedEvery {
		t.warned = now
		t.log.Warn("collector does not take traces, they are dropped", "dropped", t.Dropped.Load(), "error", brief(err))
	}
}

// scope names us as the maker of the spans.
var scope = instrumentation.Scope{Name: "shunt/gateway/otel"}

// flags: every trace is sampled.
const flags = trace.FlagsSampled
