package main

import (
	"fmt"
	"net"
	"os"
	"time"
)

// idle is what binds cost that nothing passes on.
type idle struct {
	Binds  int     `json:"binds"`
	Before float64 `json:"rss_anon_mb_without"`
	After  float64 `json:"rss_anon_mb_with"`
}

const idleBinds = 1000

// idle binds a thousand ESMEs, each with its upstream bind, and waits until the
// gateway's memory has come to rest.
func (b *bench) idle(all *results) error {
	fmt.Fprintf(os.Stderr, "%d idle binds\n", idleBinds)
	g, err := startGateway(b.dir, b.shunt, 0, b.sink)
	if err != nil {
		return err
	}
	defer g.stop()
	r := &idle{Binds: idleBinds}
	if r.Before, err = g.anon(); err != nil {
		return err
	}
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			_ = c.Close()
		}
	}()
	for range idleBinds {
		c, err := bindClient(g.addr)
		if err != nil {
			return fmt.Errorf("bind %d: %w", len(conns)+1, err)
		}
		conns = append(conns, c)
	}
	time.Sleep(5 * time.Second) // whatever the binds left behind is collected or stays
	if r.After, err = g.anon(); err != nil {
		return err
	}
	all.Idle = r
	return nil
}
