package config

import (
	"errors"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// place is a position in the file, both from 1; columns count octets.
type place struct{ line, col int }

var top = place{1, 1}

// value is a TOML value and where it stands. A table or an array stands
// where its key does.
type value struct {
	at      place
	kind    unstable.Kind // of a scalar, Array, or Table for every kind of table
	text    string        // of a scalar, without the quotes of a string
	items   []*value      // of an array
	entries []*entry      // of a table, in the file's order
	byName  map[string]*entry
	closed  bool // a table that has had its own header or braces
	tables  bool // an array that grows by [[headers]]
}

type entry struct {
	name  string
	at    place
	value *value
}

func (v *value) find(name string) *entry { return v.byName[name] }

func (v *value) put(e *entry) {
	if v.byName == nil {
		v.byName = map[string]*entry{}
	}
	v.entries = append(v.entries, e)
	v.byName[e.name] = e
}

// tree is the file with positions. go-toml's own decoder stops at the first
// fault and knows no position of a sound value, hence the walk over its
// parser.
type tree struct {
	parser unstable.Parser
	lines  []int // offsets of their beginnings
	root   *value
	faults []Fault // the syntax's
	file   string
}

// readTree reads as much as the syntax allows. After a fault the tree holds
// what stands before it, or leaves out what contradicts it.
func readTree(file string, data []byte) *tree {
	t := &tree{file: file, lines: []int{0}, root: &value{at: top, kind: unstable.Table}}
	for i, c := range data {
		if c == '\n' {
			t.lines = append(t.lines, i+1)
		}
	}
	t.parser.Reset(data)
	table, path := t.root, ""
	for t.parser.NextExpression() {
		e := t.parser.Expression()
		switch e.Kind {
		case unstable.Table, unstable.ArrayTable:
			table, path = t.header(e), dotted("", t.key(e))
		case unstable.KeyValue:
			if table != nil {
				t.keyValue(table, path, e)
			}
		}
	}
	t.judge(data)
	return t
}

// judge asks the library whether the document is sound: besides the syntax it
// knows TOML's rules for keys defined twice. It stops at its first fault, so
// what the walk has found is not said again.
func (t *tree) judge(data []byte) {
	var all map[string]any
	err := toml.Unmarshal(data, &all)
	if err == nil {
		return
	}
	at, text := top, strings.TrimPrefix(err.Error(), "toml: ")
	var d *toml.DecodeError
	if errors.As(err, &d) {
		at.line, at.col = d.Position()
	}
	if slices.ContainsFunc(t.faults, func(f Fault) bool { return f.Line == at.line }) {
		return
	}
	t.fault(at, "", text+", want TOML 1.0")
}

func (t *tree) fault(at place, key, text string) {
	t.faults = append(t.faults, Fault{File: t.file, Line: at.line, Col: at.col, Key: key, Text: text})
}

func (t *tree) place(r unstable.Range) place {
	offset := int(r.Offset)
	line := sort.SearchInts(t.lines, offset+1)
	return place{line, offset - t.lines[line-1] + 1}
}

type part struct {
	name string
	at   place
}

func (t *tree) key(n *unstable.Node) []part {
	var parts []part
	for k := n.Key(); k.Next(); {
		parts = append(parts, part{string(k.Node().Data), t.place(k.Node().Raw)})
	}
	return parts
}

// header opens the table of a [header] or [[header]]; nil if it cannot.
func (t *tree) header(n *unstable.Node) *value {
	key := t.key(n)
	at := key[0].at
	table := t.descend(t.root, key[:len(key)-1], at)
	if table == nil {
		return nil
	}
	last := key[len(key)-1]
	e := table.find(last.name)
	if n.Kind == unstable.ArrayTable {
		if e != nil && !e.value.tables {
			t.twice(at, dotted("", key), e)
			return nil
		}
		return appendTable(table, e, last.name, at)
	}
	if e == nil {
		v := &value{at: at, kind: unstable.Table, closed: true}
		table.put(&entry{last.name, at, v})
		return v
	}
	if e.value.kind != unstable.Table || e.value.closed {
		t.twice(at, dotted("", key), e)
		return nil
	}
	e.value.at, e.value.closed = at, true
	return e.value
}

func appendTable(table *value, e *entry, name string, at place) *value {
	if e == nil {
		e = &entry{name, at, &value{at: at, kind: unstable.Array, tables: true}}
		table.put(e)
	}
	v := &value{at: at, kind: unstable.Table, closed: true}
	e.value.items = append(e.value.items, v)
	return v
}

// descend walks down a dotted key and makes the tables that are not there; of
// an array of tables it takes the last one. It is nil where a key of the path
// has another value; judge says so.
func (t *tree) descend(v *value, key []part, at place) *value {
	for _, p := range key {
		e := v.find(p.name)
		if e == nil {
			e = &entry{p.name, at, &value{at: at, kind: unstable.Table}}
			v.put(e)
		}
		v = e.value
		if v.tables {
			v = v.items[len(v.items)-1]
		}
		if v.kind != unstable.Table {
			return nil
		}
	}
	return v
}

// keyValue adds key = value to a table; path is the table's.
func (t *tree) keyValue(table *value, path string, n *unstable.Node) {
	key := t.key(n)
	at, last := key[0].at, key[len(key)-1]
	path = dotted(path, key)
	if table = t.descend(table, key[:len(key)-1], at); table == nil {
		return
	}
	if e := table.find(last.name); e != nil {
		t.twice(at, path, e)
		return
	}
	table.put(&entry{last.name, at, t.value(n.Value(), path, at)})
}

func (t *tree) twice(at place, path string, first *entry) {
	t.fault(at, path, fmt.Sprintf("defined twice, first at line %d, want it once", first.at.line))
}

// dotted is a key of the table path as a fault shows it.
func dotted(path string, key []part) string {
	if len(path) > maxPath {
		return path
	}
	var b strings.Builder
	b.WriteString(path)
	for _, p := range key {
		if b.Len() > maxPath {
			return b.String() + "…"
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		b.WriteString(printable(p.name))
	}
	return b.String()
}

// maxPath bounds a key in a fault, in octets.
const maxPath = 256

// value copies a value out of the parser, whose nodes do not outlive the
// expression. at is for the kinds that the parser gives no position to.
func (t *tree) value(n *unstable.Node, path string, at place) *value {
	switch n.Kind {
	case unstable.Array:
		v := &value{at: at, kind: unstable.Array}
		for c := n.Children(); c.Next(); {
			v.items = append(v.items, t.value(c.Node(), path, at))
		}
		return v
	case unstable.InlineTable:
		v := &value{at: at, kind: unstable.Table, closed: true}
		for c := n.Children(); c.Next(); {
			t.keyValue(v, path, c.Node())
		}
		return v
	}
	return &value{at: t.place(n.Raw), kind: n.Kind, text: string(n.Data)}
}
