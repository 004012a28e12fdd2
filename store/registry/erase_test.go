package registry

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"shunt/gateway/msg"
)

// holds are the files under dir in which one of the texts is.
func holds(t *testing.T, dir string, texts ...[]byte) (found []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for i, x := range texts {
			if bytes.Contains(b, x) {
				found = append(found, filepath.Base(f)+": "+string(rune('0'+i)))
			}
		}
	}
	return found
}

// What was registered, replaced, removed and is still in old tables is in no
// file after Erase; the neighbours of the number are.
func TestErase(t *testing.T) {
	dir := t.TempDir()
	r := start(t, Options{Dir: dir})
	const n, near, never msg.Number = 447700900042, 447700900043, 447700900044
	put := func(n msg.Number, device, token, bearer string) {
		t.Helper()
		p := Put{Number: n, App: "chat", Platform: FCM, Token: token, Device: device, Bearer: bearer, Active: true}
		if _, err := r.Put(t.Context(), p); err != nil {
			t.Fatalf("Put(%s) = %v", device, err)
		}
	}
	put(n, "first-device", "FIRST-TOKEN", "first-bearer-0123456789")
	put(near, "other-device", "OTHER-TOKEN", "other-bearer-0123456789")
	stop(t, r) // into a table
	r = start(t, Options{Dir: dir})
	put(n, "first-device", "SECOND-TOKEN", "second-bearer-0123456789")
	if _, err := r.Remove(t.Context(), n, ""); err != nil {
		t.Fatal(err)
	}
	put(n, "third-device", "THIRD-TOKEN", "third-bearer-0123456789")
	if _, _, err := r.ByBearer("third-bearer-0123456789"); err != nil {
		t.Fatal(err)
	}
	person := [][]byte{
		binary.BigEndian.AppendUint64(nil, uint64(n)), []byte("447700900042"),
		[]byte("FIRST-TOKEN"), []byte("SECOND-TOKEN"), []byte("THIRD-TOKEN"), []byte("first-device"), []byte("third-device"),
	}
	v := Verification{ID: [16]byte{1}, Number: n, App: "app-of-n", MAC: [32]byte{2}, Expires: time.Now().Add(time.Hour)}
	if err := r.Begin(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	v.ID, v.MAC = [16]byte{3}, [32]byte{4}
	if err := r.Begin(t.Context(), v); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Check(t.Context(), v.ID, v.MAC, [32]byte{5}, time.Hour); err != nil { // leaves a proof
		t.Fatal(err)
	}
	person = append(person, []byte("app-of-n"))
	if len(holds(t, dir, person...)) == 0 || len(holds(t, dir, []byte("app-of-n"))) == 0 {
		t.Fatal("the files do not hold what is to be erased: the test sees nothing")
	}

	was, err := r.Erase(t.Context(), n)
	if !was || err != nil {
		t.Fatalf("Erase() = %t, %v, want true", was, err)
	}
	if found := holds(t, dir, person...); len(found) > 0 {
		t.Errorf("after Erase in files: %q", found)
	}
	if e := r.Lookup(n); e.Registered() {
		t.Error("Lookup finds the number")
	}
	if _, err := r.Get(n); !errors.Is(err, ErrNotFound) {
		t.Errorf("Get() = %v, want %v", err, ErrNotFound)
	}
	if _, _, err := r.ByBearer("third-bearer-0123456789"); !errors.Is(err, ErrNotFound) {
		t.Errorf("ByBearer() = %v, want %v", err, ErrNotFound)
	}
	if was, err := r.Erase(t.Context(), never); was || err != nil {
		t.Errorf("Erase() of no number = %t, %v", was, err)
	}
	if got, d, err := r.ByBearer("other-bearer-0123456789"); got != near || d.Token != "OTHER-TOKEN" || err != nil {
		t.Errorf("the neighbour's ByBearer() = %d, %v", got, err)
	}
	put(never, "later-device", "LATER-TOKEN", "later-bearer-0123456789") // it writes again
	stop(t, r)
	if found := holds(t, dir, person...); len(found) > 0 {
		t.Errorf("after the close in files: %q", found)
	}
	r = start(t, Options{Dir: dir})
	if c := r.Count(); c.Numbers != 2 || c.Corrupt != 0 {
		t.Errorf("Count() = %+v, want the two neighbours", c)
	}
}

// A number that was removed earlier is no longer registered and still there.
func TestEraseRemoved(t *testing.T) {
	dir := t.TempDir()
	r := start(t, Options{Dir: dir})
	const n msg.Number = 447700900042
	p := Put{Number: n, App: "chat", Platform: FCM, Token: "OLD-TOKEN", Device: "old-device", Active: true}
	if _, err := r.Put(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Remove(t.Context(), n, ""); err != nil {
		t.Fatal(err)
	}
	if len(holds(t, dir, []byte("OLD-TOKEN"))) == 0 {
		t.Fatal("Remove alone erased it: the test sees nothing")
	}
	if was, err := r.Erase(t.Context(), n); was || err != nil {
		t.Fatalf("Erase() = %t, %v, want false", was, err)
	}
	if found := holds(t, dir, []byte("OLD-TOKEN"), binary.BigEndian.AppendUint64(nil, uint64(n))); len(found) > 0 {
		t.Errorf("after Erase in files: %q", found)
	}
}
