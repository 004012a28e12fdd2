package otel

import (
	"encoding/binary"
	"hash/fnv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"shunt/gateway/msg"
)

// span is one that has ended, as exporters read it.
type span struct {
	sdk.ReadOnlySpan // nil: it has a method that nobody else can have
	name             string
	of, parent       trace.SpanContext
	begin, end       time.Time
	attributes       []attribute.KeyValue
	status           sdk.Status
	resource         *resource.Resource
}

func (s *span) Name() string                                { return s.name }
func (s *span) SpanContext() trace.SpanContext              { return s.of }
func (s *span) Parent() trace.SpanContext                   { return s.parent }
func (s *span) SpanKind() trace.SpanKind                    { return trace.SpanKindInternal }
func (s *span) StartTime() time.Time                        { return s.begin }
func (s *span) EndTime() time.Time                          { return s.end }
func (s *span) Attributes() []attribute.KeyValue            { return s.attributes }
func (s *span) Links() []sdk.Link                           { return nil }
func (s *span) Events() []sdk.Event                         { return nil }
func (s *span) Status() sdk.Status                          { return s.status }
func (s *span) InstrumentationScope() instrumentation.Scope { return scope }

//lint:ignore SA1019 sdk.ReadOnlySpan has this method, and its type this name
func (s *span) InstrumentationLibrary() instrumentation.Library { return scope }

func (s *span) Resource() *resource.Resource { return s.resource }
func (s *span) DroppedAttributes() int       { return 0 }
func (s *span) DroppedLinks() int            { return 0 }
func (s *span) DroppedEvents() int           { return 0 }
func (s *span) ChildSpanCount() int          { return 0 }

// spanContext is a message's: its trace is its id, so that whoever has one finds
// the other, also after a restart.
func spanContext(id msg.ID, name string) trace.SpanContext {
	h := fnv.New64a()
	_, _ = h.Write(id[:])
	_, _ = h.Write([]byte(name))
	var s trace.SpanID
	binary.BigEndian.PutUint64(s[:], h.Sum64()|1) // none is zero
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID(id), SpanID: s, TraceFlags: flags})
}

// repeated is another span of the same name.
func repeated(c trace.SpanContext, at time.Time) trace.SpanContext {
	s := c.SpanID()
	binary.BigEndian.PutUint64(s[:], binary.BigEndian.Uint64(s[:])^uint64(at.UnixNano())<<1)
	return c.WithSpanID(s)
}
