package stage

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

	"shunt/test/sim/handset"
)

// Fictitious numbers: Ofcom keeps +44 7700 900xxx for drama; the same block
// with two digits more is nobody's either.
const (
	registeredFrom   = 447700900_000
	unregisteredFrom = 447700950_000
	inactiveShare    = 0.05
)

// Files that People writes.
const (
	DevicesFile = "devices.ndjson"
	NumbersFile = "numbers.txt"
)

// People writes the phones' file and the list of destinations into dir: n
// numbers with a phone, and as many that are not registered.
func People(dir string, n int, seed uint64) error {
	rng := rand.New(rand.NewPCG(seed, 0x44454d4f))
	word := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return hex.EncodeToString(b)
	}
	var devices, numbers bytes.Buffer
	enc := json.NewEncoder(&devices)
	for i := range n {
		v := handset.Device{
			Number: fmt.Sprintf("+%d", registeredFrom+i), App: "chat", Platform: "apns", Token: word(32),
			Device: fmt.Sprintf("phone-%05d", i), Bearer: word(32), State: "active",
		}
		if i%2 == 1 {
			v.Platform, v.Token = "fcm", fmt.Sprintf("fcm%05d:APA91b%s", i, word(24))
		}
		if rng.Float64() < inactiveShare {
			v.State = "inactive"
		}
		if err := enc.Encode(v); err != nil {
			return err
		}
		fmt.Fprintf(&numbers, "%d\n%d\n", registeredFrom+i, unregisteredFrom+i)
	}
	if err := os.WriteFile(filepath.Join(dir, DevicesFile), devices.Bytes(), 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, NumbersFile), numbers.Bytes(), 0o600)
}
