package demo

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"

	"shunt/test/sim/esme"
)

// progress is one bar for all ESMEs: half of it for the responses, half for
// the receipts. On anything but a terminal it is a plain line every two
// seconds. Its fields belong to mu.
type progress struct {
	mu    sync.Mutex
	w     io.Writer
	bar   *progressbar.ProgressBar
	total int
	parts map[string]esme.Progress
	said  time.Time
}

func newProgress(w io.Writer, terminal bool, total int) *progress {
	p := &progress{w: w, total: total, parts: map[string]esme.Progress{}, said: time.Now()}
	if terminal {
		p.bar = progressbar.NewOptions(2*total,
			progressbar.OptionSetWriter(w), progressbar.OptionSetDescription("messages and receipts"),
			progressbar.OptionSetWidth(40), progressbar.OptionThrottle(100*time.Millisecond), progressbar.OptionClearOnFinish())
	}
	return p
}

func (p *progress) update(name string, part esme.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.parts[name] = part
	var answered, open int
	for _, q := range p.parts {
		answered += q.Answered
		open += q.Open
	}
	switch {
	case p.bar != nil:
		_ = p.bar.Set(min(answered+max(answered-open, 0), 2*p.total-1))
	case time.Since(p.said) >= 2*time.Second:
		p.said = time.Now()
		_, _ = fmt.Fprintf(p.w, "  %d of %d messages answered, %d receipts to come\n", answered, p.total, open)
	}
}

func (p *progress) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.bar != nil {
		_ = p.bar.Finish()
	}
}
