// Package api is the HTTP side that handset apps talk to: they list, fetch and
// claim the messages that a push announced, and acknowledge what they showed.
package api

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"shunt/gateway/msg"
	"shunt/store/registry"
	"shunt/store/spool"
)

// Spool is what the API needs of the spool. Its table alone decides who wins a
// message; the API posts events and reports what came of them. It is safe for
// concurrent use.
type Spool interface {
	DoWithin(ctx context.Context, d time.Duration, e spool.Event) spool.Result
	Get(id msg.ID) (spool.Record, error)
	Messages(id msg.ID) ([]*spool.Message, error)
	ByNumber(n msg.Number, after msg.ID, limit int) []spool.Record
	Trace(id msg.ID) ([]spool.Step, error)
}

// Devices finds the device that a bearer belongs to; registry.ErrNotFound if
// there is none. It is safe for concurrent use.
type Devices interface {
	ByBearer(bearer string) (msg.Number, registry.Device, error)
}

// Options are what New needs. What may be missing says so.
type Options struct {
	Spool   Spool
	Devices Devices

	// Text is the text of a message, which may have come in several parts. Its
	// error must not hold any of that text, for it is logged.
	Text func(parts []*spool.Message) (string, error)

	Owners // nil fields: what they are for is not offered

	// Now tells how old a request's first answer is. nil: time.Now.
	Now func() time.Time

	// Log gets ids, reasons and states, never texts or bearers.
	Log *slog.Logger

	Replies    *Replies                      // nil: apps cannot reply
	Streams    *Streams                      // nil: there is no stream
	Registered func(msg.Number, string) bool // whether a number still has that device; nil: streams do not ask
	Rate       func(app string) int          // requests a second and device; nil, or 0: without limit
	Origins    []string                      // of pages that may call the API; none: no page may
}

// decideWithin bounds the wait for the spool's commit. A claim whose answer
// did not come in time may have won; its replay says so.
const decideWithin = 5 * time.Second

// handlers answers the operations. It is used by any number of requests at once.
type handlers struct {
	Options
	limits  *limiter
	once    *onceTable
	replays replays
}

// New is the handler of the whole API. It is safe for concurrent use and
// starts no goroutine. Serve runs it with the time-outs it should have.
func New(o Options) http.Handler {
	mux := http.NewServeMux()
	cfg := huma.DefaultConfig("Shunt app API", "1")
	cfg.Info.Description = "Messages for handset apps. A push announces a message; the app claims it to read it; whoever claims first, an app or the carrier, has it."
	// The document is built once below: huma's own route builds it lazily and
	// without a lock. Its documentation pages load scripts from elsewhere.
	cfg.OpenAPIPath, cfg.DocsPath, cfg.SchemasPath = "", "", ""
	cfg.CreateHooks = nil // no $schema in every answer
	cfg.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		bearerScheme: {Type: "http", Scheme: "bearer", Description: "The device's opaque bearer, handed out once at its registration."},
	}
	a := humago.New(mux, cfg)
	if o.Now == nil {
		o.Now = time.Now
	}
	h := &handlers{Options: o, limits: newLimiter(o.Rate), once: newOnceTable()}
	a.UseMiddleware(h.authenticate)
	h.register(a)
	h.registerReplies(a)
	h.registerStream(a)
	h.registerVerifications(a)
	h.registerDevices(a)
	describe(a.OpenAPI())

	document, err := json.Marshal(a.OpenAPI())
	if err != nil {
		panic(fmt.Sprintf("api: openapi document: %v", err)) // the operations are constant: a test would have seen it
	}
	mux.HandleFunc("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/openapi+json")
		_, _ = w.Write(document) // a client that left is not our fault
	})
	return &front{mux: mux, hot: h, log: o.Log, origins: o.Origins, streams: o.Streams}
}

// register declares the operations of this version.
func (h *handlers) register(a huma.API) {
	security := []map[string][]string{{bearerScheme: {}}}
	huma.Register(a, huma.Operation{
		OperationID: "list-messages", Method: http.MethodGet, Path: "/v1/messages",
		Summary:     "List the messages that this device may claim or has claimed",
		Description: "Oldest first, without text. What the carrier or another device has won, and what is finished, is not listed.",
		Security:    security, Errors: []int{http.StatusUnauthorized, http.StatusServiceUnavailable},
	}, h.list)
	huma.Register(a, huma.Operation{
		OperationID: "get-message", Method: http.MethodGet, Path: "/v1/messages/{id}",
		Summary:     "Get one message",
		Description: "With its text only if this device won the claim.",
		Security:    security, Errors: []int{http.StatusUnauthorized, http.StatusNotFound, http.StatusServiceUnavailable},
	}, h.get)
	decided := []int{http.StatusUnauthorized, http.StatusNotFound, http.StatusConflict, http.StatusServiceUnavailable}
	huma.Register(a, huma.Operation{
		OperationID: "claim-message", Method: http.MethodPost, Path: "/v1/messages/{id}/claim",
		Summary:     "Claim a message and read it",
		Description: "The first claim wins the message if the claim deadline has not passed. The winner may repeat the call and gets the same answer. Everyone else gets 409 with the code superseded: the message went out as SMS or another device has it.",
		Security:    security, Errors: decided,
	}, h.claim)
	huma.Register(a, huma.Operation{
		OperationID: "put-receipt-delivered", Method: http.MethodPut, Path: "/v1/messages/{id}/receipts/delivered",
		Summary:       "Say that the message is stored on the device",
		Description:   "Only from the device that won the claim; may be repeated.",
		DefaultStatus: http.StatusNoContent, Security: security, Errors: decided,
	}, h.delivered)
	huma.Register(a, huma.Operation{
		OperationID: "put-receipt-read", Method: http.MethodPut, Path: "/v1/messages/{id}/receipts/read",
		Summary:       "Say that the user has read the message",
		Description:   "Implies delivered. Only from the device that won the claim; may be repeated.",
		DefaultStatus: http.StatusNoContent, Security: security, Errors: decided,
	}, h.read)
}
