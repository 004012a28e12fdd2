package alarm

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"shunt/store"
)

const (
	maxRecent  = 100  // cleared alarms that are remembered
	maxTracked = 1000 // conditions that are followed at a time
	maxFile    = 4 << 20
)

// Options are what Open needs.
type Options struct {
	// File keeps what is raised over a restart, so that it can be cleared; ""
	// keeps nothing.
	File string
	Log  *slog.Logger
	// Changed is told of every raise and clear, in order. It must not block.
	Changed func(Alarm)
}

// Store holds alarms. It is safe for concurrent use; Observe is for one
// goroutine.
type Store struct {
	o     Options
	dirty chan struct{} // holds a token while File is behind

	mu      sync.Mutex
	tracked map[key]*tracked
	recent  []Alarm // cleared, the oldest first
	raised  uint64
}

type key struct{ name, subject string }

// tracked is a condition that holds, or an alarm whose condition may be gone.
type tracked struct {
	kind   *Kind
	alarm  Alarm
	raised bool
	gone   time.Time // since when the condition does not hold; zero: it does
}

// Open is a store that knows what was raised when the last run ended. It is
// told again, as nobody knows whether that came through.
func Open(o Options) *Store {
	s := &Store{o: o, dirty: make(chan struct{}, 1), tracked: make(map[key]*tracked)}
	for _, a := range s.load() {
		k, ok := kinds[a.Name]
		if !ok || len(s.tracked) >= maxTracked {
			continue
		}
		a.Severity, a.State, a.WhatToDo, a.ClearedAt = k.Severity, Raised, k.WhatToDo, time.Time{}
		s.tracked[key{a.Name, a.Subject}] = &tracked{kind: k, alarm: a, raised: true}
		s.told(a)
	}
	return s
}

func (s *Store) told(a Alarm) {
	if s.o.Changed != nil {
		s.o.Changed(a)
	}
}

// Observe takes all conditions that hold now, and raises and clears.
func (s *Store) Observe(now time.Time, holding []Condition) {
	s.mu.Lock()
	changed := s.observe(now, holding)
	s.mu.Unlock()
	for _, a := range changed {
		s.log(&a, now)
		s.told(a)
	}
	if len(changed) > 0 && s.o.File != "" {
		select {
		case s.dirty <- struct{}{}:
		default:
		}
	}
}

func (s *Store) observe(now time.Time, holding []Condition) (changed []Alarm) {
	holds := make(map[key]bool, len(holding))
	for _, c := range holding {
		k := key{c.Name, c.Subject}
		t := s.tracked[k]
		if t == nil {
			kind, ok := kinds[c.Name]
			if !ok || len(s.tracked) >= maxTracked {
				continue
			}
			t = &tracked{kind: kind, alarm: Alarm{
				Name: c.Name, Subject: c.Subject, Severity: kind.Severity, State: Raised, Since: now.UTC(), WhatToDo: kind.WhatToDo,
			}}
			s.tracked[k] = t
		}
		holds[k] = true
		t.gone, t.alarm.Text = time.Time{}, c.Text
		if !t.raised && now.Sub(t.alarm.Since) >= t.kind.RaiseAfter {
			t.raised = true
			s.raised++
			changed = append(changed, t.alarm)
		}
	}
	for k, t := range s.tracked {
		switch {
		case holds[k]:
			continue
		case !t.raised:
			delete(s.tracked, k)
			continue
		case t.gone.IsZero():
			t.gone = now
		}
		if now.Sub(t.gone) < t.kind.ClearAfter {
			continue
		}
		delete(s.tracked, k)
		t.alarm.State, t.alarm.ClearedAt = Cleared, now.UTC()
		changed = append(changed, t.alarm)
		s.recent = append(s.recent, t.alarm)
	}
	s.recent = s.recent[max(0, len(s.recent)-maxRecent):]
	slices.SortStableFunc(changed, compare) // a map has no order
	return changed
}

func compare(a, b Alarm) int {
	return cmp.Or(cmp.Compare(a.Severity, b.Severity), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Subject, b.Subject))
}

func (s *Store) log(a *Alarm, now time.Time) {
	switch {
	case a.State == Cleared:
		s.o.Log.Info("alarm cleared", "alarm", a.Name, "subject", a.Subject, "severity", string(a.Severity), "lasted", now.Sub(a.Since).Round(time.Second))
	case a.Severity == Critical:
		s.o.Log.Error("alarm raised", "alarm", a.Name, "subject", a.Subject, "severity", string(a.Severity), "text", a.Text, "what_to_do", a.WhatToDo)
	default:
		s.o.Log.Warn("alarm raised", "alarm", a.Name, "subject", a.Subject, "severity", string(a.Severity), "text", a.Text, "what_to_do", a.WhatToDo)
	}
}

// Raised are the alarms that are raised, the critical ones first.
func (s *Store) Raised() []Alarm {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := []Alarm{}
	for _, t := range s.tracked {
		if t.raised {
			all = append(all, t.alarm)
		}
	}
	slices.SortFunc(all, compare)
	return all
}

// Recent are those cleared lately in this run, the latest first.
func (s *Store) Recent() []Alarm {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := slices.Clone(s.recent)
	slices.Reverse(all)
	return all
}

// Total is how many were raised since the start.
func (s *Store) Total() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.raised
}

// Run keeps File until ctx is done. It is apart from Observe because a disk that
// stands still is one of the things to be told.
func (s *Store) Run(ctx context.Context) {
	failed := false
	for {
		select {
		case <-s.dirty:
		case <-ctx.Done():
			return
		}
		err := s.save()
		if err != nil && !failed {
			s.o.Log.Warn("alarms cannot be kept: what is raised now will not be cleared after a restart", "error", err)
		}
		failed = err != nil
	}
}

func (s *Store) save() error {
	b, err := json.Marshal(s.Raised())
	if err != nil {
		return err
	}
	return store.Replace(s.o.File, append(b, '\n'), 0o600)
}

// load reads File; what cannot be read was not raised.
func (s *Store) load() (all []Alarm) {
	if s.o.File == "" {
		return nil
	}
	st, err := os.Stat(s.o.File)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var b []byte
	if err == nil && st.Size() > maxFile {
		err = errors.New("it is too long")
	}
	if err == nil {
		b, err = os.ReadFile(s.o.File)
	}
	if err == nil {
		err = json.Unmarshal(b, &all)
	}
	if err != nil {
		s.o.Log.Warn("alarms of the run before cannot be read", "file", filepath.Base(s.o.File), "error", err)
		return nil
	}
	return all
}
