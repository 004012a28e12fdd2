package registry

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"shunt/store"
)

// found tells which file under dir holds one of the texts.
func inFiles(t *testing.T, dir string, texts ...[]byte) (file string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		for _, text := range texts {
			if bytes.Contains(b, text) {
				file = path
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// With a key, nothing of a registration is readable in the directory: neither in
// the log, nor in tables, nor in those of an import.
func TestEncryption(t *testing.T) {
	p := samplePut(testNumber, "phone")
	p.Token = strings.Repeat("push-token-", 10)
	texts := [][]byte{[]byte("push-token-"), binary.BigEndian.AppendUint64(nil, uint64(testNumber))}
	key, other := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 16)
	for name, put := range map[string]func(r *Registry){
		"put":  func(r *Registry) { mustPut(t, r, p) },
		"load": func(r *Registry) { load(t, r, []Put{p}) },
	} {
		t.Run(name, func(t *testing.T) {
			plain := t.TempDir()
			r := start(t, Options{Dir: plain})
			put(r)
			if inFiles(t, plain, texts...) == "" {
				t.Error("a directory without a key holds no token: the test looks for the wrong thing")
			}
			stop(t, r)
			if _, err := Open(Options{Dir: plain, Key: key}); !errors.Is(err, store.ErrKey) {
				t.Errorf("Open of a plain directory with a key = %v, want %v", err, store.ErrKey)
			}

			dir := t.TempDir()
			r = start(t, Options{Dir: dir, Key: key})
			put(r)
			if file := inFiles(t, dir, texts...); file != "" {
				t.Errorf("%s holds token or number while open", file)
			}
			stop(t, r)
			if file := inFiles(t, dir, texts...); file != "" {
				t.Errorf("%s holds token or number", file)
			}
			for _, wrong := range [][]byte{nil, other} {
				if _, err := Open(Options{Dir: dir, Key: wrong}); !errors.Is(err, store.ErrKey) {
					t.Errorf("Open with a wrong key = %v, want %v", err, store.ErrKey)
				}
			}
			if err := store.RotateKey(dir, bytes.Repeat([]byte{3}, 16), other); !errors.Is(err, store.ErrKey) {
				t.Errorf("RotateKey from a wrong key = %v, want %v", err, store.ErrKey)
			}
			for range 2 { // once more changes nothing
				if err := store.RotateKey(dir, key, other); err != nil {
					t.Fatal(err)
				}
			}
			r = start(t, Options{Dir: dir, Key: other})
			if reg, err := r.Get(testNumber); err != nil || reg.Devices[0].Token != p.Token {
				t.Errorf("Get after the rotation = %+v, %v", reg, err)
			}
			stop(t, r)
			if _, err := Open(Options{Dir: dir, Key: key}); !errors.Is(err, store.ErrKey) {
				t.Errorf("Open with the old key = %v, want %v", err, store.ErrKey)
			}
		})
	}
}
