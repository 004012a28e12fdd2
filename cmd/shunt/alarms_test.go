package main

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"shunt/gateway/alarm"
)

func TestAlarms(t *testing.T) {
	r := newRig(t)
	if got := r.ok("alarms"); got != "no alarm is raised\n" {
		t.Errorf("alarms = %q, want that there is none", got)
	}
	now := time.Now()
	down := alarm.Condition{Name: alarm.OwnBindDown, Subject: "smsc-own", Text: "Shunt has no bind of its own at smsc-own: refused"}
	off := alarm.Condition{Name: alarm.MetricsOff, Text: "taken"}
	r.alarms.Observe(now.Add(-120*time.Second), []alarm.Condition{down, off})
	r.alarms.Observe(now.Add(-60*time.Second), []alarm.Condition{down})
	table := regexp.MustCompile(`^STATE +SEVERITY +ALARM +SUBJECT +SINCE +CLEARED +TEXT
raised +critical +own-bind-down +smsc-own +2m\S* +- +Shunt has no bind of its own at smsc-own: refused

own-bind-down: Check the SMSC.*
$`)
	if got := r.ok("alarms"); !table.MatchString(got) {
		t.Errorf("alarms =\n%swant\n%s", got, table)
	}
	if got := r.ok("alarms", "--all"); !regexp.MustCompile(`\ncleared +warning +metrics-off +- +2m\S* +1m\S* +taken\n`).MatchString(got) {
		t.Errorf("alarms --all =\n%swant metrics-off in it, cleared", got)
	}
	var b struct{ Alarms []alarm.Alarm }
	decode(t, r.ok("alarms", "--json"), &b)
	if len(b.Alarms) != 1 || b.Alarms[0].Name != alarm.OwnBindDown || b.Alarms[0].State != alarm.Raised || b.Alarms[0].WhatToDo == "" {
		t.Errorf("alarms --json = %+v, want own-bind-down", b.Alarms)
	}
	decode(t, r.ok("alarms", "--json", "--all"), &b)
	if len(b.Alarms) != 2 || b.Alarms[1].State != alarm.Cleared || b.Alarms[1].ClearedAt.IsZero() {
		t.Errorf("alarms --json --all = %+v, want two, the second cleared", b.Alarms)
	}
	r.gateway.status.Alarms = r.alarms.Raised()
	if got := r.ok("status"); !strings.Contains(got, "alarms") || !strings.Contains(got, "critical: own-bind-down, for 2m") {
		t.Errorf("status =\n%swant the alarm in it", got)
	}
}
