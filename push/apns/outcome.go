package apns

import (
	"net/http"

	"github.com/sideshow/apns2"

	"shunt/push"
)

// outcome names what Apple's reply means. resp is nil when it was not JSON.
//
// A token is called dead only when the fault can be no one else's. That is
// not so for DeviceTokenNotForTopic and TopicDisallowed: one wrong topic in
// the configuration gives them for every token there is, and one device that
// registers another app's token gives them for that token; neither may empty
// the registry or close the lane. BadDeviceToken is malformed, or of the
// other environment than its registration says: useless as it stands.
func outcome(x *exchange, resp *apns2.Response) push.Result {
	r := push.Result{RetryAfter: x.retryAfter}
	reason := ""
	if resp != nil {
		reason = resp.Reason
	}
	if x.status == http.StatusOK {
		if resp == nil {
			// Something that is not Apple answered.
			r.Outcome, r.Reason = push.Unknown, "bad-reply"
			return r
		}
		r.Outcome = push.Accepted
		return r
	}
	r.Reason = push.Code(reason, push.HTTPStatus(x.status))
	switch reason {
	case apns2.ReasonBadDeviceToken, apns2.ReasonUnregistered, apns2.ReasonExpiredToken:
		r.Outcome = push.TokenDead
		r.DeadSince = resp.Timestamp.Time
		return r
	case apns2.ReasonIdleTimeout:
		r.Outcome = push.Busy
		return r
	}
	r.Outcome = ofStatus(x.status, reason)
	r.TokenBusy = reason == apns2.ReasonTooManyRequests // to one device, says Apple
	return r
}

// ofStatus is the outcome when the reason says no more than the status.
func ofStatus(status int, reason string) push.Outcome {
	switch {
	case status == http.StatusGone && reason == "":
		return push.Rejected // Apple always names it: this is not Apple's
	case status == http.StatusGone:
		return push.TokenDead
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return push.Denied
	case status == http.StatusTooManyRequests:
		return push.Busy
	case status == http.StatusBadGateway, status == http.StatusGatewayTimeout, status == http.StatusRequestTimeout:
		return push.Unknown // a relay lost it, perhaps after it arrived
	case status >= 500:
		return push.Busy
	case status >= 400:
		return push.Rejected
	}
	return push.Unknown
}
