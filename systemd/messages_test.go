package systemd

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// logged are the constant messages of all log calls of the product, each with
// the keys beside it.
func logged(t *testing.T) map[string]map[string]bool {
	t.Helper()
	all := make(map[string]map[string]bool)
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (path == "../test" || path == "../build" || d.Name() == "node_modules" || strings.HasPrefix(d.Name(), ".") && path != ".."):
			return filepath.SkipDir
		case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(f, func(n ast.Node) bool { return note(all, n) })
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	all[messageLost] = map[string]bool{"lines": true} // the handler's own
	return all
}

var logMethods = map[string]bool{"Debug": true, "Info": true, "Warn": true, "Error": true}

func note(all map[string]map[string]bool, n ast.Node) bool {
	call, ok := n.(*ast.CallExpr)
	if !ok || len(call.Args) == 0 {
		return true
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok || !logMethods[sel.Sel.Name] {
		return true
	}
	for i, arg := range call.Args {
		lit, ok := arg.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			continue
		}
		text, err := strconv.Unquote(lit.Value)
		if err != nil {
			continue
		}
		if i == 0 {
			if all[text] == nil {
				all[text] = make(map[string]bool)
			}
			continue
		}
		first, ok := call.Args[0].(*ast.BasicLit)
		if !ok {
			return true
		}
		message, _ := strconv.Unquote(first.Value)
		all[message][text] = true
	}
	return true
}

func TestEveryMessageIsLogged(t *testing.T) {
	used := logged(t)
	if len(used) < 80 {
		t.Fatalf("found %d log calls, want those of the whole product", len(used))
	}
	seen := make(map[string]string)
	for _, m := range Messages {
		if _, ok := used[m.Text]; !ok {
			t.Errorf("no log call says %q: the table is to say what the code does", m.Text)
		}
		if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(m.ID) {
			t.Errorf("MESSAGE_ID %q of %q: want 32 hexadecimal digits", m.ID, m.Text)
		}
		for _, k := range []string{m.ID, m.Text} {
			if other, twice := seen[k]; twice {
				t.Errorf("%q is of %q and of %q", k, other, m.Text)
			}
			seen[k] = m.Text
		}
	}
}

// catalogue reads the entries by their MESSAGE_ID.
func catalogue(t *testing.T) map[string]string {
	t.Helper()
	b, err := os.ReadFile("catalog/shunt.catalog")
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for _, e := range strings.Split("\n"+string(b), "\n-- ")[1:] {
		id, body, _ := strings.Cut(e, "\n")
		if _, twice := all[id]; twice {
			t.Errorf("catalogue entry %s is there twice", id)
		}
		all[id] = body
	}
	return all
}

func TestEveryMessageIsInTheCatalogue(t *testing.T) {
	entries, keys := catalogue(t), logged(t)
	for _, m := range Messages {
		body, ok := entries[m.ID]
		if !ok {
			t.Errorf("catalog/shunt.catalog has no entry for %s, %q", m.ID, m.Text)
			continue
		}
		delete(entries, m.ID)
		for _, want := range []string{"Subject: ", "Defined-By: Shunt\n", "\nWhat to do: "} {
			if !strings.Contains(body, want) {
				t.Errorf("the entry of %q lacks %q", m.Text, want)
			}
		}
		for _, f := range regexp.MustCompile(`@([A-Z_]+)@`).FindAllStringSubmatch(body, -1) {
			if !hasField(keys[m.Text], f[1]) {
				t.Errorf("the entry of %q names %s, which its log call does not give", m.Text, f[1])
			}
		}
	}
	for id, body := range entries {
		t.Errorf("catalogue entry %s is of no message:\n%s", id, body)
	}
}

// inherited are fields that a logger was given with With.
var inherited = map[string]bool{"SHUNT_APP": true, "SHUNT_PROVIDER": true, "SHUNT_ENDPOINT": true}

func hasField(keys map[string]bool, field string) bool {
	for k := range keys {
		if fieldOf(k) == field {
			return true
		}
	}
	return inherited[field]
}
