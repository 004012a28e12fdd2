package api

import (
	"maps"
	"net/http"
	"slices"
	"strconv"

	"github.com/danielgtaylor/huma/v2"
)

// Values of the examples in the document.
const (
	exampleID    = "s01JZ8M5C3V4Q2N7R9T0W1X2Y3Z"
	exampleReply = "s01JZ8M9KQ3H6D5F8G2J4K7M1N0P"
	exampleTime  = "2025-07-03T09:12:44.312Z"
	exampleBy    = "2025-07-03T09:13:14.312Z"
)

var exampleMessage = map[string]any{"id": exampleID, "from": "ACME", "received_at": exampleTime, "claim_by": exampleBy, "state": "PUSHED"}

var exampleDevice = map[string]any{
	"id": "4f0c7a52", "app": "chat", "platform": "fcm", "sandbox": false, "state": "active", "features": []any{"receipts", "read", "reply"},
	"permission": "granted", "preference": 0, "registered_at": exampleTime, "proven_at": exampleTime,
}

// with is a copy with more in it.
func with(m, more map[string]any) map[string]any {
	m = maps.Clone(m)
	maps.Copy(m, more)
	return m
}

// examples are a request's body and a success's, by operation. Whoever adds an
// operation adds its own.
var examples = map[string]struct{ request, response any }{
	"list-messages": {response: map[string]any{"messages": []any{exampleMessage}, "next": exampleID}},
	"get-message":   {response: exampleMessage},
	"claim-message": {response: map[string]any{"id": exampleID, "from": "ACME", "text": "Your parcel comes on Monday.", "received_at": exampleTime}},
	"send-reply": {
		request:  map[string]any{"message_id": exampleID, "text": "Tuesday, please."},
		response: map[string]any{"id": exampleReply, "message_id": exampleID, "accepted_at": exampleTime},
	},
	"begin-verification": {
		request:  map[string]any{"number": "+447700900042", "app": "chat", "format": "android", "hash": "FA+9qCX9VSu"},
		response: map[string]any{"id": "v4pJ0cQ2mXkW8Zb7", "expires_at": exampleBy, "resend_after": exampleBy},
	},
	"check-verification": {
		request:  map[string]any{"code": "123456"},
		response: map[string]any{"proof": "p9Qm3s7Lr2Vw5Xy8", "expires_at": exampleBy},
	},
	"put-device": {
		request:  map[string]any{"proof": "p9Qm3s7Lr2Vw5Xy8", "app": "chat", "platform": "fcm", "token": "d3adb33f", "features": []any{"receipts", "read", "reply"}, "permission": "granted"},
		response: with(exampleDevice, map[string]any{"bearer": "q2Zr6mYk0Xw4Vt8Sp1Jn5Lb9Hc3Fd7Ga", "token_type": "Bearer"}),
	},
	"get-device":  {response: exampleDevice},
	"heartbeat":   {request: map[string]any{"permission": "granted"}},
	"open-stream": {response: ":\n\nid: " + exampleID + "\nevent: message\ndata: {\"id\":\"" + exampleID + "\",\"from\":\"ACME\",\"received_at\":\"" + exampleTime + "\",\"claim_by\":\"" + exampleBy + "\",\"state\":\"ACCEPTED\"}\n\nevent: superseded\ndata: {\"id\":\"" + exampleID + "\",\"reason\":\"sms\"}\n\n"},
}

// problemsOf are the codes that a status may come with, the example's first, and
// what its detail says there.
var problemsOf = map[int]struct{ code, detail string }{
	http.StatusBadRequest:            {codeInvalid, "the body could not be read"},
	http.StatusUnauthorized:          {codeUnauthorized, "send the device's bearer as Authorization: Bearer …"},
	http.StatusForbidden:             {codeProof, "the proof is unknown, used or over: prove the number again"},
	http.StatusGone:                  {codeExpired, "this verification is over: begin a new one"},
	http.StatusNotImplemented:        {codeNotOffered, "the operator has not configured this"},
	http.StatusNotFound:              {codeNotFound, "no such message for this device"},
	http.StatusConflict:              {codeSuperseded, "the message went out as SMS or another device has claimed it"},
	http.StatusRequestEntityTooLarge: {codeTooLarge, "the body is longer than 16384 octets"},
	http.StatusUnsupportedMediaType:  {codeMediaType, "send application/json"},
	http.StatusUnprocessableEntity:   {codeInvalid, "validation failed"},
	http.StatusTooManyRequests:       {codeTooMany, "too many requests of this device: see the RateLimit and Retry-After headers"},
	http.StatusInternalServerError:   {codeInternal, "the gateway failed; its log says why"},
	http.StatusServiceUnavailable:    {codeUnavailable, "the gateway cannot decide at the moment: repeat the same call"},
}

// describe completes the document: what every operation may answer, and an
// example of every request, answer and problem.
func describe(o *huma.OpenAPI) {
	for _, item := range o.Paths {
		for _, op := range operations(item) {
			describeOperation(op)
		}
	}
}

// operations are those of one path.
func operations(p *huma.PathItem) []*huma.Operation {
	all := []*huma.Operation{p.Get, p.Put, p.Post, p.Delete, p.Patch, p.Head, p.Options, p.Trace}
	return slices.DeleteFunc(all, func(op *huma.Operation) bool { return op == nil })
}

func describeOperation(op *huma.Operation) {
	always := []int{http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity, http.StatusInternalServerError}
	if op.RequestBody != nil {
		always = append(always, http.StatusUnsupportedMediaType)
	}
	if len(op.Security) > 0 {
		always = append(always, http.StatusTooManyRequests)
	}
	for _, status := range always {
		if code := strconv.Itoa(status); op.Responses[code] == nil {
			op.Responses[code] = &huma.Response{Content: map[string]*huma.MediaType{
				"application/problem+json": {Schema: &huma.Schema{Ref: "#/components/schemas/Problem"}},
			}}
		}
	}
	delete(op.Responses, "default")
	ex := examples[op.OperationID]
	if op.RequestBody != nil {
		for _, m := range op.RequestBody.Content {
			if ex.request != nil {
				m.Example = ex.request
			}
		}
	}
	for _, code := range slices.Sorted(maps.Keys(op.Responses)) {
		describeResponse(op.Responses[code], code, ex.response)
	}
}

func describeResponse(r *huma.Response, code string, success any) {
	status, _ := strconv.Atoi(code)
	if r.Description == "" {
		r.Description = http.StatusText(status)
	}
	for kind, m := range r.Content {
		switch p, ok := problemsOf[status]; {
		case m.Example != nil:
		case status < 300 && success != nil:
			m.Example = success
		case ok && kind == "application/problem+json":
			m.Example = map[string]any{
				"type": "urn:shunt:problem:" + p.code, "title": http.StatusText(status), "status": status, "code": p.code, "detail": p.detail,
			}
		}
	}
	header := func(name, text string) {
		if r.Headers == nil {
			r.Headers = map[string]*huma.Param{}
		}
		r.Headers[name] = &huma.Param{Description: text, Schema: &huma.Schema{Type: huma.TypeString}}
	}
	if status == http.StatusTooManyRequests {
		header("RateLimit-Policy", "The quota of a device: q requests in w seconds")
		header("RateLimit", "r requests are left; in t seconds all are")
	}
	if status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable {
		header("Retry-After", "Seconds")
	}
}
