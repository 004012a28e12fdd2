// Package layout holds the tests of the tree itself: which way imports point,
// and who may use what.
package layout

import (
	"bytes"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// levels are the packages by level: imports point down only, and packages of
// one level do not import each other (docs/architecture.md). A package counts
// for everything below its path.
var levels = [][]string{
	0: {"gateway/msg", "smpp/pdu"},
	1: {"smpp/coding", "push", "store", "gateway/number"},
	2: {"gateway/route", "gateway/letter", "gateway/listen", "gateway/config", "gateway/alarm", "gateway/audit", "smpp", "push/apns", "push/fcm", "store/registry", "store/spool", "systemd"},
	3: {"gateway/prove", "gateway/presence", "gateway/external", "gateway/otel"},
	4: {"gateway/api", "gateway/noc", "gateway/dispatch", "gateway/upstream", "gateway/receipt"},
	5: {"gateway"},
	6: {"test"},
	7: {"cmd"},
}

// fixtures are test fixtures, which may stand beside what they test.
var fixtures = []string{"smpp/smpptest"}

// only names who may import a module.
var only = map[string][]string{
	"github.com/dgraph-io/badger/v4":  {"store", "store/registry", "store/spool"},
	"github.com/sideshow/apns2":       {"push/apns"},
	"firebase.google.com/go/v4":       {"push/fcm"},
	"github.com/nyaruka/phonenumbers": {"gateway/number"},
	"go.opentelemetry.io/otel":        {"gateway/otel"},
}

// pure packages read no clock's timers, socket or file.
var pure = []string{"smpp/pdu", "smpp/coding", "gateway/route", "gateway/letter", "gateway/msg", "gateway/number"}

type pkg struct {
	path    string // below the module
	imports []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	out, err := exec.Command("go", "list", "-f", "{{.ImportPath}} {{join .Imports \" \"}}", "shunt/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for line := range bytes.Lines(out) {
		f := strings.Fields(string(line))
		all = append(all, pkg{strings.TrimPrefix(f[0], "shunt/"), f[1:]})
	}
	if len(all) < 20 {
		t.Fatalf("go list found %d packages, want the whole tree", len(all))
	}
	return all
}

// levelOf is the level of the longest listed path that holds p.
func levelOf(p string) (level int, name string, ok bool) {
	for l, names := range levels {
		for _, n := range names {
			if (p == n || strings.HasPrefix(p, n+"/")) && len(n) > len(name) {
				level, name, ok = l, n, true
			}
		}
	}
	return level, name, ok
}

func TestImportsPointDown(t *testing.T) {
	for _, p := range packages(t) {
		if slices.Contains(fixtures, p.path) {
			continue
		}
		from, name, ok := levelOf(p.path)
		if !ok {
			t.Errorf("%s is on no level: put it into levels and docs/architecture.md", p.path)
			continue
		}
		for _, imp := range p.imports {
			below, isOurs := strings.CutPrefix(imp, "shunt/")
			if !isOurs {
				continue
			}
			to, toName, ok := levelOf(below)
			if !ok || to > from || to == from && toName != name {
				t.Errorf("%s (level %d) imports %s (level %d): imports point down only, siblings do not import each other", p.path, from, below, to)
			}
			if slices.Contains(fixtures, below) {
				t.Errorf("%s imports %s, which is for tests only", p.path, below)
			}
		}
	}
}

func TestModulesStayWhereTheyBelong(t *testing.T) {
	for _, p := range packages(t) {
		for _, imp := range p.imports {
			for module, users := range only {
				if (imp == module || strings.HasPrefix(imp, module+"/")) && !slices.Contains(users, p.path) {
					t.Errorf("%s imports %s: only %v may", p.path, imp, users)
				}
			}
		}
	}
}

func TestPurePackagesDoNoIO(t *testing.T) {
	for _, p := range packages(t) {
		if !slices.Contains(pure, p.path) {
			continue
		}
		for _, imp := range p.imports {
			switch imp {
			case "net", "net/http", "os", "os/exec", "log", "log/slog", "io/fs", "syscall":
				t.Errorf("%s imports %s: it is to read no socket, file or log", p.path, imp)
			}
		}
	}
}
