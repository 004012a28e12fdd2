package registry

import (
	"context"
	"fmt"
	"time"

	"shunt/gateway/msg"
)

// Every method of this file returns nil only once its change is on stable
// storage and Lookup sees it. Concurrent callers share one fsync. When the
// context ends first, the error wraps the context's and the change may still
// be carried out.

// Put registers a device. A device id that its number has already is
// replaced, with its bearer; without a bearer in p it keeps the one it has,
// and PutResult.Bearer is "". Errors wrap ErrInvalid, ErrTooManyDevices,
// ErrBearerInUse or ErrTooManyApps.
func (r *Registry) Put(ctx context.Context, p Put) (PutResult, error) {
	results, err := r.PutAll(ctx, []Put{p})
	if err != nil {
		return PutResult{}, err
	}
	return results[0], nil
}

// putChunk is how many puts PutAll queues at once: each writes a registration
// and a bearer, so that two chunks fill a commit.
const putChunk = maxBatchWrites / 4

// PutAll does many puts in few commits, in their order. All are checked
// before the first is done; when one is refused later, the error names its
// place and the results are those of the puts before it, which stand.
func (r *Registry) PutAll(ctx context.Context, ps []Put) ([]PutResult, error) {
	for i := range ps {
		if err := ps[i].check(); err != nil {
			return nil, place(i, len(ps), err)
		}
	}
	results := make([]PutResult, 0, len(ps))
	for len(ps) > len(results) {
		from := len(results)
		c := r.handChunk(ctx, ps[from:min(from+putChunk, len(ps))])
		done, err := c.wait(ctx)
		results = append(results, done...)
		if err != nil {
			return results, place(len(results), len(ps), err)
		}
	}
	return results, nil
}

// putting are puts that were handed to the committer.
type putting struct {
	r       *Registry
	req     *request
	err     error // they were not
	results []PutResult
}

// handChunk hands puts to the committer, a chunk at most, and does not wait.
func (r *Registry) handChunk(ctx context.Context, ps []Put) *putting {
	c := &putting{r: r, results: make([]PutResult, len(ps))}
	results := c.results
	changes := make([]func(*batch, *request) error, len(ps))
	for i := range ps {
		p := ps[i] // a copy: the committer may outlive a caller's patience
		changes[i] = func(b *batch, req *request) (err error) {
			results[i], err = b.put(req, &p)
			return err
		}
	}
	c.req, c.err = r.hand(ctx, changes...)
	return c
}

// wait is what came of them: the results of those before the first that was
// refused.
func (c *putting) wait(ctx context.Context) ([]PutResult, error) {
	if c.err != nil {
		return nil, c.err
	}
	applied, err := c.r.await(ctx, c.req)
	return c.results[:applied], err
}

// place says which of several puts an error is about.
func place(i, of int, err error) error {
	if of == 1 {
		return err
	}
	return fmt.Errorf("put %d of %d: %w", i+1, of, err)
}

// Remove takes a device off a number, or with device "" the whole number, and
// tells whether there was anything to remove. Removing the last device
// removes the number.
func (r *Registry) Remove(ctx context.Context, n msg.Number, device string) (bool, error) {
	return r.remove(ctx, n, device, nil)
}

// DropToken takes a device off a number because the provider says that its
// token is dead: only if the device still has this token and, when deadSince
// is not zero, put it before deadSince, so that a token which was registered
// anew survives a late answer about its past (APNs' status 410). It tells
// whether the device was removed.
func (r *Registry) DropToken(ctx context.Context, n msg.Number, device, token string, deadSince time.Time) (bool, error) {
	if device == "" {
		return false, fmt.Errorf("number %s: device: %w: want %s", n.Masked(), ErrInvalid, nameWanted)
	}
	return r.remove(ctx, n, device, func(d *Device) bool {
		return d.Token == token && (deadSince.IsZero() || d.UpdatedAt.Before(deadSince))
	})
}

func (r *Registry) remove(ctx context.Context, n msg.Number, device string, drop func(*Device) bool) (bool, error) {
	var removed bool
	_, err := r.submit(ctx, func(b *batch, req *request) (err error) {
		removed, err = b.remove(req, n, device, drop)
		return err
	})
	if err != nil {
		return false, err // the committer may still be at it: removed is not ours to read
	}
	return removed, nil
}

// SetActive marks a device, or with device "" all devices of the number, as
// active or inactive. ErrNotFound when there is none. What is so already is
// not written again.
func (r *Registry) SetActive(ctx context.Context, n msg.Number, device string, active bool) error {
	_, err := r.submit(ctx, func(b *batch, req *request) error {
		return b.setActive(req, n, device, active)
	})
	return err
}
