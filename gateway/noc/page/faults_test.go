package page

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestFaultsShowOnlyWhatIsSafe(t *testing.T) {
	var out strings.Builder
	f := NewFaults(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelError}))
	log := slog.New(f).With("app", "chat", "token", "secret-token")
	log.Info("not a fault")
	log.Warn("own bind is down", "smsc", "smsc-own", "text", "Your code is 4711", "number", "+447700900042",
		"error", fmt.Errorf("dial +447700900042: %w", syscall.ECONNREFUSED))
	log.Error("x 447700900042", "reason", strings.Repeat("ab12", 10), "error", errors.New("code 4711 to 447700900042"))
	log.WithGroup("g").Error("in a group", "reason", "4711")
	log.Error("bind refused", "error", errors.New(`bind as "447700900042" refused: ESME_RBINDFAIL`))
	slog.New(f).Error(`badger: key "447700900042" is bad`)

	last := f.Last()
	if len(last) != 5 {
		t.Fatalf("kept %d, want 5: %+v", len(last), last)
	}
	for i, want := range []string{
		"badger: see the log|", "bind refused|app=chat error=ESME_RBINDFAIL", "in a group|app=chat",
		"x 44770••••0042|app=chat reason=••• error=see the log", "own bind is down|app=chat smsc=smsc-own error=connection refused",
	} {
		if got := last[i].Message + "|" + last[i].Attrs; got != want {
			t.Errorf("fault %d = %q, want %q", i, got, want)
		}
	}
	for _, secret := range []string{"4711", "447700900042", "secret", "ab12ab12"} {
		if all := fmt.Sprintf("%+v", last); strings.Contains(all, secret) {
			t.Errorf("%s is in %s", secret, all)
		}
	}
	if s := out.String(); strings.Contains(s, "own bind is down") || !strings.Contains(s, "token=secret-token") {
		t.Errorf("the log behind it = %s, want errors as they are, and no warnings", s)
	}
}

func TestFaultsAreARing(t *testing.T) {
	f := NewFaults(slog.DiscardHandler)
	log := slog.New(f)
	for i := range 3 * maxFaults {
		log.Warn("w", "reason", fmt.Sprint(i))
	}
	for range 4 {
		log.Warn("again", "reason", "same")
	}
	last := f.Last()
	if len(last) != maxFaults || last[0].Message != "again" || last[0].Times != 4 || last[1].Attrs != "reason=149" {
		t.Errorf("kept %d, the last %+v and %+v", len(last), last[0], last[1])
	}
}

// TestMessagesOfTheLogAreConstants: what the page shows of a line as it is must
// not be made of anything that passes through.
func TestMessagesOfTheLogAreConstants(t *testing.T) {
	seen := 0
	for _, dir := range []string{"gateway", "smpp", "push", "store", "systemd"} {
		err := filepath.WalkDir(filepath.Join("../../..", dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			n, err := messages(t, path)
			seen += n
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if seen < 50 {
		t.Errorf("found %d lines that are logged, want the whole tree's", seen)
	}
}

func messages(t *testing.T, path string) (n int, err error) {
	files := token.NewFileSet()
	f, err := parser.ParseFile(files, path, nil, 0)
	if err != nil {
		return 0, err
	}
	ast.Inspect(f, func(node ast.Node) bool {
		call, ok := node.(*ast.CallExpr)
		if !ok || len(call.Args) == 0 {
			return true
		}
		sel, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || sel.Sel.Name != "Warn" && sel.Sel.Name != "Error" {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); ok && x.Name == "http" {
			return true // an answer
		}
		n++
		switch arg := call.Args[0].(type) {
		case *ast.BasicLit:
		case *ast.Ident: // a parameter, whose callers are few; see said
			if arg.Name != "what" {
				t.Errorf("%s: the message is no constant", files.Position(call.Pos()))
			}
		default:
			if !strings.HasSuffix(path, "store/store.go") { // Badger's own words, which are not shown
				t.Errorf("%s: the message is no constant", files.Position(call.Pos()))
			}
		}
		return true
	})
	return n, nil
}
