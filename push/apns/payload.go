package apns

import (
	"encoding/json"
	"time"

	"github.com/sideshow/apns2"

	"shunt/push"
)

// payload is the remote notification: an alert that a notification service
// extension may replace with the claimed text, and beside it what the app
// needs for its claim.
type payload struct {
	APS  aps    `json:"aps"`
	ID   string `json:"id"`
	From string `json:"from"`
}

type aps struct {
	Alert          alert  `json:"alert"`
	Sound          string `json:"sound"`
	MutableContent int    `json:"mutable-content"`
}

type alert struct {
	Title string `json:"title,omitempty"`
	Body  string `json:"body,omitempty"`
}

// notification encodes n once, in the form that goes on the wire: the library
// escapes <, > and & for HTML, and so does json.Marshal here, so that the
// payload's size is the one that Apple will see.
func (s *Sender) notification(n push.Notification) (*apns2.Notification, error) {
	b, err := json.Marshal(payload{
		APS: aps{
			Alert:          alert{Title: n.From, Body: n.Body},
			Sound:          "default",
			MutableContent: 1,
		},
		ID:   n.ID,
		From: n.From,
	})
	if err != nil {
		return nil, err
	}
	return &apns2.Notification{
		CollapseID:  n.ID,
		DeviceToken: n.Token,
		Topic:       s.topic,
		Expiration:  expiration(n.Expires),
		Priority:    apns2.PriorityHigh,
		PushType:    apns2.PushTypeAlert,
		Payload:     b,
	}, nil
}

// expiration is t as a header that the library will not drop: it sends none
// for 0 and for earlier times, which Apple would read as "store it". The time
// 1 means "now or never".
func expiration(t time.Time) time.Time {
	if t.Unix() < 1 {
		return time.Unix(1, 0)
	}
	return t
}
