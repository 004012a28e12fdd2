package gateway

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"sync/atomic"

	"shunt/gateway/config"
	"shunt/gateway/route"
	"shunt/store"
)

// modeFile is the switch for all diversion. What an operator set is kept in a
// file of its own, survives a restart, and goes before the configuration.
type modeFile struct {
	path string
	mu   sync.Mutex // one writer
	mode atomic.Uint32
}

func openMode(path string, start config.Divert) (*modeFile, error) {
	m := &modeFile{path: path}
	mode, _ := route.ParseMode(start.String())
	b, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("divert switch: %w", err)
	default:
		set, ok := route.ParseMode(strings.TrimSpace(string(b)))
		if !ok {
			return nil, fmt.Errorf("divert switch: %s holds neither on, shadow nor off: remove it, then set it with shunt divert", path)
		}
		mode = set
	}
	m.mode.Store(uint32(mode))
	return m, nil
}

func (m *modeFile) get() route.Mode { return route.Mode(m.mode.Load()) }

// set makes mode effective on the next message, and then durable: an operator
// who stops diversion is obeyed even where the disk is the trouble.
func (m *modeFile) set(mode route.Mode) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mode.Store(uint32(mode))
	if err := store.Replace(m.path, []byte(mode.String()+"\n"), 0o600); err != nil {
		return fmt.Errorf("divert is %s now, but will not survive a restart: %w", mode, err)
	}
	return nil
}
