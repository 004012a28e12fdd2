package gateway

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"shunt/gateway/alarm"
	"shunt/gateway/audit"
	"shunt/gateway/noc"
)

// TestHangupIsAudited: a reload by a signal is in the chain like one by command,
// and with a chain that was cut off neither is obeyed: that is an alarm, and
// diversion can be stopped all the same.
func TestHangupIsAudited(t *testing.T) {
	n := newNode(t, nil).run()
	c := noc.New(n.g.cfg.NOC.Socket)
	defer c.Close()
	n.g.Hangup()
	if _, err := c.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.edit(`divert_from = ["*"]`, `divert_from = ["*"]`+"\nshare = 101")
	n.g.Hangup()
	all, err := c.AuditLines(t.Context(), 10)
	if err != nil || len(all) != 6 {
		t.Fatalf("AuditLines() = %+v, %v, want 6 lines", all, err)
	}
	for i, want := range []struct {
		uid            int
		detail, result string
	}{
		{-1, "SIGHUP", "begun"},
		{-1, "SIGHUP", "done"},
		{os.Getuid(), "", "begun"},
		{os.Getuid(), "", "done"},
		{-1, "SIGHUP", "begun"},
		{-1, "SIGHUP", "refused: invalid-request"},
	} {
		if e := all[i]; e.UID != want.uid || e.Detail != want.detail || e.Result != want.result || e.Action != "reload" {
			t.Errorf("line %d = %+v, want %+v", i+1, e, want)
		}
	}
	file := filepath.Join(n.g.cfg.Node.DataDir, "audit", audit.FileName)
	if err := os.Truncate(file, 0); err != nil {
		t.Fatal(err)
	}
	n.edit("share = 101", "share = 99")
	n.g.Hangup()
	if got := n.g.policy().Share; got != 100 {
		t.Errorf("share = %d after a reload that could not be recorded, want 100", got)
	}
	if _, err := c.SetDivert(t.Context(), "shadow"); err == nil || !strings.Contains(err.Error(), "audit cannot be written") {
		t.Errorf("SetDivert(shadow) = %v, want it refused", err)
	}
	n.until("the alarm is raised", func() bool {
		for _, a := range n.g.alarms.Raised() {
			if a.Name == alarm.AuditFailing && strings.Contains(a.Text, "changed by somebody else") {
				return true
			}
		}
		return false
	})
	if mode, err := c.SetDivert(t.Context(), "off"); err != nil || mode != "off" {
		t.Errorf("SetDivert(off) = %s, %v, want it obeyed", mode, err)
	}
}
