package spool

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// With a key, no text of a message is readable in the directory.
func TestEncryption(t *testing.T) {
	text := []byte("nobody-reads-this-text")
	for name, key := range map[string][]byte{"plain": nil, "encrypted": bytes.Repeat([]byte{1}, 32)} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := started(t, Options{Dir: dir, Key: key})
			m := message(s, time.Now())
			m.PDU = append(bytes.Clone(m.PDU), text...)
			put(t, s, m)
			found := false
			err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				b, err := os.ReadFile(path)
				found = found || bytes.Contains(b, text)
				return err
			})
			if err != nil || found != (key == nil) {
				t.Errorf("text in the directory: %v, %v, want %v", found, err, key == nil)
			}
		})
	}
}
