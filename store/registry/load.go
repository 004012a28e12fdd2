package registry

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/dgraph-io/badger/v4"

	"shunt/gateway/msg"
)

// Load is an import: every line is staged and judged, against the others and
// against the registry, before the first one is put. Its methods are called one
// after the other: Add for each line, Judge, Apply, Close. What is staged is in
// files that have no name.
//
// Into a registry that holds nobody Apply writes tables at once, and a process
// that is killed meanwhile finds it empty again. Into any other it puts batch by
// batch, in the order of the numbers, and one that is killed has put the first
// of them: the same import once more completes it, since all that a line does not
// say is made from what it says.
type Load struct {
	r       *Registry
	lines   sorter           // number and line -> the rest of the line
	bearers sorter           // SHA-256 of a bearer -> number, line and device
	bad     map[int]struct{} // lines that Judge found faults in
	added   int
	record  []byte
}

// NewLoad begins an import that is staged in a folder; "" is os.TempDir.
func (r *Registry) NewLoad(dir string) *Load {
	return &Load{
		r: r, lines: sorter{dir: dir, room: usualArena}, bearers: sorter{dir: dir, room: usualArena},
		bad: map[int]struct{}{},
	}
}

// Close gives back what is staged.
func (l *Load) Close() error { return errors.Join(l.lines.close(), l.bearers.close()) }

// Add stages a line. A device without an id gets one that is made from its app
// and token. Errors wrap ErrInvalid, and then nothing is staged, or are the
// disk's.
func (l *Load) Add(line int, p *Put) error {
	if err := p.check(); err != nil {
		return err
	}
	if p.Device == "" {
		sum := sha256.Sum256([]byte(p.App + "/" + p.Token))
		p.Device = hex.EncodeToString(sum[:8])
	}
	hash := p.bearerHash()
	l.record = appendStaged(l.record[:0], p, hash)
	if err := l.lines.add(lineKey(p.Number, line), l.record); err != nil {
		return err
	}
	l.added++
	if hash == ([32]byte{}) {
		return nil
	}
	l.record = append(lineKey(p.Number, line), p.Device...)
	return l.bearers.add(hash[:], l.record)
}

// Added is how many lines are staged.
func (l *Load) Added() int { return l.added }

func lineKey(n msg.Number, line int) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(make([]byte, 0, 16+MaxName), uint64(n)), uint64(line))
}

func ofLineKey(b []byte) (msg.Number, int) {
	return msg.Number(binary.BigEndian.Uint64(b)), int(binary.BigEndian.Uint64(b[8:]))
}

// Staged are platform, flags, three texts with their lengths, the bearer's hash,
// the traits, and when the number was proven.
func appendStaged(b []byte, p *Put, hash [32]byte) []byte {
	var flags byte
	if p.Active {
		flags |= flagActive
	}
	if p.Sandbox {
		flags |= flagSandbox
	}
	if p.KeepTraits {
		flags |= stagedKeep
	}
	b = append(b, byte(p.Platform), flags)
	for _, s := range []string{p.Device, p.App, p.Token} {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(s))), s...)
	}
	b = append(append(b, hash[:]...), byte(p.Lacks), byte(p.Permission), p.Preference)
	proven := int64(0)
	if !p.ProvenAt.IsZero() {
		proven = p.ProvenAt.UnixNano()
	}
	return binary.BigEndian.AppendUint64(b, uint64(proven))
}

// stagedKeep is a flag beside those of a record.
const stagedKeep = 1 << 7

func ofStaged(n msg.Number, b []byte) Put {
	d := decoder{b: b}
	p := Put{Number: n, Platform: Platform(d.uint8("platform"))}
	flags := d.uint8("flags")
	p.Active, p.Sandbox, p.KeepTraits = flags&flagActive != 0, flags&flagSandbox != 0, flags&stagedKeep != 0
	p.Device = string(d.take("device", int(d.uint16("device"))))
	p.App = string(d.take("app", int(d.uint16("app"))))
	p.Token = string(d.take("token", int(d.uint16("token"))))
	copy(p.BearerHash[:], d.take("bearer", len(p.BearerHash)))
	p.Lacks, p.Permission, p.Preference = Features(d.uint8("lacks")), Permission(d.uint8("permission")), d.uint8("preference")
	if at := int64(d.uint64("proven at")); at != 0 {
		p.ProvenAt = time.Unix(0, at).UTC()
	}
	return p
}

// Judge looks for what no line shows alone: devices and bearers that are there
// twice, more devices than a number may have, bearers of somebody else's. It
// tells fault of each, which may end it with an error. Lines with faults are
// not applied.
func (l *Load) Judge(ctx context.Context, fault func(line int, err error) error) error {
	if err := errors.Join(l.lines.sorted(), l.bearers.sorted()); err != nil {
		return err
	}
	wrong := func(line int, err error) error {
		if _, again := l.bad[line]; again {
			return nil
		}
		l.bad[line] = struct{}{}
		return fault(line, err)
	}
	empty := l.r.Count() == Count{} && l.r.Ready()
	return l.r.view(func(txn *badger.Txn) error {
		if err := l.judgeNumbers(ctx, txn, empty, wrong); err != nil {
			return err
		}
		return l.judgeBearers(ctx, txn, empty, wrong)
	})
}

// judgeEach is how many records are judged between two looks at the context.
const judgeEach = 4096

func (l *Load) judgeNumbers(ctx context.Context, txn *badger.Txn, empty bool, wrong func(int, error) error) (err error) {
	var of msg.Number
	devices := map[string]int{} // of that number: the line, or 0 of one that the registry has
	seen := 0
	for key, value := range l.lines.all(&err) {
		if seen++; seen%judgeEach == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		n, line := ofLineKey(key)
		if n != of {
			of = n
			clear(devices)
			if err := l.known(txn, n, empty, devices); err != nil {
				return err
			}
		}
		d := decoder{b: value[2:]}
		device := d.take("device", int(d.uint16("device")))
		before, twice := devices[string(device)]
		switch {
		case before > 0:
			err = wrong(line, fmt.Errorf("device: line %d is about this device of this number already", before))
		case !twice && len(devices) >= MaxDevices:
			err = wrong(line, fmt.Errorf("number: %w", ErrTooManyDevices))
		default:
			devices[string(device)] = line
		}
		if err != nil {
			return err
		}
	}
	return err
}

// known notes the devices that the registry has of a number.
func (l *Load) known(txn *badger.Txn, n msg.Number, empty bool, devices map[string]int) error {
	if empty || l.r.Ready() && l.r.Count().Corrupt == 0 && !l.r.Lookup(n).Registered() {
		return nil
	}
	reg, err := getRegistration(txn, n)
	if errors.Is(err, ErrNotFound) || errors.Is(err, ErrCorrupt) {
		return nil
	}
	for i := range reg.Devices {
		devices[reg.Devices[i].ID] = 0
	}
	return err
}

func (l *Load) judgeBearers(ctx context.Context, txn *badger.Txn, empty bool, wrong func(int, error) error) (err error) {
	var last [32]byte
	var lastLine, seen int
	for hash, value := range l.bearers.all(&err) {
		if seen++; seen%judgeEach == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		n, line := ofLineKey(value)
		if _, bad := l.bad[line]; bad {
			continue
		}
		if bytes.Equal(hash, last[:]) {
			if err := wrong(max(line, lastLine), fmt.Errorf("bearer: line %d has it too, and it can be of one device only", min(line, lastLine))); err != nil {
				return err
			}
			lastLine = min(line, lastLine)
			continue
		}
		copy(last[:], hash)
		lastLine = line
		if empty {
			continue
		}
		b := batch{read: txn, states: map[msg.Number]*Registration{}}
		taken, err := b.claimed(last, owner{n, string(value[16:])})
		if err == nil && taken {
			err = wrong(line, fmt.Errorf("bearer: %w", ErrBearerInUse))
		}
		if err != nil {
			return err
		}
	}
	return err
}

// Bad is how many lines Judge found faults in.
func (l *Load) Bad() int { return len(l.bad) }

// Applied is what an import has come to.
type Applied struct {
	Put     int // lines
	Refused int // since somebody else has changed the registry after Judge
	Made    int // new devices whose line has no bearer: their apps have to register anew
}

// Apply puts the lines that have no fault, and tells progress how many are on
// stable storage. On an error that many are put; of an empty registry none.
func (l *Load) Apply(ctx context.Context, progress func(put int)) (Applied, error) {
	if done, a, err := l.applyEmpty(ctx, progress); done || err != nil {
		return a, err
	}
	return l.applyLive(ctx, progress)
}

// chunksAhead are how many chunks of an import are with the committer: two make
// a commit, and meanwhile the next two are read.
const chunksAhead = 4

// ahead is a chunk that is with the committer.
type ahead struct {
	puts []Put
	*putting
}

// applyLive puts line by line, beside everybody else. Chunks are handed to the
// committer in the order of their lines.
func (l *Load) applyLive(ctx context.Context, progress func(put int)) (a Applied, err error) {
	var under []ahead
	hand := func(ps []Put) { under = append(under, ahead{ps, l.r.handChunk(ctx, ps)}) }
	settle := func() error { // the first of them
		c := under[0]
		under = under[1:]
		for {
			done, err := c.wait(ctx)
			a.Put += len(done)
			for i := range done {
				if done[i].Bearer != "" {
					a.Made++
				}
			}
			switch {
			case err == nil:
				progress(a.Put)
				return nil
			case errors.Is(err, ErrBearerInUse), errors.Is(err, ErrTooManyDevices):
				a.Refused++
				rest := c.puts[len(done)+1:]
				c = ahead{rest, l.r.handChunk(ctx, rest)}
			default:
				return err
			}
		}
	}
	// Whatever has failed, what is with the committer may be put: it is counted.
	finish := func(first error) error {
		for len(under) > 0 {
			if err := settle(); first == nil {
				first = err
			}
		}
		return first
	}
	chunk := make([]Put, 0, putChunk)
	for key, value := range l.lines.all(&err) {
		n, line := ofLineKey(key)
		if _, bad := l.bad[line]; bad {
			continue
		}
		if chunk = append(chunk, ofStaged(n, value)); len(chunk) < putChunk {
			continue
		}
		hand(chunk)
		chunk = make([]Put, 0, putChunk)
		if len(under) < chunksAhead {
			continue
		}
		if err := settle(); err != nil {
			return a, finish(err)
		}
	}
	if err == nil && len(chunk) > 0 {
		hand(chunk)
	}
	return a, finish(err)
}
