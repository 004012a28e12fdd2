package api

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/go-cmp/cmp"

	"shunt/gateway/msg"
)

// Whatever way a request takes, it is answered in the same words.
func TestHotAnswersAsTheGeneralWay(t *testing.T) {
	r := newRig(t)
	short := r.handler.(*front)
	general := *short
	general.hot = nil
	ask := func(h http.Handler, method, path, bearer string) *http.Response {
		req := httptest.NewRequest(method, path, nil)
		if bearer != "" {
			req.Header.Set("Authorization", "Bearer "+bearer)
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, req)
		return rec.Result()
	}
	type seen struct {
		Status int
		Header http.Header
		Body   string
	}
	see := func(res *http.Response) seen {
		b := make([]byte, 4096)
		n, _ := res.Body.Read(b)
		return seen{res.StatusCode, res.Header, string(b[:n])}
	}
	id := r.message(alice)
	late := r.message(alice)
	r.event(late, msg.EvPushDead)
	for _, c := range []struct{ method, path, bearer string }{
		{"PUT", path(id, "/receipts/delivered"), bearerA}, // not claimed
		{"POST", path(id, "/claim"), ""},
		{"POST", path(id, "/claim"), "no-such-bearer-at-all"},
		{"POST", path(id, "/claim"), bearerBob},
		{"POST", path(id, "/claim"), bearerOther},
		{"POST", path(late, "/claim"), bearerA}, // superseded
		{"POST", "/v1/messages/nonsense/claim", bearerA},
		{"POST", path(r.spool.NewID(), "/claim"), bearerA},
		{"POST", path(id, "/claim"), bearerA}, // whoever asks second replays
		{"PUT", path(id, "/receipts/delivered"), bearerA},
		{"PUT", path(id, "/receipts/delivered"), bearerB},
		{"PUT", path(id, "/receipts/read"), bearerA},
		{"GET", path(id, "/claim"), bearerA},
		{"PUT", path(id, "/claim"), bearerA},
		{"POST", path(id, "/receipts/shown"), bearerA},
		{"POST", path(id, "/claim/"), bearerA},
		{"POST", "/v1/messages//claim", bearerA},
	} {
		one, other := see(ask(short, c.method, c.path, c.bearer)), see(ask(&general, c.method, c.path, c.bearer))
		if diff := cmp.Diff(other, one); diff != "" {
			t.Errorf("%s %s (-general +hot):\n%s", c.method, c.path, diff)
		}
	}
	claim := httptest.NewRequest("POST", path(id, "/claim"), nil)
	claim.Header.Set("Authorization", "Bearer "+bearerA)
	if op, _ := hot(claim); op == nil {
		t.Error("a claim does not take the short way")
	}
}
