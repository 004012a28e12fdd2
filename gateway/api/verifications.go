package api

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"shunt/gateway/number"
	"shunt/gateway/prove"
	"shunt/store/registry"
)

// registerVerifications declares how a number is proven. Both need no caller:
// whoever asks has no device yet.
func (h *handlers) registerVerifications(a huma.API) {
	huma.Register(a, huma.Operation{
		OperationID: "begin-verification", Method: http.MethodPost, Path: "/v1/verifications",
		Summary:       "Begin to prove a number",
		Description:   "With channel sms a code of six digits goes to the number as SMS. With silent-mo the user sends the nonce of the answer to its short code, from the number. The answer is the same for every number.",
		DefaultStatus: http.StatusAccepted, MaxBodyBytes: maxBody,
		Middlewares: huma.Middlewares{h.idempotent}, Parameters: []*huma.Param{onceParameter()},
		Errors: []int{http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity, http.StatusTooManyRequests, http.StatusNotImplemented, http.StatusServiceUnavailable},
	}, h.beginVerification)
	huma.Register(a, huma.Operation{
		OperationID: "check-verification", Method: http.MethodPost, Path: "/v1/verifications/{id}/check",
		Summary:      "Prove the number",
		Description:  "With the code of the SMS, or with no code once the user has sent the nonce: 409 pending until that SMS is here. The proof is for one PUT of a device. After five wrong codes, or five minutes, the verification is over: 410.",
		MaxBodyBytes: maxBody,
		Errors:       []int{http.StatusConflict, http.StatusGone, http.StatusUnprocessableEntity, http.StatusNotImplemented, http.StatusServiceUnavailable},
	}, h.checkVerification)
}

type verificationInput struct {
	Body struct {
		Number  string `json:"number" maxLength:"40" doc:"The number: + or 00, country code and the rest, blanks and hyphens do not matter; or as it is written in the app's country, if the operator has set one." example:"+447700900042"`
		App     string `json:"app" maxLength:"64" doc:"The app's id, as the operator has configured it." example:"chat"`
		Channel string `json:"channel,omitempty" enum:"sms,silent-mo" default:"sms" doc:"Which way the SMS goes."`
		Format  string `json:"format,omitempty" enum:"plain,android,domain" default:"plain" doc:"How the SMS is written, so that the phone fills the code in: android for the SMS Retriever, domain for Apple's domain-bound codes."`
		Hash    string `json:"hash,omitempty" maxLength:"11" doc:"With format android: the app's hash of eleven characters." example:"FA+9qCX9VSu"`
		Domain  string `json:"domain,omitempty" maxLength:"60" doc:"With format domain: the app's domain." example:"example.com"`
	}
}

type verificationOutput struct {
	Body struct {
		ID          string    `json:"id" doc:"For the check."`
		ExpiresAt   time.Time `json:"expires_at"`
		ResendAfter time.Time `json:"resend_after" doc:"A new verification of this number may begin then."`
		ShortCode   string    `json:"short_code,omitempty" doc:"With silent-mo: where the user sends the nonce."`
		Nonce       string    `json:"nonce,omitempty" doc:"With silent-mo: the text of the SMS."`
	}
}

func (h *handlers) beginVerification(ctx context.Context, in *verificationInput) (*verificationOutput, error) {
	b := &in.Body
	if !h.Apps(b.App) {
		return nil, invalid("body.app", "no app of this gateway has this id")
	}
	var country number.Country
	if h.Country != nil {
		country = h.Country(b.App)
	}
	n, err := country.Parse(b.Number)
	if err != nil {
		return nil, invalid("body.number", err.Error())
	}
	r := prove.Request{Number: n, App: b.App, Silent: b.Channel == "silent-mo", From: prove.Addr(requestIn(ctx).remote)}
	switch b.Format {
	case "android":
		r.Format, r.Detail = prove.Android, b.Hash
	case "domain":
		r.Format, r.Detail = prove.Domain, b.Domain
	default:
		r.Detail = b.Hash + b.Domain // of a format that was left out: refused
	}
	if h.Prove == nil {
		return nil, notOffered()
	}
	begun, err := h.Prove.Begin(ctx, r)
	if err != nil {
		return nil, h.verificationProblem(err)
	}
	out := &verificationOutput{}
	out.Body.ID, out.Body.ExpiresAt, out.Body.ResendAfter = begun.ID, stamp(begun.Expires), stamp(begun.ResendAfter)
	out.Body.ShortCode, out.Body.Nonce = begun.ShortCode, begun.Nonce
	return out, nil
}

type checkInput struct {
	ID   string `path:"id" maxLength:"64"`
	Body struct {
		Code string `json:"code,omitempty" maxLength:"6" pattern:"^([0-9]{6})?$" doc:"The code of the SMS; left out with silent-mo." example:"123456"`
	}
}

type checkOutput struct {
	Body struct {
		Proof     string    `json:"proof" doc:"For one PUT of a device."`
		ExpiresAt time.Time `json:"expires_at"`
	}
}

func (h *handlers) checkVerification(ctx context.Context, in *checkInput) (*checkOutput, error) {
	if h.Prove == nil {
		return nil, notOffered()
	}
	proof, app, err := h.Prove.Check(ctx, in.ID, in.Body.Code)
	if err != nil {
		return nil, h.verificationProblem(err)
	}
	h.Log.Info("number proven", "app", app)
	out := &checkOutput{}
	out.Body.Proof, out.Body.ExpiresAt = proof, stamp(time.Now().Add(prove.ProofFor))
	return out, nil
}

func (h *handlers) verificationProblem(err error) error {
	limit := new(prove.LimitError)
	switch {
	case errors.As(err, &limit):
		p := newProblem(http.StatusTooManyRequests, codeLimit+limit.Limit, "too many verifications: wait for as long as Retry-After says")
		p.retryAfter = int(limit.Wait/time.Second) + 1
		return p
	case errors.Is(err, prove.ErrOff):
		return notOffered()
	case errors.Is(err, prove.ErrDetail):
		return invalid("body", "format android wants a hash of eleven base64 characters, format domain a domain in small letters, format plain neither")
	case errors.Is(err, registry.ErrNotFound):
		return newProblem(http.StatusGone, codeExpired, "there is no such verification, or none any more: begin a new one")
	case errors.Is(err, registry.ErrCode):
		return newProblem(http.StatusUnprocessableEntity, codeWrongCode, "this is not the code that was sent")
	case errors.Is(err, registry.ErrPending):
		p := newProblem(http.StatusConflict, codePending, "the SMS with the nonce has not come yet")
		p.retryAfter = 2
		return p
	}
	h.Log.Error("registry did not answer an app", "error", err)
	return tryAgain()
}

func notOffered() error {
	return newProblem(http.StatusNotImplemented, codeNotOffered, "the operator has not configured this")
}
