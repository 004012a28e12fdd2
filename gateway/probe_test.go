package gateway

import (
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"shunt/gateway/alarm"
)

// upstreamDown tells whether the node as it is now has that condition, and gives
// its conditions to a store of alarms as of then.
func (n *node) upstreamDown(s *alarm.Store, at time.Time) bool {
	all := conditions(n.g.observeNode(time.Now()))
	s.Observe(at, all)
	return slices.ContainsFunc(all, func(c alarm.Condition) bool { return c.Name == alarm.UpstreamDown })
}

// TestUpstreamDownWithoutESME: the SMSC goes and comes back, and nobody binds:
// the alarm is raised and cleared, with and without binds of Shunt's own there.
func TestUpstreamDownWithoutESME(t *testing.T) {
	for name, own := range map[string]bool{"own bind there": true, "nothing bound": false} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t, func(text string) string {
				text = strings.Replace(text, "[intercept]\n", "[intercept]\nprobe_every = \"1s\"\n", 1)
				if !own {
					text = strings.Replace(text, `divert = "on"`, `divert = "off"`, 1)
					text = strings.Replace(text, "fallback_smsc = \"smsc-a\"\n", "", 1)
				}
				return text
			}).run()
			alarms := alarm.Open(alarm.Options{File: filepath.Join(t.TempDir(), "alarms.json"), Log: n.g.log})
			now := time.Now()
			if own {
				n.until("own bind", n.g.own.Ready)
			}
			if n.upstreamDown(alarms, now) {
				t.Error("upstream-down while it is up")
			}
			addr := n.smsc.l.Addr().String()
			n.smsc.close()
			n.until("upstream-down", func() bool { return n.upstreamDown(alarms, now) })
			n.upstreamDown(alarms, now.Add(6*time.Second))
			if !slices.ContainsFunc(alarms.Raised(), func(a alarm.Alarm) bool {
				return a.Name == alarm.UpstreamDown && a.Subject == "smsc-a" && strings.Contains(a.Text, "refused")
			}) {
				t.Errorf("raised: %+v, want upstream-down of smsc-a", alarms.Raised())
			}

			l, err := net.Listen("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			n.smsc.l = l
			n.smsc.wg.Go(n.smsc.accept)
			n.until("no upstream-down", func() bool { return !n.upstreamDown(alarms, now.Add(7*time.Second)) })
			n.upstreamDown(alarms, now.Add(13*time.Second))
			if slices.ContainsFunc(alarms.Raised(), func(a alarm.Alarm) bool { return a.Name == alarm.UpstreamDown }) {
				t.Error("upstream-down is still raised")
			}
		})
	}
}
