package store

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dgraph-io/badger/v4"
)

const childDir = "STORE_TEST_CHILD_DIR"

// TestMain is also the second process of TestOpenInUse.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		db, err := Open(dir, Options{})
		if err == nil {
			err = db.Close()
		}
		fmt.Printf("in use %v\n%v\n", errors.Is(err, ErrInUse), err)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func mustOpen(t *testing.T, dir string, o Options) *badger.DB {
	t.Helper()
	db, err := Open(dir, o)
	if err != nil {
		t.Fatalf("Open(%s) = %v", dir, err)
	}
	return db
}

func mustClose(t *testing.T, db *badger.DB) {
	t.Helper()
	if err := db.Close(); err != nil {
		t.Fatalf("Close() = %v", err)
	}
}

func set(t *testing.T, db *badger.DB, key, value string) {
	t.Helper()
	err := db.Update(func(txn *badger.Txn) error { return txn.Set([]byte(key), []byte(value)) })
	if err != nil {
		t.Fatalf("set %s: %v", key, err)
	}
}

func get(t *testing.T, db *badger.DB, key string) string {
	t.Helper()
	var v []byte
	err := db.View(func(txn *badger.Txn) error {
		item, err := txn.Get([]byte(key))
		if err != nil {
			return err
		}
		v, err = item.ValueCopy(nil)
		return err
	})
	if err != nil {
		t.Fatalf("get %s: %v", key, err)
	}
	return string(v)
}

func TestOpenCreatesForTheOwnerAlone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "reg")
	db := mustOpen(t, dir, Options{Sync: true})
	st, err := os.Stat(dir)
	if err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("mode of %s = %v, %v, want 0700", dir, st.Mode().Perm(), err)
	}
	set(t, db, "k", "v")
	mustClose(t, db)

	db = mustOpen(t, dir, Options{})
	defer mustClose(t, db)
	if got := get(t, db, "k"); got != "v" {
		t.Errorf("value after reopening = %q, want v", got)
	}
}

// A process that is killed just after it has created a log leaves it empty.
func TestOpenAfterAKillWhileFilesWereMade(t *testing.T) {
	dir := t.TempDir()
	db := mustOpen(t, dir, Options{Sync: true})
	set(t, db, "k", "v")
	mustClose(t, db)
	for _, name := range []string{"00099.mem", "000099.vlog"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	db = mustOpen(t, dir, Options{Sync: true})
	defer mustClose(t, db)
	if got := get(t, db, "k"); got != "v" {
		t.Errorf("value = %q, want v", got)
	}
}

func TestOpenOptions(t *testing.T) {
	for _, c := range []struct {
		o       Options
		table   int64
		inline  int64
		syncing bool
	}{
		{Options{}, 64 << 20, 1 << 20, false},
		{Options{Sync: true, MemTable: 16 << 20}, 16 << 20, 1 << 20, true},
		{Options{MemTable: 2 << 20}, 2 << 20, (2 << 20) * 15 / 100, false},
		{Options{MemTable: 1}, 1 << 20, (1 << 20) * 15 / 100, false},
	} {
		db := mustOpen(t, t.TempDir(), c.o)
		o := db.Opts()
		if o.MemTableSize != c.table || o.ValueThreshold != c.inline || o.SyncWrites != c.syncing {
			t.Errorf("Open(%+v): memtable %d, threshold %d, sync %v, want %d, %d, %v",
				c.o, o.MemTableSize, o.ValueThreshold, o.SyncWrites, c.table, c.inline, c.syncing)
		}
		mustClose(t, db)
	}
}

func TestOpenNamesTheDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(file, Options{})
	if err == nil || errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "is not a directory") || !strings.Contains(err.Error(), file) {
		t.Errorf("Open(a file) = %v, want an error that names it and says what it is not", err)
	}
}

func TestOpenInUse(t *testing.T) {
	dir := t.TempDir()
	db := mustOpen(t, dir, Options{})
	child := func() string {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("child: %v\n%s", err, out)
		}
		return string(out)
	}
	want := fmt.Sprintf("in use true\nstore %s: directory is in use by another process (pid %d)\n", dir, os.Getpid())
	if got := child(); got != want {
		t.Errorf("second process while open:\n got %q\nwant %q", got, want)
	}
	mustClose(t, db)
	if got, want := child(), "in use false\n<nil>\n"; got != want {
		t.Errorf("second process after Close:\n got %q\nwant %q", got, want)
	}
}

func TestFreeShare(t *testing.T) {
	free, err := FreeShare(t.TempDir())
	if err != nil || free <= 0 || free > 1 {
		t.Errorf("FreeShare(a temporary directory) = %v, %v, want above 0, up to 1", free, err)
	}
	missing := filepath.Join(t.TempDir(), "missing")
	if _, err := FreeShare(missing); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), missing) {
		t.Errorf("FreeShare(missing) = %v, want one that names it and wraps %v", err, os.ErrNotExist)
	}
}

func TestCheckSchema(t *testing.T) {
	dir := t.TempDir()
	db := mustOpen(t, dir, Options{Sync: true})
	check := func(kind string, version uint32, want string) {
		t.Helper()
		err := CheckSchema(db, kind, version)
		switch {
		case want == "" && err != nil:
			t.Errorf("CheckSchema(%s, %d) = %v, want nil", kind, version, err)
		case want != "" && (!errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), dir)):
			t.Errorf("CheckSchema(%s, %d) = %v, want %q and the directory", kind, version, err, want)
		}
	}
	check("registry", 2, "")
	mustClose(t, db)
	db = mustOpen(t, dir, Options{Sync: true})
	defer func() { mustClose(t, db) }()

	check("registry", 2, "")
	check("spool", 2, `its kind is "registry", want "spool"`)
	check("registry", 1, "its version 2 is newer than this program's 1")
	check("registry", 4, "its version 2 is too old, this program reads 3 and 4")
	check("registry", 3, "") // an upgrade by one, which is recorded
	check("registry", 2, "its version 3 is newer than this program's 2")

	good := get(t, db, "M/schema")
	for n := range len(good) {
		set(t, db, "M/schema", good[:n])
		check("registry", 3, ErrSchema.Error())
	}
}

func TestCheckSchemaRefusesForeignData(t *testing.T) {
	db := mustOpen(t, t.TempDir(), Options{})
	defer mustClose(t, db)
	set(t, db, "foreign", "data")
	if err := CheckSchema(db, "registry", 1); !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), "no schema record") {
		t.Errorf("CheckSchema(foreign data) = %v, want %v and why", err, ErrSchema)
	}
}

func TestLoggerDropsChatter(t *testing.T) {
	var out bytes.Buffer
	l := logger{slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	l.Infof("set nextTxnTs to %d", 1)
	l.Debugf("detail")
	if out.Len() != 0 {
		t.Errorf("info and debug wrote %q, want nothing", out.String())
	}
	l.Warningf("slow by %d\n", 2)
	l.Errorf("lost %d\n", 3)
	got := out.String()
	if !strings.Contains(got, `level=WARN msg="badger: slow by 2"`) || !strings.Contains(got, `level=ERROR msg="badger: lost 3"`) {
		t.Errorf("warning and error wrote %q", got)
	}
	logger{}.Errorf("a nil logger discards")
}
