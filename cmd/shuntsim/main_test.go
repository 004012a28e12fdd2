package main

import (
	"bytes"
	"strings"
	"testing"
)

// Every simulator is there, helps itself and shows an example of its own.
func TestHelp(t *testing.T) {
	for _, name := range []string{"smsc", "esme", "apns", "fcm", "handset", "demo"} {
		var out bytes.Buffer
		cmd := root()
		cmd.SetOut(&out)
		cmd.SetArgs([]string{name, "--help"})
		if err := cmd.Execute(); err != nil {
			t.Errorf("%s --help: %v", name, err)
		}
		if !strings.Contains(out.String(), "Examples:\n  shuntsim "+name) || !strings.Contains(out.String(), "--seed") {
			t.Errorf("%s --help lacks an example or --seed:\n%s", name, out.String())
		}
	}
}

func TestRefusals(t *testing.T) {
	for want, args := range map[string][]string{
		"unknown command":      {"hlr-not-yet"},
		"id":                   {"smsc", "--id", "octal"},
		"version":              {"esme", "--version", "2.0"},
		"progress":             {"esme", "--progress", "x"},
		"are required":         {"handset"},
		"the gateway's binary": {"demo", "--shunt", "/nonexistent/shunt"},
	} {
		cmd := root()
		cmd.SetOut(&bytes.Buffer{})
		cmd.SetErr(&bytes.Buffer{})
		cmd.SetArgs(args)
		if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("shuntsim %s: %v, want an error with %q", strings.Join(args, " "), err, want)
		}
	}
}
