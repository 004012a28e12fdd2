package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"shunt/gateway/noc"
)

// sparkWidth is how many values of each latency the screen keeps.
const sparkWidth = 30

// history is how long things took at the latest snapshots, in seconds: commits,
// and of the answers of each leg 99 of 100.
type history map[string][]float64

const commits = "commit"

// note adds what a snapshot says.
func (h history) note(st *noc.Status) {
	add := func(name string, v float64) {
		h[name] = append(h[name], v)
		h[name] = h[name][max(0, len(h[name])-sparkWidth):]
	}
	add(commits, st.Spool.CommitLast.Seconds())
	for i := range st.Answers {
		add(st.Answers[i].Leg, st.Answers[i].P99)
	}
}

// snapshot is the gateway at one moment, and the rates since the one before.
type snapshot struct {
	At       time.Time     `json:"at"`
	Status   noc.Status    `json:"status"`
	Sessions []noc.Session `json:"sessions"`
	Submits  float64       `json:"submits_per_second"`
	Diverted float64       `json:"diverted_per_second"`
	Share    float64       `json:"divert_ratio"` // of the submits since the start, 0 to 1
}

func (a *app) topCommand() *cobra.Command {
	var once bool
	every := time.Second
	c := &cobra.Command{
		Use:   "top",
		Short: "Watch the gateway on a full screen",
		Long: "Watch binds, rates, windows, the share that is diverted, the queue by state, push lanes and\n" +
			"the time that answers and commits take, on a full screen. q quits. --json writes a snapshot a line\n" +
			"until it is interrupted, --once one snapshot and ends; both need no terminal.",
		Example: "  shunt top\n  shunt top --once\n  shunt top --json --interval 5s",
		Args: func(c *cobra.Command, args []string) error {
			if every < 100*time.Millisecond || every > time.Hour {
				return usagef("--interval: want 100ms to 1h")
			}
			return noArgs(c, args)
		},
		RunE: func(c *cobra.Command, _ []string) error {
			return a.ask(func(n *noc.Client) error {
				take := func(last *snapshot) (snapshot, error) { return takeSnapshot(c, n, last) }
				if once || a.json {
					return a.stream(c, take, once, every)
				}
				return a.fullScreen(c, take, every)
			})
		},
	}
	c.Flags().BoolVar(&once, "once", false, "show one snapshot and end")
	c.Flags().DurationVar(&every, "interval", every, "time between two snapshots")
	return a.remote(c)
}

func takeSnapshot(c *cobra.Command, n *noc.Client, last *snapshot) (s snapshot, err error) {
	if s.Status, err = n.Status(c.Context()); err != nil {
		return s, err
	}
	if s.Sessions, err = n.Sessions(c.Context()); err != nil {
		return s, err
	}
	s.At = time.Now().UTC()
	now := &s.Status.Counters
	if now.SubmitsIn > 0 {
		s.Share = float64(now.Diverted) / float64(now.SubmitsIn)
	}
	if last != nil {
		was, took := &last.Status.Counters, s.At.Sub(last.At).Seconds()
		s.Submits, s.Diverted = rate(was.SubmitsIn, now.SubmitsIn, took), rate(was.Diverted, now.Diverted, took)
	}
	return s, nil
}

// rate is per second; 0 after a restart, when a counter is less than it was.
func rate(was, now uint64, seconds float64) float64 {
	if now < was || seconds <= 0 {
		return 0
	}
	return float64(now-was) / seconds
}

// stream writes snapshots for a script, or one.
func (a *app) stream(c *cobra.Command, take func(*snapshot) (snapshot, error), once bool, every time.Duration) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	var last *snapshot
	for {
		s, err := take(last)
		if err != nil {
			return err
		}
		last = &s
		if a.json {
			err = json.NewEncoder(a.out).Encode(&s)
		} else {
			_, err = fmt.Fprintln(a.out, strings.TrimRight(screen(&s, nil, nil, 80, 1000), "\n"))
		}
		if err != nil {
			return fmt.Errorf("write the output: %w", err)
		}
		if err := a.flush(); err != nil || once {
			return err
		}
		select {
		case <-tick.C:
		case <-c.Context().Done():
			return nil
		}
	}
}

func (a *app) fullScreen(c *cobra.Command, take func(*snapshot) (snapshot, error), every time.Duration) error {
	in, ok := a.in.(*os.File)
	if !ok || !isTerminal(in) || a.terminal == nil || !isTerminal(a.terminal) {
		return fmt.Errorf("top needs a terminal: use --once or --json")
	}
	first, err := take(nil)
	if err != nil {
		return err
	}
	m := &topModel{take: take, every: every, now: first, took: history{}, width: 80, height: 24}
	if _, err := tea.NewProgram(m, tea.WithContext(c.Context()), tea.WithInput(in), tea.WithOutput(a.terminal), tea.WithoutSignalHandler()).Run(); err != nil && c.Context().Err() == nil {
		return fmt.Errorf("terminal: %w", err)
	}
	return nil
}

func isTerminal(f *os.File) bool {
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}

// topModel is the screen. It belongs to the goroutine of the program; snapshots
// are taken by one other at a time.
type topModel struct {
	take          func(*snapshot) (snapshot, error)
	every         time.Duration
	now           snapshot
	took          history
	silent        error // why there is no newer snapshot
	width, height int
}

// taken is the message that a snapshot is there.
type taken struct {
	s   snapshot
	err error
}

func (m *topModel) Init() tea.Cmd { return m.next() }

func (m *topModel) next() tea.Cmd {
	last, take := m.now, m.take
	return tea.Tick(m.every, func(time.Time) tea.Msg {
		s, err := take(&last)
		return taken{s, err}
	})
}

func (m *topModel) Update(event tea.Msg) (tea.Model, tea.Cmd) {
	switch e := event.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = e.Width, e.Height
	case tea.KeyPressMsg:
		switch e.String() {
		case "q", "esc", "ctrl+c":
			return m, tea.Quit
		}
	case taken:
		if m.silent = e.err; e.err == nil { // else the next one may be there: gateways restart
			m.now = e.s
			m.took.note(&e.s.Status)
		}
		return m, m.next()
	}
	return m, nil
}

func (m *topModel) View() tea.View {
	v := tea.NewView(screen(&m.now, m.took, m.silent, m.width, m.height))
	v.AltScreen = true
	return v
}

// screen draws a snapshot into so many columns and lines. silent is why there is
// no newer one.
func screen(s *snapshot, took history, silent error, width, height int) string {
	st := &s.Status
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	state := "divert " + st.Divert
	if st.Drain {
		state += ", DRAINING"
	}
	line("shunt %s  %s  up %s  %s  (q quits)", st.Node, st.Version, age(s.At, st.Started), state)
	if silent != nil {
		line("NO ANSWER since %s: %s", stamp(s.At), printableText(silent.Error()))
	}
	if len(st.FailOpen) > 0 {
		line("FAIL OPEN %s", strings.Join(st.FailOpen, ", "))
	}
	line("submits  %.0f/s, diverted %.0f/s; %.1f %% of all diverted", s.Submits, s.Diverted, 100*s.Share)
	for i := range st.Answers {
		a := &st.Answers[i]
		line("answers  %-4s p50 %s, p99 %s %s", a.Leg, seconds(a.P50), seconds(a.P99), spark(took[a.Leg]))
	}
	line("binds    tx %d, rx %d, trx %d; upstream %d", st.Binds.Transmitter, st.Binds.Receiver, st.Binds.Transceiver, st.Binds.Upstream)
	for _, o := range st.Own {
		line("own      %s: %s, window %d %s", o.SMSC, o.State, o.Window, o.LastError)
	}
	line("queue    %d of %d: %s", st.Spool.LiveTotal, st.Spool.Max, counts(st.Spool.Live))
	for i := range st.Push {
		line("push     %s", pushLine(&st.Push[i]))
	}
	line("commit   last %s, slowest %s %s", st.Spool.CommitLast.Round(time.Microsecond), st.Spool.CommitMax.Round(time.Microsecond), spark(took[commits]))
	line("")
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	row(w, "SYSTEM_ID", "BIND", "PEER", "PDUS/S", "WIN IN", "WIN OUT", "AGE")
	for _, x := range s.Sessions {
		row(w, shortened(x.SystemID, 16), x.Bind, x.Peer, x.Rate, x.WindowIn, x.WindowOut, age(s.At, x.Since))
	}
	_ = w.Flush() // a strings.Builder takes everything
	lines := strings.Split(strings.TrimRight(b.String(), "\n"), "\n")
	if len(lines) > height {
		hidden := len(lines) - max(height-1, 0)
		lines = append(lines[:max(height-1, 0)], fmt.Sprintf("… %d more lines", hidden))
	}
	for i, l := range lines {
		if r := []rune(l); len(r) > width {
			lines[i] = string(r[:max(width, 0)])
		}
	}
	return strings.Join(lines, "\n")
}

// spark draws values from 0 to the largest.
func spark(values []float64) string {
	const bars = "▁▂▃▄▅▆▇█"
	most := 0.0
	for _, v := range values {
		most = max(most, v)
	}
	var b strings.Builder
	for _, v := range values {
		i := 0
		if most > 0 {
			i = int(v / most * 7)
		}
		b.WriteRune([]rune(bars)[i])
	}
	return b.String()
}
