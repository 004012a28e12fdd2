package noc

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"shunt/gateway/alarm"
	"shunt/gateway/msg"
	"shunt/store/registry"
	"shunt/store/spool"
)

// countJSON is registry.Count under the names of the answers.
type countJSON struct {
	Numbers int `json:"numbers"`
	Active  int `json:"active"`
	Devices int `json:"devices"`
	Corrupt int `json:"corrupt"`

	External int `json:"external"`
}

// spoolJSON is spool.Stats under the names of the answers; times in seconds.
type spoolJSON struct {
	Live        map[msg.State]int    `json:"live"`
	LiveTotal   int                  `json:"live_total"`
	ReceiptsDue int                  `json:"receipts_due"`
	Queued      int                  `json:"queued"`
	Max         int                  `json:"max"`
	Puts        uint64               `json:"puts"`
	Events      uint64               `json:"events"`
	Replays     uint64               `json:"replays"`
	Refused     uint64               `json:"refused"`
	Superseded  uint64               `json:"superseded"`
	Full        uint64               `json:"full"`
	Finals      map[msg.State]uint64 `json:"finals"`
	Replies     int                  `json:"replies_waiting"`
	Delivered   uint64               `json:"replies_delivered"`
	Unwanted    uint64               `json:"replies_refused"`
	GivenUp     uint64               `json:"replies_given_up"`
	Commits     uint64               `json:"commits"`
	CommitTime  float64              `json:"commit_seconds"`
	CommitMax   float64              `json:"commit_max_seconds"`
	CommitLast  float64              `json:"commit_last_seconds"`
	Failures    uint64               `json:"failures"`
	Doubtful    int                  `json:"doubtful"`
	SetAside    uint64               `json:"set_aside"`
	LastError   string               `json:"last_error,omitempty"`
	LastErrorAt time.Time            `json:"last_error_at,omitzero"`
}

func spoolToJSON(s *spool.Stats) spoolJSON {
	j := spoolJSON{
		Live: s.Live, LiveTotal: s.LiveTotal, ReceiptsDue: s.ReceiptsDue, Queued: s.Queued, Max: s.Max,
		Puts: s.Puts, Events: s.Events, Replays: s.Replays, Refused: s.Refused, Superseded: s.Superseded, Full: s.Full,
		Replies: s.Replies, Delivered: s.RepliesDelivered, Unwanted: s.RepliesRefused, GivenUp: s.RepliesGivenUp,
		Finals: s.Finals, Commits: s.Commits,
		CommitTime: s.CommitTime.Seconds(), CommitMax: s.CommitMax.Seconds(), CommitLast: s.CommitLast.Seconds(),
		Failures: s.Failures, Doubtful: s.Doubtful, SetAside: s.SetAside, LastErrorAt: s.LastErrorAt,
	}
	if s.LastError != nil {
		j.LastError = s.LastError.Error()
	}
	return j
}

func (j *spoolJSON) stats() spool.Stats {
	s := spool.Stats{
		Live: j.Live, LiveTotal: j.LiveTotal, ReceiptsDue: j.ReceiptsDue, Queued: j.Queued, Max: j.Max,
		Puts: j.Puts, Events: j.Events, Replays: j.Replays, Refused: j.Refused, Superseded: j.Superseded, Full: j.Full,
		Replies: j.Replies, RepliesDelivered: j.Delivered, RepliesRefused: j.Unwanted, RepliesGivenUp: j.GivenUp,
		Finals: j.Finals, Commits: j.Commits,
		CommitTime: seconds(j.CommitTime), CommitMax: seconds(j.CommitMax), CommitLast: seconds(j.CommitLast),
		Failures: j.Failures, Doubtful: j.Doubtful, SetAside: j.SetAside, LastErrorAt: j.LastErrorAt,
	}
	if j.LastError != "" {
		s.LastError = errors.New(j.LastError)
	}
	return s
}

func seconds(s float64) time.Duration { return time.Duration(s*1e9 + 0.5) }

// plain is Status without its methods; the fields beside it in a statusJSON
// take the place of its own of the same name.
type plain Status

type statusJSON struct {
	plain
	Registered countJSON `json:"registered"`
	Spool      spoolJSON `json:"spool"`
}

// MarshalJSON writes the counts of registry and spool under names of the same
// style as the rest, and empty lists and maps as such.
func (s Status) MarshalJSON() ([]byte, error) {
	j := statusJSON{plain: plain(s), Registered: countJSON(s.Registered), Spool: spoolToJSON(&s.Spool)}
	j.Started = j.Started.UTC()
	for _, list := range []*[]string{&j.Listen, &j.API, &j.FailOpen} {
		if *list == nil {
			*list = []string{}
		}
	}
	if j.Push == nil {
		j.Push = []PushLane{}
	}
	if j.Alarms == nil {
		j.Alarms = []alarm.Alarm{}
	}
	if j.External == nil {
		j.External = []ExternalRegistry{}
	}
	if j.Answers == nil {
		j.Answers = []Answers{}
	}
	if j.Own == nil {
		j.Own = []OwnBind{}
	}
	for _, m := range []*map[string]uint64{&j.Counters.Reasons, &j.Counters.Pushes, &j.Counters.Edge} {
		if *m == nil {
			*m = map[string]uint64{}
		}
	}
	if j.Spool.Live == nil {
		j.Spool.Live = map[msg.State]int{}
	}
	if j.Spool.Finals == nil {
		j.Spool.Finals = map[msg.State]uint64{}
	}
	return json.Marshal(j)
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (s *Status) UnmarshalJSON(b []byte) error {
	var j statusJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return fmt.Errorf("status: %w", err)
	}
	*s = Status(j.plain)
	s.Registered, s.Spool = registry.Count(j.Registered), j.Spool.stats()
	return nil
}
