package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"
)

const (
	noEffect     = "has no effect in this version"
	notAvailable = "not available in this version"
)

// loader collects the faults of one file.
type loader struct {
	file   string
	faults []Fault
	broken bool // the syntax is: what seems to be missing may be what could not be read
}

func (l *loader) add(at place, key, text string, warning bool) {
	l.faults = append(l.faults, Fault{l.file, at.line, at.col, key, text, warning})
}

// missing is for faults about what is not in the file, or not in accord with
// something else in it.
func (l *loader) missing(at place, key, text string) {
	if !l.broken {
		l.add(at, key, text, false)
	}
}

// section reads one table: each key that it is asked for is known, and close
// reports the others.
type section struct {
	*loader
	name  string   // dotted, "" for the whole file
	table *value   // without entries if the file does not have the table
	known []string // keys asked for
	gone  []string // of these, the ones that are refused
}

func (s *section) path(key string) string {
	if s.name == "" {
		return key
	}
	return s.name + "." + key
}

func (s *section) fault(at place, key, format string, a ...any) {
	s.add(at, s.path(key), fmt.Sprintf(format, a...), false)
}

func (s *section) warn(at place, key, text string) { s.add(at, s.path(key), text, true) }

// take marks key as known and finds it; nil if it is not there.
func (s *section) take(key string) *entry {
	s.known = append(s.known, key)
	return s.table.find(key)
}

// where is the place of a key's value, or of the section without it.
func (s *section) where(key string) place {
	if e := s.table.find(key); e != nil {
		return e.value.at
	}
	return s.table.at
}

func (s *section) has(key string) bool { return s.table.find(key) != nil }

// close reports the keys that nobody asked for.
func (s *section) close() {
	want := slices.DeleteFunc(slices.Sorted(slices.Values(s.known)), func(key string) bool {
		return slices.Contains(s.gone, key)
	})
	for _, e := range s.table.entries {
		if !slices.Contains(s.known, e.name) {
			s.fault(e.at, printable(e.name), "unknown key, want one of %s", strings.Join(want, ", "))
		}
	}
}

// sub is a table inside of s; there tells whether the file has it.
func (s *section) sub(key string) (sub *section, there bool) {
	sub = &section{loader: s.loader, name: s.path(key), table: &value{at: s.table.at, kind: unstable.Table}}
	e := s.take(key)
	if e == nil {
		return sub, false
	}
	if e.value.kind != unstable.Table {
		s.fault(e.at, key, "is %s, want a table [%s]", kindName(e.value), s.path(key))
		return sub, false
	}
	sub.table = e.value
	return sub, true
}

// subs are the tables of an array of tables inside of s.
func (s *section) subs(key string) []*section {
	e := s.take(key)
	if e == nil {
		return nil
	}
	if e.value.kind != unstable.Array {
		s.fault(e.at, key, "is %s, want tables with double brackets [[%s]]", kindName(e.value), s.path(key))
		return nil
	}
	var subs []*section
	for _, v := range e.value.items {
		if v.kind != unstable.Table {
			s.fault(v.at, key, "holds %s, want tables [[%s]]", kindName(v), s.path(key))
			continue
		}
		subs = append(subs, &section{loader: s.loader, name: s.path(key), table: v})
	}
	return subs
}

// refuse is for keys that this version does not implement and whose silent
// absence would be unsafe.
func (s *section) refuse(keys ...string) {
	s.gone = append(s.gone, keys...)
	for _, key := range keys {
		if e := s.take(key); e != nil {
			s.fault(e.at, key, "%s, remove it", notAvailable)
		}
	}
}

// ignore is for keys that this version does not implement and that nobody
// will miss. Their values must be sound all the same.
func ignore[T any](s *section, key string, parse parser[T]) {
	before := len(s.faults)
	if e := s.take(key); e != nil {
		if read(s, e, parse, new(T)); len(s.faults) == before {
			s.warn(e.at, key, noEffect)
		}
	}
}

// parser turns a value into a T; its error says what is wrong with it and
// what is allowed.
type parser[T any] func(*value) (T, error)

// get is the value of a key, or dflt.
func get[T any](s *section, key string, dflt T, parse parser[T]) T {
	if e := s.take(key); e != nil {
		read(s, e, parse, &dflt)
	}
	return dflt
}

// must is the value of a key that has to be there; want says what it would be.
func must[T any](s *section, key, want string, parse parser[T]) (v T) {
	if e := s.take(key); e != nil {
		read(s, e, parse, &v)
		return v
	}
	s.missing(s.table.at, s.path(key), "missing, want "+want)
	return v
}

func read[T any](s *section, e *entry, parse parser[T], into *T) {
	v, err := parse(e.value)
	if err != nil {
		s.fault(e.value.at, e.name, "%s", err)
		return
	}
	*into = v
}

// list is the value of a key that holds an array of strings. Each string
// that check refuses is a fault of its own.
func list(s *section, key string, dflt []string, check func(string) error) []string {
	e := s.take(key)
	if e == nil {
		return dflt
	}
	if e.value.kind != unstable.Array {
		s.fault(e.value.at, key, "is %s, want a list of strings", kindName(e.value))
		return nil
	}
	all := make([]string, 0, len(e.value.items))
	for _, v := range e.value.items {
		text, err := str(check)(v)
		if err != nil {
			s.fault(v.at, key, "%s", err)
			continue
		}
		all = append(all, text)
	}
	return all
}

// items is the value of a key that holds an array; what says of what.
func items[T any](s *section, key, what string, parse parser[T]) (all []T) {
	e := s.take(key)
	if e == nil {
		return nil
	}
	if e.value.kind != unstable.Array {
		s.fault(e.value.at, key, "is %s, want a list of %s", kindName(e.value), what)
		return nil
	}
	for _, v := range e.value.items {
		x, err := parse(v)
		if err != nil {
			s.fault(v.at, key, "%s", err)
			continue
		}
		all = append(all, x)
	}
	return all
}

func kindName(v *value) string {
	switch v.kind {
	case unstable.Table:
		return "a table"
	case unstable.Array:
		return "a list"
	case unstable.String:
		return "a string"
	case unstable.Integer:
		return "an integer"
	case unstable.Bool:
		return "a boolean"
	case unstable.Float:
		return "a float"
	}
	return "a date or time"
}

func str(check func(string) error) parser[string] {
	return func(v *value) (string, error) {
		if v.kind != unstable.String {
			return "", fmt.Errorf("is %s, want a string", kindName(v))
		}
		return v.text, check(v.text)
	}
}

func boolean(v *value) (bool, error) {
	if v.kind != unstable.Bool {
		return false, fmt.Errorf("is %s, want true or false", kindName(v))
	}
	return v.text == "true", nil
}

func integer(least, most int) parser[int] {
	return func(v *value) (int, error) {
		if v.kind != unstable.Integer {
			return 0, fmt.Errorf("is %s, want an integer from %d to %d", kindName(v), least, most)
		}
		n, err := strconv.ParseInt(strings.ReplaceAll(v.text, "_", ""), 0, 64)
		if err != nil || n < int64(least) || n > int64(most) {
			return 0, fmt.Errorf("%s is out of range, want an integer from %d to %d", v.text, least, most)
		}
		return int(n), nil
	}
}

func duration(least, most time.Duration) parser[time.Duration] {
	return bounded(ParseDuration, least, most, showDuration)
}

func size(least, most Size) parser[Size] { return bounded(ParseSize, least, most, Size.String) }

func rate(least, most Rate) parser[Rate] { return bounded(ParseRate, least, most, Rate.String) }

// bounded reads a quantity that the file writes as a string.
func bounded[T ~int | ~int64](parse func(string) (T, error), least, most T, show func(T) string) parser[T] {
	return func(v *value) (T, error) {
		if v.kind != unstable.String {
			return 0, fmt.Errorf("is %s, want a string from %q to %q", kindName(v), show(least), show(most))
		}
		x, err := parse(v.text)
		if err != nil {
			return 0, err
		}
		if x < least || x > most {
			return 0, fmt.Errorf("%q is out of range, want from %q to %q", v.text, show(least), show(most))
		}
		return x, nil
	}
}

// oneOf reads one of the names of an enumeration whose values count from 0.
func oneOf[T ~uint8](names ...string) parser[T] {
	return func(v *value) (T, error) {
		i := slices.Index(names, v.text)
		if v.kind != unstable.String || i < 0 {
			return 0, fmt.Errorf("%s, want one of %s", quoteValue(v), quoteAll(names))
		}
		return T(i), nil
	}
}

// quoteValue shows a wrong value, if it is short enough to be shown.
func quoteValue(v *value) string {
	if v.kind == unstable.String {
		return quote(v.text) + " is not known"
	}
	return "is " + kindName(v)
}

func quote(s string) string {
	if r := []rune(s); len(r) > 64 {
		return strconv.QuoteToGraphic(string(r[:64])) + "…"
	}
	return strconv.QuoteToGraphic(s)
}

func quoteAll(names []string) string {
	q := make([]string, len(names))
	for i, n := range names {
		q[i] = quote(n)
	}
	return strings.Join(q, ", ")
}

// printable is a key as a fault shows it: bare if it could be written bare.
func printable(key string) string {
	if key == "" || len(key) > 64 || strings.ContainsFunc(key, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return quote(key)
	}
	return key
}

// secret reads the file that a *_file key names; want is "" if the key may be
// left out. check says what is unfit without repeating any of it.
func (s *section) secret(key, want string, check func(*Secret) error) (secret Secret) {
	e := s.take(key)
	if e == nil {
		if want != "" {
			s.missing(s.table.at, s.path(key), "missing, want "+want)
		}
		return secret
	}
	name, err := str(fileName)(e.value)
	if err != nil {
		s.fault(e.value.at, key, "%s", err)
		return secret
	}
	if secret, err = readSecret(s.file, name); err != nil {
		s.fault(e.value.at, key, "%s, want a readable file in $CREDENTIALS_DIRECTORY or relative to this one", err)
		return secret
	}
	if err = check(&secret); err != nil {
		s.fault(e.value.at, key, "%s: %s", secret.path, err)
	}
	return secret
}
