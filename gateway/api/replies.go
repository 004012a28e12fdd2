package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"shunt/gateway/msg"
	"shunt/store/spool"
)

// ReplySpool is what replies need of the spool. It is safe for concurrent use.
type ReplySpool interface {
	NewID() msg.ID
	Message(id msg.ID) (*spool.Message, error)
	Recent(n msg.Number, limit int) ([]spool.Record, error)
	PutReply(r *spool.Reply, once *spool.Once, done func(prev *spool.Once, err error))
	Once(key [32]byte) (*spool.Once, error)
}

// Replies are what an app's replies need; all of it is required.
type Replies struct {
	Spool ReplySpool
	// Compose makes the deliver_sm of a reply to a message. Its error says what
	// of the text cannot be sent and holds none of it.
	Compose func(r *spool.Record, m *spool.Message, text string) ([][]byte, error)
	// Validity is how long a reply waits for a bind of its account.
	Validity time.Duration
}

// maxThread is how many of a number's messages are looked through for the one
// that began a thread.
const maxThread = 1000

type replyInput struct {
	Key  string `header:"Idempotency-Key" maxLength:"255" doc:"Any text of your own, a new one for each reply: the same request with the same key is the same reply, and gets the same answer for 24 hours, also across a restart."`
	Body struct {
		MessageID string `json:"message_id,omitempty" maxLength:"64" doc:"The message that it answers, which this app has claimed. Either this or to."`
		To        string `json:"to,omitempty" maxLength:"64" doc:"The sender that it answers, as from says it: it goes to the account that first wrote under this name to this number and app. Either this or message_id."`
		Text      string `json:"text" minLength:"1" maxLength:"1000" doc:"The text, in any characters."`
	}
}

type replyBody struct {
	ID         string    `json:"id" doc:"The reply's own id."`
	MessageID  string    `json:"message_id" doc:"The message that it answers."`
	AcceptedAt time.Time `json:"accepted_at" doc:"When it was on stable storage."`
}

type replyOutput struct {
	Body replyBody
}

func (h *handlers) registerReplies(a huma.API) {
	if h.Replies == nil {
		return
	}
	huma.Register(a, huma.Operation{
		OperationID: "send-reply", Method: http.MethodPost, Path: "/v1/replies",
		Summary:       "Reply to a message",
		Description:   "202 says that the reply is on stable storage: it reaches the sender as a mobile-originated message, at the latest when it connects again. Send an Idempotency-Key with each, and repeat the same call until it has an answer: then it is sent once.",
		DefaultStatus: http.StatusAccepted, Security: []map[string][]string{{bearerScheme: {}}},
		Errors:       []int{http.StatusUnauthorized, http.StatusNotFound, http.StatusConflict, http.StatusServiceUnavailable},
		MaxBodyBytes: maxBody, Metadata: map[string]any{durable: true},
		Middlewares: huma.Middlewares{h.idempotent}, Parameters: []*huma.Param{onceParameter()},
	}, h.reply)
}

func (h *handlers) reply(ctx context.Context, in *replyInput) (*replyOutput, error) {
	c := callerOf(ctx)
	r, err := h.answered(c, in)
	if err != nil {
		return nil, err
	}
	m, err := h.Replies.Spool.Message(r.ID)
	switch {
	case errors.Is(err, spool.ErrNotFound):
		return nil, newProblem(http.StatusNotFound, codeNotFound, "the message is no longer kept")
	case err != nil:
		return nil, h.unavailable(r.ID, "reply", err)
	}
	parts, err := h.Replies.Compose(&r, m, in.Body.Text)
	if err != nil {
		h.Log.Warn("reply cannot be composed", "id", r.ID.String(), "error", err)
		return nil, invalid("body.text", "cannot be sent as a short message")
	}
	now := time.Now()
	reply := &spool.Reply{
		ID: h.Replies.Spool.NewID(), Message: r.ID, Account: r.Account, From: c.number, To: r.From,
		At: now, Expires: now.Add(h.Replies.Validity), Parts: parts,
	}
	out := &replyOutput{replyBody{reply.ID.String(), r.ID.String(), stamp(now)}}
	return out, h.putReply(ctx, reply, out)
}

// putReply returns once the reply is on stable storage. If an earlier request
// with its key was, out becomes what that was answered.
func (h *handlers) putReply(ctx context.Context, reply *spool.Reply, out *replyOutput) error {
	ctx, cancel := context.WithTimeout(ctx, decideWithin)
	defer cancel()
	once := onceOf(ctx)
	if once != nil {
		answer, err := json.Marshal(out.Body)
		if err != nil {
			return err
		}
		once.Answer = append(answer, '\n')
	}
	type result struct {
		prev *spool.Once
		err  error
	}
	done := make(chan result, 1)
	h.Replies.Spool.PutReply(reply, once, func(prev *spool.Once, err error) { done <- result{prev, err} })
	select {
	case res := <-done:
		switch {
		case res.err != nil:
			return h.unavailable(reply.Message, "reply", res.err)
		case res.prev == nil:
			h.Log.Info("reply accepted", "msg_id", reply.Message.String(), "reply_id", reply.ID.String(), "esme", reply.Account.SystemID, "parts", len(reply.Parts))
		case res.prev.Request != once.Request:
			return newProblem(http.StatusUnprocessableEntity, codeKeyReused, "this Idempotency-Key came with another request before: take a new one for each")
		default:
			return json.Unmarshal(res.prev.Answer, &out.Body)
		}
		return nil
	case <-ctx.Done():
		return h.unavailable(reply.Message, "reply", ctx.Err())
	}
}

// answered is the message that a reply answers. One that answers a sender, and
// not a message, is no acknowledgement of any.
func (h *handlers) answered(c caller, in *replyInput) (r spool.Record, err error) {
	switch b := &in.Body; {
	case (b.MessageID == "") == (b.To == ""):
		return r, invalid("body", "want either message_id or to")
	case b.To != "":
		return h.thread(c, b.To)
	}
	if r, err = h.find(c, in.Body.MessageID); err != nil {
		return r, err
	}
	switch {
	case ofApp(&r):
		return r, nil
	case r.State == msg.Accepted || r.State == msg.Pushing || r.State == msg.Pushed:
		return r, newProblem(http.StatusConflict, codeNotClaimed, "the message has not been claimed: claim it first")
	}
	return r, newProblem(http.StatusConflict, codeSuperseded, "the message went out as SMS: the answer is an SMS too")
}

// ofApp tells whether a device has had the message's text, and the carrier has
// not.
func ofApp(r *spool.Record) bool {
	return r.Device != "" && r.SMSAttempts == 0 && (r.State == msg.Claimed || r.State == msg.Delivered || r.State == msg.Unknown)
}

// thread is the first message that is known from a sender to the caller.
func (h *handlers) thread(c caller, sender string) (first spool.Record, err error) {
	all, err := h.Replies.Spool.Recent(c.number, maxThread) // newest first
	if err != nil {
		return first, h.failed("reply", err)
	}
	for i := range all {
		if r := &all[i]; c.owns(r) && r.From == sender && ofApp(r) {
			first = *r
		}
	}
	if first.ID.IsZero() {
		return first, newProblem(http.StatusNotFound, codeNotFound, "this app has no message from that sender")
	}
	first.RegisteredDelivery = 0
	return first, nil
}

// invalid is the problem of a request that is wrong at one place.
func invalid(location, message string) *problem {
	p := newProblem(http.StatusUnprocessableEntity, codeInvalid, "validation failed")
	p.Errors = []fault{{location, message}}
	return p
}
