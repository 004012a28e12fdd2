package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"shunt/gateway/msg"
	"shunt/store/registry"
	"shunt/store/spool"
)

const (
	defaultList = 50
	maxList     = 200 // the same number stands in listInput's tag
)

type listInput struct {
	After string `query:"after" maxLength:"64" doc:"List only messages after this id: the last one of the page before."`
	Limit int    `query:"limit" minimum:"1" maximum:"200" default:"50" doc:"At most this many messages."`
}

type idInput struct {
	ID string `path:"id" maxLength:"64" doc:"The id that the push carried." example:"s01JZ8M5C3V4Q2N7R9T0W1X2Y3Z"`
}

// Metadata is a message without its text. Times are RFC 3339 in UTC. It is exported so
// that the document shows its fields where it is embedded.
type Metadata struct {
	ID         string     `json:"id" doc:"The message's id."`
	From       string     `json:"from" doc:"The sender, as the SMS would show it."`
	ReceivedAt time.Time  `json:"received_at" doc:"When the gateway accepted it."`
	ClaimBy    *time.Time `json:"claim_by,omitempty" doc:"Unless claimed by then it goes out as SMS."`
	State      string     `json:"state" enum:"ACCEPTED,PUSHING,PUSHED,CLAIMED,DELIVERED,FALLBACK,SMS_UNKNOWN,SMS_SUBMITTED,SMS_DELIVERED,SMS_FAILED,EXPIRED,UNKNOWN,CANCELLED" doc:"Where the message stands."`
}

type listOutput struct {
	Body struct {
		Messages []Metadata `json:"messages" nullable:"false"`
		Next     string     `json:"next,omitempty" doc:"If there may be more: the after of the next page."`
	}
}

type getOutput struct {
	Body struct {
		Metadata
		Text *string `json:"text,omitempty" doc:"The text, if this device won the claim."`
	}
}

type claimOutput struct {
	Body struct {
		ID         string    `json:"id"`
		From       string    `json:"from" doc:"The sender, as the SMS would show it."`
		Text       string    `json:"text"`
		ReceivedAt time.Time `json:"received_at" doc:"When the gateway accepted it."`
	}
}

func (h *handlers) list(ctx context.Context, in *listInput) (*listOutput, error) {
	c := callerOf(ctx)
	var after msg.ID
	if in.After != "" {
		var err error
		if after, err = msg.ParseID(in.After); err != nil {
			return nil, newProblem(http.StatusUnprocessableEntity, codeInvalid, "after: is "+err.Error())
		}
	}
	limit := in.Limit
	if limit <= 0 {
		limit = defaultList
	}
	out := &listOutput{}
	out.Body.Messages = []Metadata{}
	for {
		page := h.Spool.ByNumber(c.number, after, maxList)
		for i := range page {
			after = page[i].ID
			if !c.mayList(&page[i]) {
				continue
			}
			out.Body.Messages = append(out.Body.Messages, metadataOf(&page[i]))
			if len(out.Body.Messages) == limit {
				out.Body.Next = after.String()
				return out, nil
			}
		}
		if len(page) < maxList || ctx.Err() != nil {
			return out, nil
		}
	}
}

func (h *handlers) get(ctx context.Context, in *idInput) (*getOutput, error) {
	c := callerOf(ctx)
	r, err := h.find(c, in.ID)
	if err != nil {
		return nil, err
	}
	out := &getOutput{}
	out.Body.Metadata = metadataOf(&r)
	if c.holds(&r) {
		text, err := h.text(r.ID)
		if err != nil {
			return nil, err
		}
		out.Body.Text = &text
	}
	return out, nil
}

// claim reads the text before it asks for the claim: a claim that was won and
// cannot be answered would keep the message from the carrier too.
func (h *handlers) claim(ctx context.Context, in *idInput) (*claimOutput, error) {
	c := callerOf(ctx)
	r, err := h.find(c, in.ID)
	if err != nil {
		return nil, err
	}
	text, err := h.text(r.ID)
	if err != nil {
		return nil, err
	}
	edition := r.Edition
	if r, err = h.decide(ctx, c, r.ID, msg.EvClaim); err != nil {
		return nil, err
	}
	if r.Edition != edition { // replace_sm came between; once claimed it cannot
		if text, err = h.text(r.ID); err != nil {
			return nil, err
		}
	}
	out := &claimOutput{}
	out.Body.ID, out.Body.From, out.Body.Text = r.ID.String(), r.From, text
	out.Body.ReceivedAt = stamp(r.ReceivedAt)
	return out, nil
}

func (h *handlers) delivered(ctx context.Context, in *idInput) (*struct{}, error) {
	return h.receipt(ctx, in.ID, msg.EvDelivered)
}

func (h *handlers) read(ctx context.Context, in *idInput) (*struct{}, error) {
	return h.receipt(ctx, in.ID, msg.EvRead)
}

func (h *handlers) receipt(ctx context.Context, id string, kind msg.Event) (*struct{}, error) {
	c := callerOf(ctx)
	r, err := h.find(c, id)
	if err != nil {
		return nil, err
	}
	_, err = h.decide(ctx, c, r.ID, kind)
	return nil, err
}

// find is the caller's message. What is another number's or another app's is
// told in the same words as what does not exist.
func (h *handlers) find(c caller, text string) (spool.Record, error) {
	id, err := msg.ParseID(text)
	if err != nil {
		return spool.Record{}, missing()
	}
	r, err := h.Spool.Get(id)
	switch {
	case errors.Is(err, spool.ErrNotFound):
		return spool.Record{}, missing()
	case err != nil:
		return spool.Record{}, h.unavailable(id, "get", err)
	case !c.owns(&r):
		return spool.Record{}, missing()
	}
	return r, nil
}

func missing() *problem {
	return newProblem(http.StatusNotFound, codeNotFound, "no such message for this device")
}

// text reads the message from disk and decodes it.
func (h *handlers) text(id msg.ID) (string, error) {
	m, err := h.Spool.Messages(id)
	if errors.Is(err, spool.ErrNotFound) {
		return "", newProblem(http.StatusNotFound, codeNotFound, "the message is no longer kept")
	}
	if err != nil {
		return "", h.unavailable(id, "message", err)
	}
	text, err := h.Text(m)
	if err != nil {
		h.Log.Error("message has no readable text", "id", id.String(), "error", err)
		return "", newProblem(http.StatusInternalServerError, codeInternal, "the message's text cannot be read")
	}
	return text, nil
}

// decide posts what the device says and waits for the committer's verdict.
func (h *handlers) decide(ctx context.Context, c caller, id msg.ID, kind msg.Event) (spool.Record, error) {
	res := h.Spool.DoWithin(ctx, decideWithin, spool.Event{ID: id, Kind: kind, Reason: msg.ReasonApp, Device: c.device.ID})
	switch {
	case res.Err == nil:
		return res.Record, nil
	case errors.Is(res.Err, spool.ErrSuperseded):
		return spool.Record{}, newProblem(http.StatusConflict, codeSuperseded, "the message went out as SMS or another device has claimed it")
	case errors.Is(res.Err, spool.ErrRefused):
		return spool.Record{}, newProblem(http.StatusConflict, codeNotClaimed, "the message has not been claimed: claim it first")
	case errors.Is(res.Err, spool.ErrNotFound):
		return spool.Record{}, missing()
	}
	return spool.Record{}, h.unavailable(id, kind.String(), res.Err)
}

// unavailable answers for a spool that did not do its part in time. Whether
// the call took effect is not known, and all calls may be repeated.
func (h *handlers) unavailable(id msg.ID, what string, err error) error {
	level := slog.LevelError
	if errors.Is(err, context.Canceled) {
		level = slog.LevelDebug // the client left
	}
	h.Log.Log(context.Background(), level, "spool did not answer an app", "id", id.String(), "call", what, "error", err)
	return tryAgain()
}

// failed answers for a spool that could not be read, whatever the message.
func (h *handlers) failed(what string, err error) *problem {
	h.Log.Error("spool did not answer an app", "call", what, "error", err)
	return tryAgain()
}

func tryAgain() *problem {
	p := newProblem(http.StatusServiceUnavailable, codeUnavailable, "the gateway cannot decide at the moment: repeat the same call")
	p.retryAfter = 1
	return p
}

// caller is the device that a request's bearer belongs to.
type caller struct {
	number msg.Number
	device registry.Device
}

// owns tells whether a message is for the caller. Of a long message only the
// part that speaks for all is, and only once all are there.
func (c *caller) owns(r *spool.Record) bool {
	return r.To == c.number && r.App == c.device.App && !r.Follows() && r.State != msg.Held
}

// holds tells whether the device won the claim and still has the message: what
// fell back to the carrier after its lease is no longer its own.
func (c *caller) holds(r *spool.Record) bool {
	return r.Device == c.device.ID && (r.State == msg.Claimed || r.State == msg.Delivered)
}

func (c *caller) mayList(r *spool.Record) bool {
	if !c.owns(r) {
		return false
	}
	switch r.State {
	case msg.Accepted, msg.Pushing, msg.Pushed:
		return true
	}
	return c.holds(r)
}

func metadataOf(r *spool.Record) Metadata {
	m := Metadata{ID: r.ID.String(), From: r.From, ReceivedAt: stamp(r.ReceivedAt), State: r.State.String()}
	if !r.ClaimBy.IsZero() {
		t := stamp(r.ClaimBy)
		m.ClaimBy = &t
	}
	return m
}

// stamp is a time as answers show it: UTC, to the millisecond.
func stamp(t time.Time) time.Time { return t.UTC().Truncate(time.Millisecond) }

type callerKey struct{}

func callerOf(ctx context.Context) caller {
	c, ok := ctx.Value(callerKey{}).(caller)
	if !ok {
		panic(fmt.Sprintf("api: operation without a caller: %T", ctx.Value(callerKey{})))
	}
	return c
}
