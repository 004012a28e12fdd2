// Package fcm pushes through Firebase Cloud Messaging. It exists because the
// library repeats accepted messages, opens connections without limit and
// blocks every sender while a token endpoint stalls.
package fcm

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	firebase "firebase.google.com/go/v4"
	"firebase.google.com/go/v4/messaging"
	"google.golang.org/api/option"

	"shunt/push"
)

const (
	googleEndpoint = "https://fcm.googleapis.com/v1"

	// maxTTL is the longest that FCM stores a message: four weeks.
	maxTTL = 28 * 24 * time.Hour

	// defaultSenderKey names the sender in the data. It cannot be "from":
	// FCM reserves that word and refuses the whole message with
	// INVALID_ARGUMENT "Invalid data payload key: from".
	defaultSenderKey = "sender"
)

// Options configure a Sender. ServiceAccountFile is required.
type Options struct {
	ServiceAccountFile string // the JSON file as Google gives it: project, key, token_uri

	Endpoint string // "" = Google's; else an https URL that ends in /v1
	CAFile   string // PEM, for the endpoint and the token_uri; "" = the system's CAs

	Connections int           // HTTP/2 connections; default 4
	MaxStreams  int           // requests under way on a connection; default 90, below the peer's limit of 100
	Timeout     time.Duration // of a Send with all its retries; default 2 s
	SenderKey   string        // the data key of Notification.From; default "sender"
	Logger      *slog.Logger  // nil = slog.Default
}

// Sender pushes to the devices of one app.
//
// A push waits for a free stream, and at first for the OAuth token, until its
// deadline and then ends as Busy. The service-account file is read again while
// the Sender is in use; a new account takes over with its first token, and
// until then the old one's is used. Safe for concurrent use. One goroutine
// keeps the token fresh; it ends with Close.
type Sender struct {
	client    *messaging.Client
	link      *push.Link
	bearers   *bearers
	file      *push.File
	project   string
	timeout   time.Duration
	senderKey string
}

var _ push.Sender = (*Sender)(nil)

// New reads the service account and makes a Sender. It does not wait for the
// token endpoint: the first token is fetched in the background. ctx bounds
// New alone; Close ends the Sender. Errors name the option or the file and
// what is wrong with it.
func New(ctx context.Context, o Options) (*Sender, error) {
	if o.ServiceAccountFile == "" {
		return nil, fmt.Errorf("fcm: service_account_file is missing")
	}
	o.defaults()
	var acct *account
	file, err := push.OpenFile("service_account_file", o.ServiceAccountFile, maxAccountFile, o.Logger.With("provider", "fcm"),
		func(content []byte) (err error) {
			acct, err = parseAccount(content)
			return err
		})
	if err != nil {
		return nil, fmt.Errorf("fcm: %w", err)
	}
	cas, err := push.RootCAs(o.CAFile)
	if err != nil {
		return nil, fmt.Errorf("fcm: %w", err)
	}
	u, err := url.Parse(o.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("fcm: endpoint: %w", err)
	}
	if u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("fcm: endpoint %q: want https://HOST[:PORT]/v1", o.Endpoint)
	}
	log := o.Logger.With("provider", "fcm", "project", acct.ProjectID)
	link, err := push.NewLink(push.LinkOptions{
		URL: u.Scheme + "://" + u.Host, Connections: o.Connections, Streams: o.MaxStreams,
		DialTimeout: o.Timeout, RootCAs: cas, Logger: log,
	})
	if err != nil {
		return nil, fmt.Errorf("fcm: %w", err)
	}
	s := &Sender{link: link, timeout: o.Timeout, senderKey: o.SenderKey, file: file, project: acct.ProjectID}
	s.bearers = newBearers(acct, cas, log)
	s.bearers.look = func() { s.look(false) }
	hc := &http.Client{
		Transport:     &transport{link: link, bearers: s.bearers, look: s.look},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	app, err := firebase.NewApp(ctx, &firebase.Config{ProjectID: acct.ProjectID},
		option.WithHTTPClient(hc), option.WithEndpoint(strings.TrimRight(o.Endpoint, "/")))
	if err == nil {
		s.client, err = app.Messaging(ctx)
	}
	if err != nil {
		_ = link.Close()
		return nil, fmt.Errorf("fcm: %w", err)
	}
	s.bearers.start()
	return s, nil
}

func (o *Options) defaults() {
	if o.Endpoint == "" {
		o.Endpoint = googleEndpoint
	}
	if o.Connections <= 0 {
		o.Connections = 4
	}
	if o.MaxStreams <= 0 {
		o.MaxStreams = 90
	}
	if o.Timeout <= 0 {
		o.Timeout = 2 * time.Second
	}
	if o.SenderKey == "" {
		o.SenderKey = defaultSenderKey
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
}

// Warm connects in the background; the OAuth token is fetched anyway.
func (s *Sender) Warm() { s.link.Warm() }

// look reads the service-account file again, if it is time to or the token was
// refused.
func (s *Sender) look(refused bool) { s.file.Poll(time.Now(), refused, s.use) }

// use takes another content of the service-account file. The project stays: the
// devices' tokens belong to it.
func (s *Sender) use(content []byte) error {
	a, err := parseAccount(content)
	if err != nil {
		return err
	}
	if a.ProjectID != s.project {
		return fmt.Errorf("project_id is %q and was %q: only a restart changes the project", a.ProjectID, s.project)
	}
	s.bearers.replace(a)
	return nil
}

// Close ends the Sender's goroutine and connections. It may be called more
// than once.
func (s *Sender) Close() error {
	s.bearers.close()
	return s.link.Close()
}

// Send pushes n and tells how it ended; see push.Sender.
func (s *Sender) Send(ctx context.Context, n push.Notification) push.Result {
	if r, ok := n.Check(); !ok {
		return r
	}
	m, size := s.message(n, time.Now())
	bodyLeft := size > push.MaxPayload && n.Body != ""
	if bodyLeft {
		n.Body = ""
		m, size = s.message(n, time.Now())
	}
	if size > push.MaxPayload {
		return push.Result{Outcome: push.Rejected, Reason: "PayloadTooLarge"}
	}
	s.look(false)
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	name, err := s.client.Send(ctx, m)
	r := outcome(name, err, time.Now())
	r.BodyLeft = bodyLeft
	return r
}

// message is n for FCM, and the octets that count against its limit: those of
// the data and of the notification as they are encoded. Google counts keys and
// values, which are never more.
//
// It has no collapse_key, because FCM keeps only four of them a device and
// drops the rest: the notification's tag replaces an earlier one on screen.
func (s *Sender) message(n push.Notification, now time.Time) (*messaging.Message, int) {
	data := map[string]string{"id": n.ID, s.senderKey: n.From}
	if n.Body != "" {
		data["body"] = n.Body
	}
	encoded, _ := json.Marshal(payload{data, n.From, n.Body, n.ID}) // strings always encode
	ttl := max(0, min(n.Expires.Sub(now).Truncate(time.Second), maxTTL))
	return &messaging.Message{
		Token: n.Token,
		Data:  data,
		Android: &messaging.AndroidConfig{
			Priority: "high",
			TTL:      &ttl,
			Notification: &messaging.AndroidNotification{
				Title: n.From,
				Body:  n.Body,
				Tag:   n.ID,
			},
		},
	}, len(encoded)
}

// payload is what a device gets of a message.
type payload struct {
	Data  map[string]string `json:"data"`
	Title string            `json:"title"`
	Body  string            `json:"body,omitempty"`
	Tag   string            `json:"tag"`
}
