package registry

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"shunt/store"
)

var update = flag.Bool("update", false, "write testdata/v1.backup anew; only a program that writes schema 1 may")

// v1 is a registry as the first version wrote it.
const v1 = "testdata/v1.backup"

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// What schema 1 wrote is read for ever after, or this test says that it is not.
func TestReadsSchema1(t *testing.T) {
	if *update {
		if SchemaVersion != 1 {
			t.Fatalf("this program writes schema %d", SchemaVersion)
		}
		at := time.Date(2026, 11, 26, 12, 0, 0, 1, time.UTC)
		r := start(t, Options{Now: func() time.Time { return at }})
		p := samplePut(testNumber, "phone")
		p.Bearer, p.Sandbox = "a-bearer-of-schema-1", true
		mustPut(t, r, p)
		p = Put{Number: testNumber, App: "news", Platform: FCM, Token: "another-token", Device: "tablet", Bearer: "another-bearer-of-schema-1"}
		mustPut(t, r, p)
		p.Number, p.Bearer, p.Active = testNumber+1, "a-third-bearer-of-schema-1", true
		mustPut(t, r, p)
		var b bytes.Buffer
		if err := r.Backup(&b); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(v1, b.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := os.Open(v1)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dir := filepath.Join(t.TempDir(), "reg")
	if n, err := Restore(dir, f, nil, discard()); n != 2 || err != nil {
		t.Fatalf("Restore = %d, %v, want 2 numbers", n, err)
	}
	r := start(t, Options{Dir: dir})
	if got, want := r.Count(), (Count{Numbers: 2, Active: 2, Devices: 3}); got != want {
		t.Errorf("Count() = %+v, want %+v", got, want)
	}
	n, d, err := r.ByBearer("a-bearer-of-schema-1")
	if n != testNumber || d.ID != "phone" || d.App != "chat" || d.Platform != APNs || !d.Sandbox || !d.Active || d.Token != "token-phone" || err != nil {
		t.Errorf("ByBearer = %s %+v %v", n, d, err)
	}
	if e := r.Lookup(testNumber + 1); !e.Active() || r.AppName(e.App()) != "news" {
		t.Errorf("Lookup = active %v, app %q", e.Active(), r.AppName(e.App()))
	}
	mustPut(t, r, samplePut(testNumber+2, "new"))
	stop(t, r)
	if got := start(t, Options{Dir: dir}).Count().Numbers; got != 3 {
		t.Errorf("numbers after a put and a restart = %d, want 3", got)
	}
}

// A backup of a newer schema is refused.
func TestRestoreRefusesNewer(t *testing.T) {
	db, err := store.Open(t.TempDir(), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	key, value := store.SchemaRecord(schemaKind, SchemaVersion+1)
	var b bytes.Buffer
	err = db.Update(func(txn *badger.Txn) error { return txn.Set(key, value) })
	if err == nil {
		_, err = db.Backup(&b, 0)
	}
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := Restore(filepath.Join(t.TempDir(), "reg"), &b, nil, discard()); !errors.Is(err, store.ErrSchema) {
		t.Errorf("Restore = %v, want %v", err, store.ErrSchema)
	}
}

// A backup of an encrypted registry is restored into one with another key, and
// one that breaks off is an error.
func TestBackupOfEncrypted(t *testing.T) {
	key, other := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 16)
	r := start(t, Options{Key: key})
	ps := make([]Put, 2000)
	for i := range ps {
		ps[i] = loadPut(i)
	}
	load(t, r, ps)
	var b bytes.Buffer
	if err := r.Backup(&b); err != nil {
		t.Fatal(err)
	}
	half := io.LimitReader(bytes.NewReader(b.Bytes()), int64(b.Len()/2))
	if n, err := Restore(filepath.Join(t.TempDir(), "reg"), half, other, discard()); err == nil {
		t.Errorf("Restore of half a backup = %d numbers, want an error", n)
	}
	dir := filepath.Join(t.TempDir(), "reg")
	if n, err := Restore(dir, &b, other, discard()); n != len(ps) || err != nil {
		t.Fatalf("Restore = %d, %v, want %d", n, err, len(ps))
	}
	if got := start(t, Options{Dir: dir, Key: other}).Count(); got != r.Count() {
		t.Errorf("Count() = %+v, want %+v", got, r.Count())
	}
}
