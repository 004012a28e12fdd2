package provider

import (
	"context"
	"encoding/json"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// Flags are the command-line flags of both simulators.
type Flags struct {
	Options
	addrFile string
	latency  time.Duration
	outcomes []string
}

// Add defines the flags on cmd.
func (f *Flags) Add(cmd *cobra.Command) {
	s := cmd.Flags()
	s.StringVar(&f.Listen, "listen", "127.0.0.1:0", "TLS `address` to serve on; port 0 chooses one")
	s.StringVar(&f.Control, "control", "127.0.0.1:0", "loopback `address` of the control listener (GET /pushes, GET /stats, POST /outcome, POST /disconnect)")
	s.StringVar(&f.PKI, "pki", "", "`directory` of the CA and the keys; made if it is missing (required)")
	s.StringVar(&f.addrFile, "addr-file", "", "write the chosen addresses to `file` as JSON")
	s.DurationVar(&f.latency, "latency", 0, "answer each push after this `time`")
	s.StringArrayVar(&f.outcomes, "outcome", nil, "`TOKEN=STATUS[:REASON[:RETRY_AFTER]]` or TOKEN=freeze; TOKEN may end in *; repeatable, the first match wins")
	s.Float64Var(&f.Behaviour.ErrorRate, "error-rate", 0, "`share` of pushes, 0 to 1, that end in an internal error")
	s.Float64Var(&f.Behaviour.ThrottleRate, "throttle-rate", 0, "`share` of pushes, 0 to 1, that are throttled (429)")
	s.IntVar(&f.Behaviour.RetryAfter, "retry-after", 1, "`seconds` to ask for with errors and throttling; 0 = do not ask")
	s.BoolVar(&f.Behaviour.Frozen, "frozen", false, "take requests and never answer")
	s.IntVar(&f.MaxStreams, "max-streams", 0, "HTTP/2 `streams` on a connection (default 250)")
	s.Uint64Var(&f.Seed, "seed", 1, "`number` that makes the rates repeatable")
	_ = cmd.MarkFlagRequired("pki")
}

// Finish turns the flags into Options.
func (f *Flags) Finish() (Options, error) {
	o := f.Options
	o.Behaviour.Latency = Duration(f.latency)
	for _, s := range f.outcomes {
		r, err := ParseRule(s)
		if err != nil {
			return Options{}, err
		}
		o.Behaviour.Rules = append(o.Behaviour.Rules, r)
	}
	return o, nil
}

// Simulator is what Run runs.
type Simulator interface {
	Start(context.Context) error
	Info() Info
	Stats() Stats
	Close() error
}

// Info is what --addr-file holds.
type Info struct {
	Addr    string `json:"addr"`     // host:port of the provider
	Control string `json:"control"`  // host:port of the control listener
	URL     string `json:"url"`      // for the gateway's endpoint
	CAFile  string `json:"ca_file"`  // for the gateway's ca_file
	KeyFile string `json:"key_file"` // APNs key or service account
}

// Run serves until SIGINT, SIGTERM or the end of cmd's context, and then
// prints the counters as JSON.
func (f *Flags) Run(cmd *cobra.Command, sim Simulator) (err error) {
	parent := cmd.Context()
	if parent == nil {
		parent = context.Background()
	}
	ctx, stop := signal.NotifyContext(parent, os.Interrupt, syscall.SIGTERM)
	defer stop()
	defer func() {
		if e := sim.Close(); err == nil {
			err = e
		}
	}()
	if err := sim.Start(ctx); err != nil {
		return err
	}
	info := sim.Info()
	if f.addrFile != "" {
		if err := writeInfo(f.addrFile, info); err != nil {
			return err
		}
	}
	cmd.PrintErrf("serving %s, control http://%s, CA %s\n", info.URL, info.Control, info.CAFile)
	<-ctx.Done()
	enc := json.NewEncoder(cmd.OutOrStdout())
	enc.SetIndent("", "  ")
	return enc.Encode(sim.Stats())
}

// writeInfo puts the whole file in place at once: somebody waits for it.
func writeInfo(file string, info Info) error {
	b, err := json.MarshalIndent(info, "", "  ")
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*")
	if err != nil {
		return err
	}
	_, err = tmp.Write(append(b, '\n'))
	if e := tmp.Chmod(0o644); err == nil {
		err = e
	}
	if e := tmp.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(tmp.Name(), file)
	}
	if err != nil {
		_ = os.Remove(tmp.Name())
	}
	return err
}
