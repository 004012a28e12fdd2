// Package apns simulates Apple's push service: it judges requests as strictly
// as Apple does and answers in Apple's words, so that the push leg can be run.
package apns

import (
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/oklog/ulid/v2"

	"shunt/test/sim/pki"
	"shunt/test/sim/provider"
)

const (
	maxPayload    = 4096 // octets of a remote notification
	maxCollapseID = 64
	maxBody       = 64 << 10
)

// Options configure a Server.
type Options struct {
	provider.Options
	KeyFile string // the provider's .p8 key, made if missing; default apns.p8 in the PKI directory
	TeamID  string // the only iss to accept; "" = any
	KeyID   string // the only kid to accept; "" = any
	Topic   string // the only apns-topic to accept; "" = any
}

// Server is a simulated APNs. Its goroutines end with Close or with the
// context of Start.
type Server struct {
	*provider.Bench
	opts   Options
	tokens *verifier
}

// New makes the keys and opens the listeners.
func New(o Options) (*Server, error) {
	if o.KeyFile == "" {
		o.KeyFile = filepath.Join(o.PKI, pki.APNsKeyFile)
	}
	bench, err := provider.NewBench(o.Options)
	if err != nil {
		return nil, fmt.Errorf("apns simulator: %w", err)
	}
	s := &Server{Bench: bench, opts: o}
	var key *ecdsa.PublicKey
	if err = pki.WriteAPNsKey(o.KeyFile); err == nil {
		key, err = pki.APNsKey(o.KeyFile)
	}
	if err != nil {
		_ = bench.Close()
		return nil, fmt.Errorf("apns simulator: %w", err)
	}
	s.tokens = &verifier{key: key, team: o.TeamID, keyID: o.KeyID}
	return s, nil
}

// Start serves until ctx ends or Close is called.
func (s *Server) Start(ctx context.Context) error {
	return s.Serve(ctx, http.HandlerFunc(s.serve))
}

// Info is what a client needs to know.
func (s *Server) Info() provider.Info {
	return provider.Info{
		Addr: s.Addr(), Control: s.ControlAddr(), URL: "https://" + s.Addr(),
		CAFile: s.CA().File(), KeyFile: s.opts.KeyFile,
	}
}

// refusal is an answer of Apple's other than 200.
type refusal struct {
	status int
	reason string
}

// statusOf are Apple's reasons with their statuses, from "Handling
// notification responses from APNs".
var statusOf = map[string]int{
	"BadCollapseId": 400, "BadDeviceToken": 400, "BadExpirationDate": 400, "BadMessageId": 400,
	"BadPriority": 400, "BadTopic": 400, "DeviceTokenNotForTopic": 400, "DuplicateHeaders": 400,
	"IdleTimeout": 400, "InvalidPushType": 400, "MissingDeviceToken": 400, "MissingTopic": 400,
	"PayloadEmpty": 400, "TopicDisallowed": 400,
	"ExpiredProviderToken": 403, "Forbidden": 403, "InvalidProviderToken": 403, "MissingProviderToken": 403,
	"BadPath": 404, "MethodNotAllowed": 405, "ExpiredToken": 410, "Unregistered": 410,
	"PayloadTooLarge": 413, "TooManyProviderTokenUpdates": 429, "TooManyRequests": 429,
	"InternalServerError": 500, "ServiceUnavailable": 503, "Shutdown": 503,
}

func refuse(reason string) *refusal { return &refusal{statusOf[reason], reason} }

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	defer s.Begin()()
	id := r.Header.Get("apns-id")
	if id == "" {
		id = ulid.Make().String()
	}
	w.Header().Set("apns-id", id)
	token, push, bad := s.examine(r)
	if bad != nil {
		s.Fault(bad.reason)
		s.answer(w, bad, 0)
		return
	}
	v, ok := s.Judge(r.Context(), token)
	if !ok {
		panic(http.ErrAbortHandler) // no answer at all, not an implicit 200
	}
	if v.Status != 0 {
		s.answer(w, verdict(v), v.RetryAfter)
		return
	}
	push.At = time.Now().UTC()
	s.Accept(push)
	w.WriteHeader(http.StatusOK)
}

// verdict puts a rule's outcome in Apple's words.
func verdict(v provider.Verdict) *refusal {
	switch v.Reason {
	case provider.ReasonError:
		return refuse("InternalServerError")
	case provider.ReasonThrottle:
		return refuse("TooManyRequests")
	}
	return &refusal{v.Status, v.Reason}
}

func (s *Server) answer(w http.ResponseWriter, bad *refusal, retryAfter int) {
	s.Refused(bad.reason)
	if retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(retryAfter))
	}
	body := map[string]any{"reason": bad.reason}
	if bad.status == http.StatusGone {
		body["timestamp"] = time.Now().UnixMilli()
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(bad.status)
	_ = json.NewEncoder(w).Encode(body)
}

// examine checks a request in Apple's order: path, headers, provider token,
// payload.
func (s *Server) examine(r *http.Request) (token string, p provider.Push, bad *refusal) {
	if r.ProtoMajor != 2 {
		return "", p, refuse("BadPath") // Apple speaks HTTP/2 only
	}
	if r.Method != http.MethodPost {
		return "", p, refuse("MethodNotAllowed")
	}
	token, ok := strings.CutPrefix(r.URL.Path, "/3/device/")
	if !ok {
		return "", p, refuse("BadPath")
	}
	if token == "" {
		return "", p, refuse("MissingDeviceToken")
	}
	if strings.Contains(token, "/") {
		return "", p, refuse("BadPath")
	}
	if bad = s.headers(r.Header); bad != nil {
		return "", p, bad
	}
	fresh, reason := s.tokens.check(r.Header.Get("Authorization"), time.Now())
	if reason != "" {
		return "", p, refuse(reason)
	}
	if fresh {
		s.Count(func(st *provider.Stats) { st.Bearers++ })
	}
	if p, bad = s.payload(r); bad != nil {
		return "", p, bad
	}
	p.Token = token
	return token, p, nil
}

// headers checks Apple's request headers.
func (s *Server) headers(h http.Header) *refusal {
	for name, values := range h {
		if strings.HasPrefix(name, "Apns-") && len(values) > 1 {
			return refuse("DuplicateHeaders")
		}
	}
	switch topic := h.Get("apns-topic"); {
	case topic == "":
		return refuse("MissingTopic")
	case s.opts.Topic != "" && topic != s.opts.Topic:
		return refuse("TopicDisallowed")
	}
	background := false
	switch h.Get("apns-push-type") {
	case "background":
		background = true
	case "alert", "voip", "complication", "fileprovider", "mdm", "location", "liveactivity", "pushtotalk":
	default:
		return refuse("InvalidPushType")
	}
	switch h.Get("apns-priority") {
	case "10":
		if background {
			return refuse("BadPriority")
		}
	case "", "5", "1":
	default:
		return refuse("BadPriority")
	}
	if len(h.Get("apns-collapse-id")) > maxCollapseID {
		return refuse("BadCollapseId")
	}
	if e := h.Get("apns-expiration"); e != "" {
		if n, err := strconv.ParseInt(e, 10, 64); err != nil || n < 0 || n > 1<<33 {
			return refuse("BadExpirationDate")
		}
	} else {
		// Apple takes it and stores the push for a while: no refusal, but
		// not what a gateway with a deadline may do.
		s.Fault("ExpirationMissing")
	}
	return nil
}

// payload reads the remote notification and what Shunt put beside aps.
func (s *Server) payload(r *http.Request) (p provider.Push, bad *refusal) {
	b, err := io.ReadAll(io.LimitReader(r.Body, maxBody))
	switch {
	case err != nil:
		return p, refuse("PayloadEmpty")
	case len(b) > maxPayload:
		return p, refuse("PayloadTooLarge")
	}
	var doc struct {
		APS *struct {
			Alert          json.RawMessage `json:"alert"`
			MutableContent int             `json:"mutable-content"`
		} `json:"aps"`
		ID   string `json:"id"`
		From string `json:"from"`
		Body string `json:"body"`
	}
	if json.Unmarshal(b, &doc) != nil || doc.APS == nil {
		return p, refuse("PayloadEmpty")
	}
	if doc.ID == "" {
		s.Fault("IDMissing") // the app could not claim anything
	}
	if c := r.Header.Get("apns-collapse-id"); c != doc.ID {
		s.Fault("CollapseIDNotID")
	}
	if doc.Body == "" {
		var alert struct {
			Body string `json:"body"`
		}
		if json.Unmarshal(doc.APS.Alert, &alert) == nil {
			doc.Body = alert.Body
		}
	}
	p = provider.Push{ID: doc.ID, From: doc.From, Body: doc.Body}
	if e, err := strconv.ParseInt(r.Header.Get("apns-expiration"), 10, 64); err == nil {
		p.Expires = time.Unix(e, 0).UTC()
	}
	return p, nil
}
