package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"shunt/gateway/msg"
	"shunt/store/spool"
)

const (
	heartbeat    = 15 * time.Second // a comment, so that a dead connection shows
	streamWithin = 10 * time.Second // for what is written to be taken
)

type streamInput struct {
	LastEventID string `header:"Last-Event-ID" maxLength:"64" doc:"The id of the last event that came: what was announced since then comes first. Without it everything comes that may be claimed."`
}

// superseded is the data of an event that takes a message back.
type superseded struct {
	ID     string `json:"id"`
	Reason string `json:"reason"` // claimed by another device, sms, expired, cancelled
}

func (h *handlers) registerStream(a huma.API) {
	if h.Streams == nil {
		return
	}
	huma.Register(a, huma.Operation{
		OperationID: "open-stream", Method: http.MethodGet, Path: "/v1/stream",
		Summary: "Follow the messages of this device",
		Description: "Server-sent events. While one of a number's devices with this app has a stream open, a message is announced there and is pushed only if nobody has claimed it after a moment. " +
			"Event message: a message that may be claimed, without its text, its id as the event's id. Event superseded: {id, reason}, where the reason is claimed (by another device), sms, expired or cancelled: hide the message. A comment comes every 15 seconds. " +
			"A reader that is too slow is cut off; whoever comes back with Last-Event-ID misses nothing, and may see a message twice.",
		Security: []map[string][]string{{bearerScheme: {}}},
		Errors:   []int{http.StatusUnauthorized, http.StatusServiceUnavailable},
		Responses: map[string]*huma.Response{"200": {
			Description: "OK",
			Content:     map[string]*huma.MediaType{"text/event-stream": {Schema: &huma.Schema{Type: huma.TypeString}}},
		}},
	}, h.stream)
}

func (h *handlers) stream(ctx context.Context, in *streamInput) (*huma.StreamResponse, error) {
	c := callerOf(ctx)
	var last msg.ID
	if in.LastEventID != "" {
		var err error
		if last, err = msg.ParseID(in.LastEventID); err != nil {
			return nil, invalid("header.Last-Event-ID", "is "+err.Error())
		}
	}
	st, err := h.Streams.add(c)
	if err != nil {
		p := newProblem(http.StatusServiceUnavailable, codeUnavailable, "the gateway serves no more streams at the moment: list the messages instead")
		p.retryAfter = 30
		return nil, p
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		defer h.Streams.remove(st)
		r, w := humago.Unwrap(hc)
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("X-Accel-Buffering", "no") // proxies that hold answers back
		w.WriteHeader(http.StatusOK)
		if r.Method == http.MethodHead {
			return
		}
		out := &eventWriter{w: w, rc: http.NewResponseController(w)}
		_ = out.rc.SetReadDeadline(time.Time{}) // the request is read; its time-out would end the answer
		h.serveStream(r.Context(), out, st, c, last)
	}}, nil
}

// serveStream writes until the client leaves or is cut off. The stream was open
// before the spool is asked, so that nothing lies between the two; what both
// have is told once.
func (h *handlers) serveStream(ctx context.Context, out *eventWriter, st *stream, c caller, last msg.ID) {
	told := make(map[msg.ID]bool)
	out.comment()
	for _, r := range h.missed(c, last) {
		told[r.ID] = true
		out.message(&r)
	}
	beat := time.NewTicker(h.Streams.beat)
	defer beat.Stop()
	for out.flush() == nil {
		select {
		case e := <-st.events:
			if !h.registered(c) {
				return
			}
			for more := true; more; { // what is there goes with one write
				out.event(&e, told)
				select {
				case e = <-st.events:
				default:
					more = false
				}
			}
		case <-beat.C:
			if !h.registered(c) {
				return
			}
			if h.Evidence != nil { // the last comment was taken: the device is still there
				h.Evidence(c.number, c.device.ID, c.device.App)
			}
			out.comment()
		case <-st.cut:
			return
		case <-h.Streams.done:
			return
		case <-ctx.Done():
			return
		}
	}
}

// registered tells whether a caller is still who it was.
func (h *handlers) registered(c caller) bool {
	return h.Registered == nil || h.Registered(c.number, c.device.ID)
}

// eventWriter writes server-sent events (the HTML standard, §9.2.6). It is one
// goroutine's.
type eventWriter struct {
	w  http.ResponseWriter
	rc *http.ResponseController
	b  []byte
}

func (o *eventWriter) comment() { o.b = append(o.b, ":\n\n"...) }

func (o *eventWriter) event(e *streamEvent, told map[msg.ID]bool) {
	switch {
	case e.reason != "":
		// No id: the last one stays that of the last message.
		o.write("superseded", "", superseded{e.record.ID.String(), e.reason})
	case told[e.record.ID]:
		delete(told, e.record.ID)
	default:
		o.message(&e.record)
	}
}

func (o *eventWriter) message(r *spool.Record) {
	o.write("message", r.ID.String(), metadataOf(r))
}

func (o *eventWriter) write(name, id string, data any) {
	b, err := json.Marshal(data)
	if err != nil {
		return // of texts and times: it does not happen
	}
	if id != "" {
		o.b = append(append(append(o.b, "id: "...), id...), '\n')
	}
	o.b = append(append(append(o.b, "event: "...), name...), "\ndata: "...)
	o.b = append(append(o.b, b...), "\n\n"...) // JSON has no line ends
}

func (o *eventWriter) flush() error {
	if err := o.rc.SetWriteDeadline(time.Now().Add(streamWithin)); err != nil {
		return err
	}
	_, err := o.w.Write(o.b)
	o.b = o.b[:0]
	if err != nil {
		return err
	}
	return o.rc.Flush()
}
