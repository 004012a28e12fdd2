package api

import (
	"net/http"
	"slices"
)

// What a page of another origin may send and see, if the configuration names its
// origin (the Fetch standard, §3.2). Credentials are the bearer, which a page has
// to send itself: no cookie is ever read, so none has to be allowed.
const (
	corsMethods = "GET, POST, PUT, DELETE"
	corsHeaders = "Authorization, Content-Type, DPoP, Idempotency-Key, Last-Event-ID"
	corsExposed = "RateLimit, RateLimit-Policy, Retry-After, WWW-Authenticate"
)

// cors answers a preflight of a listed origin, and tells whether it did. It writes
// nothing for any other origin.
func cors(origins []string, w http.ResponseWriter, r *http.Request) (answered bool) {
	if len(origins) == 0 {
		return false
	}
	h := w.Header()
	h.Add("Vary", "Origin")
	origin := r.Header.Get("Origin")
	if origin == "" || !slices.Contains(origins, origin) {
		return false
	}
	h.Set("Access-Control-Allow-Origin", origin)
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		h.Set("Access-Control-Expose-Headers", corsExposed)
		return false
	}
	h.Set("Access-Control-Allow-Methods", corsMethods)
	h.Set("Access-Control-Allow-Headers", corsHeaders)
	h.Set("Access-Control-Max-Age", "600")
	w.WriteHeader(http.StatusNoContent)
	return true
}
