package fcm

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"time"

	"shunt/test/sim/provider"
)

// message is what the simulator knows of an FCM v1 message. Google refuses
// members that it does not know, and so does the decoder.
type request struct {
	ValidateOnly bool    `json:"validate_only"`
	Message      message `json:"message"`
}

type message struct {
	Token        string            `json:"token"`
	Topic        string            `json:"topic"`
	Condition    string            `json:"condition"`
	Data         map[string]string `json:"data"`
	Notification *notification     `json:"notification"`
	Android      *android          `json:"android"`
	APNS         json.RawMessage   `json:"apns"`
	Webpush      json.RawMessage   `json:"webpush"`
	FCMOptions   json.RawMessage   `json:"fcm_options"`
}

type android struct {
	CollapseKey  string            `json:"collapse_key"`
	Priority     string            `json:"priority"`
	TTL          string            `json:"ttl"`
	Package      string            `json:"restricted_package_name"`
	Data         map[string]string `json:"data"`
	Notification *notification     `json:"notification"`
	FCMOptions   json.RawMessage   `json:"fcm_options"`
	DirectBoot   bool              `json:"direct_boot_ok"`
}

type notification struct {
	Title string `json:"title"`
	Body  string `json:"body"`
	Image string `json:"image"`
	Tag   string `json:"tag"`
}

var ttlForm = regexp.MustCompile(`^[0-9]{1,10}(\.[0-9]{1,9})?s$`)

// message checks a message and makes a Push of it.
func (s *Server) message(b []byte) (p provider.Push, bad *refusal) {
	var req request
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&req); err != nil {
		return p, invalid("", "Invalid JSON payload received.")
	}
	m := &req.Message
	if m.Token == "" || m.Topic != "" || m.Condition != "" {
		return p, invalid("message", "Exactly one recipient is needed, and this simulator knows tokens only.")
	}
	size := 0
	for k, v := range m.Data {
		if k == "from" || k == "message_type" || strings.HasPrefix(k, "google") || strings.HasPrefix(k, "gcm") {
			return p, invalid("message.data", "Invalid data payload key: "+k)
		}
		size += len(k) + len(v)
	}
	p = provider.Push{Token: m.Token, ID: m.Data["id"], From: m.Data["sender"], Body: m.Data["body"]}
	tag := ""
	for _, n := range []*notification{m.Notification, androidNotification(m.Android)} {
		if n == nil {
			continue
		}
		size += len(n.Title) + len(n.Body) + len(n.Tag)
		tag = n.Tag
	}
	if size > maxPayload {
		return p, invalid("message", "Android message is too big.")
	}
	s.advise(m, tag)
	if m.Android == nil {
		return p, nil
	}
	switch m.Android.Priority {
	case "", "high", "HIGH", "normal", "NORMAL":
	default:
		return p, invalid("message.android.priority", "Invalid value.")
	}
	if m.Android.TTL == "" {
		return p, nil
	}
	ttl, err := time.ParseDuration(m.Android.TTL)
	if !ttlForm.MatchString(m.Android.TTL) || err != nil || ttl > maxTTL {
		return p, invalid("message.android.ttl", "Invalid TTL.")
	}
	p.Expires = time.Now().Add(ttl).UTC()
	return p, nil
}

func androidNotification(a *android) *notification {
	if a == nil {
		return nil
	}
	return a.Notification
}

// advise counts what Google accepts and a gateway with deadlines may not do.
func (s *Server) advise(m *message, tag string) {
	if m.Data["id"] == "" {
		s.Fault("IDMissing") // the app could not claim anything
	}
	if tag != m.Data["id"] {
		s.Fault("TagNotID")
	}
	switch {
	case m.Android == nil || m.Android.TTL == "":
		s.Fault("TTLMissing")
	case m.Android.CollapseKey != "":
		s.Fault("CollapseKey")
	}
	if m.Android != nil && !strings.EqualFold(m.Android.Priority, "high") {
		s.Fault("PriorityNotHigh")
	}
}
