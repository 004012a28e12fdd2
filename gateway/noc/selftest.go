package noc

import (
	"context"
	"net/http"
	"time"
)

// Proof is what a running gateway found of itself when it was asked to: it has
// written a line to its log and a file beside its stores, and has read its
// certificates anew. It judges nothing.
type Proof struct {
	// Nonce is what the line `selftest` in the log has as its attribute
	// selftest. Logged: log.level lets that line through; Journal: it went to the
	// journal.
	Nonce   string `json:"nonce"`
	Logged  bool   `json:"logged"`
	Journal bool   `json:"journal"`

	PID     int       `json:"pid"`
	Now     time.Time `json:"now"`
	Started time.Time `json:"started"`
	// ClockMoved is how far the wall clock went ahead of the monotonic one since
	// the start, in seconds: it was set, or is being slewed.
	ClockMoved float64 `json:"clock_moved_seconds"`

	Data         DataDir       `json:"data_dir"`
	Certificates []Certificate `json:"certificates"`
}

// DataDir is node.data_dir as the gateway finds it.
type DataDir struct {
	Dir       string  `json:"dir"`
	UID       int     `json:"uid"`   // the gateway's
	Owner     int     `json:"owner"` // the folder's
	Mode      uint32  `json:"mode"`  // its permissions
	FreeShare float64 `json:"free_share"`
	Stops     float64 `json:"stops_at_share"`  // nothing is diverted below
	Starts    float64 `json:"starts_at_share"` // and again from here on
	Wrote     float64 `json:"write_seconds"`   // a small file and its fsync
	Error     string  `json:"error,omitempty"` // why that could not be
}

// Certificate is a file with certificates that the configuration names.
type Certificate struct {
	Subject  string    `json:"subject"` // whose it is: "listen 0.0.0.0:2775", "smsc smsc-a"
	Kind     string    `json:"kind"`    // own: with a key; ca: to check others by
	File     string    `json:"file"`
	Name     string    `json:"name,omitempty"` // of the first of the chain
	Chain    int       `json:"chain"`          // certificates in the file
	NotAfter time.Time `json:"not_after,omitzero"`
	Changed  bool      `json:"changed,omitempty"` // the file is no longer what is in use
	Error    string    `json:"error,omitempty"`   // what is wrong with the file as it is now
}

// Kinds of certificates.
const (
	CertificateOwn = "own"
	CertificateCA  = "ca"
)

func (s *Server) selftest(_ http.ResponseWriter, r *http.Request) (any, error) {
	p, ok := s.o.Gateway.Prove(r.Context())
	if !ok {
		return nil, problemf(http.StatusConflict, CodeConflict, "another selftest is under way: try again when it has ended")
	}
	return p, nil
}

// Prove has the gateway prove itself.
func (c *Client) Prove(ctx context.Context) (p Proof, err error) {
	return p, c.call(ctx, http.MethodPost, "/v1/selftest", nil, nil, &p)
}
