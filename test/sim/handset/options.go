// Package handset simulates many phones with the app: it takes the pushes of
// the simulated providers and claims, acknowledges or ignores the messages.
package handset

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"strings"
	"time"
)

// Device is one phone with the app, as the gateway's registry knows it.
type Device struct {
	Number   string `json:"number"`
	App      string `json:"app"`
	Platform string `json:"platform"`
	Token    string `json:"token"`
	Device   string `json:"device"`
	Bearer   string `json:"bearer"`
	State    string `json:"state,omitempty"`
}

// Options are what the phones do. The shares are of messages, drawn by the id
// and the seed; what is left claims, acknowledges and is done.
type Options struct {
	API       string   // base URL of the gateway's API
	Pushes    []string // host:port of the providers' control listeners
	Devices   string   // NDJSON file
	ReadyFile string   // written when all pushes are subscribed to, if set
	Book      string
	Seed      uint64

	Offline  float64 // never claims
	Late     float64 // claims LateBy after the push expired
	NeverAck float64 // claims and never acknowledges
	Twice    float64 // claims a second time
	Sync     float64 // lists its messages before it claims
	Read     float64 // of the acknowledged: says that it was read

	ClaimDelay  time.Duration // mean time from push to claim
	AckDelay    time.Duration // mean time from claim to acknowledgement
	LateBy      time.Duration
	RetryFor    time.Duration // how long a call without a usable answer is repeated
	Concurrency int           // calls under way at a time
}

func (o *Options) check() error {
	if o.API == "" || len(o.Pushes) == 0 || o.Devices == "" {
		return errors.New("api, pushes and devices are required")
	}
	sum := 0.0
	for _, s := range []float64{o.Offline, o.Late, o.NeverAck, o.Twice, o.Sync} {
		if s < 0 {
			return errors.New("shares: want 0 or more")
		}
		sum += s
	}
	if sum > 1 || o.Read < 0 || o.Read > 1 {
		return errors.New("shares: offline, late, never-ack, twice and sync add up to more than 1, or read is not within 0 to 1")
	}
	if o.Concurrency <= 0 {
		o.Concurrency = 64
	}
	if o.RetryFor <= 0 {
		o.RetryFor = 30 * time.Second
	}
	if o.LateBy <= 0 {
		o.LateBy = 500 * time.Millisecond
	}
	o.API = strings.TrimSuffix(o.API, "/")
	return nil
}

// Summary counts what happened.
type Summary struct {
	Seed         uint64         `json:"seed"`
	Devices      int            `json:"devices"`
	Pushes       int            `json:"pushes"`
	Repeated     int            `json:"pushes_repeated"`
	UnknownToken int            `json:"pushes_unknown_token"`
	Resubscribed int            `json:"resubscribed"`
	Behaviours   map[string]int `json:"behaviours"`
	Claims       map[string]int `json:"claims"` // by HTTP status; "0": no answer
	LateWon      int            `json:"late_claims_won"`
	Delivered    int            `json:"delivered"`
	Read         int            `json:"read"`
	Replays      int            `json:"replays"`
	Retries      int            `json:"retries"`
	Faults       int            `json:"faults"`
	Overload     int            `json:"overload"` // pushes that were not handled
}

// readDevices reads the NDJSON file, keyed by token.
func readDevices(path string) (map[string]*Device, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("devices: %w", err)
	}
	defer func() { _ = f.Close() }()
	all := map[string]*Device{}
	sc := bufio.NewScanner(f)
	for n := 1; sc.Scan(); n++ {
		var d Device
		if err := json.Unmarshal(sc.Bytes(), &d); err != nil {
			return nil, fmt.Errorf("devices %s:%d: %w", path, n, err)
		}
		if d.Token == "" || d.Bearer == "" {
			return nil, fmt.Errorf("devices %s:%d: token or bearer is missing", path, n)
		}
		d.Number = strings.TrimPrefix(d.Number, "+")
		all[d.Token] = &d
	}
	return all, sc.Err()
}

// Behaviours, as they stand in the book.
const (
	claims   = "claims"
	offline  = "offline"
	late     = "late"
	neverAck = "never-ack"
	twice    = "twice"
	syncs    = "sync"
)

// draw is a number in [0,1) that hangs on the seed, the id and the purpose.
func draw(seed uint64, id, purpose string) float64 {
	h := fnv.New64a()
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], seed)
	_, _ = h.Write(b[:])
	_, _ = h.Write([]byte(purpose))
	_, _ = h.Write([]byte(id))
	x := h.Sum64() // FNV's high bits are weak on short input: mix (MurmurHash3's finalizer)
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
	return float64((x^x>>33)>>11) / (1 << 53)
}

func (o *Options) behaviour(id string) string {
	x := draw(o.Seed, id, "behaviour")
	for _, b := range []struct {
		name  string
		share float64
	}{{offline, o.Offline}, {late, o.Late}, {neverAck, o.NeverAck}, {twice, o.Twice}, {syncs, o.Sync}} {
		if x < b.share {
			return b.name
		}
		x -= b.share
	}
	return claims
}

// delay spreads a mean over half to one and a half of it.
func (o *Options) delay(mean time.Duration, id, purpose string) time.Duration {
	return time.Duration(float64(mean) * (0.5 + draw(o.Seed, id, purpose)))
}
