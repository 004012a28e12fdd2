package noc

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"shunt/store/registry"
)

// BackupInfo is what a backup says of itself before its data.
type BackupInfo struct {
	Node    string    `json:"node"`
	Version string    `json:"version"` // the gateway's
	At      time.Time `json:"at"`
	Schema  uint32    `json:"schema"`
	Divert  string    `json:"divert"`  // the switch
	Numbers int       `json:"numbers"` // when it was begun; for progress
}

// backup answers with a line of BackupInfo and the registry.
func (s *Server) backup(w http.ResponseWriter, r *http.Request) (any, error) {
	if !s.o.Registry.Ready() {
		return nil, problemf(http.StatusServiceUnavailable, CodeUnavailable, "the registry's index is still loading: try again when `shunt registry count` says no more of it")
	}
	if err := s.begin(r, "", false); err != nil {
		return nil, err
	}
	st := s.o.Gateway.Status()
	info := BackupInfo{st.Node, st.Version, time.Now().UTC(), registry.SchemaVersion, s.o.Gateway.Divert(), s.o.Registry.Count().Numbers}
	line, err := json.Marshal(info)
	if err != nil {
		return nil, err
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	out := &patientWriter{w}
	_, err = out.Write(append(line, '\n'))
	if err == nil {
		err = s.o.Registry.Backup(out)
	}
	if err != nil { // the answer has begun: to break it off is the only way to say so
		s.o.Log.Error("control socket: backup failed", "error", err)
		panic(http.ErrAbortHandler)
	}
	deedOf(r).outcome = fmt.Sprintf("numbers=%d", info.Numbers)
	s.o.Log.Info("control socket: backup written", "numbers", info.Numbers)
	return streamed{}, nil
}

// patientWriter gives a long answer time from each write on.
type patientWriter struct{ w http.ResponseWriter }

func (p *patientWriter) Write(b []byte) (int, error) {
	answering(p.w, writeWithin)
	return p.w.Write(b)
}

// Backup writes the registry's backup to w and tells progress how many octets
// are there. An error means that w has not all of it.
func (c *Client) Backup(ctx context.Context, w io.Writer, progress func(octets int64)) (info BackupInfo, err error) {
	err = c.stream(ctx, http.MethodGet, "/v1/backup", nil, func(r *http.Response) error {
		b := bufio.NewReaderSize(r.Body, 1<<20)
		line, err := b.ReadSlice('\n') // of a megabyte at most
		if err == nil {
			err = json.Unmarshal(line, &info)
		}
		if err == nil {
			_, err = io.Copy(&counted{w: w, told: progress}, b)
		}
		if err != nil {
			return fmt.Errorf("control socket %s: the backup breaks off (%w): see the gateway's log", c.socket, plainCause(err))
		}
		return nil
	})
	return info, err
}
