package noc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
)

// Import sends a file of that format. Either every line is right or, unless the
// wrong ones are to be skipped, nothing is changed. each is told of every fault
// that the gateway lists and of how far it is. ctx alone bounds its time.
func (c *Client) Import(ctx context.Context, file io.Reader, format string, skipBad, dryRun bool, each func(*ImportEvent)) (res ImportResult, err error) {
	q := url.Values{"format": {format}}
	if skipBad {
		q.Set("skip_bad", "1")
	}
	if dryRun {
		q.Set("dry_run", "1")
	}
	err = c.stream(ctx, http.MethodPost, "/v1/registry/import?"+q.Encode(), file, func(r *http.Response) error {
		var refused *Problem
		err := events(r.Body, func(e *ImportEvent) (bool, error) {
			switch {
			case e.Problem != nil:
				refused = e.Problem
				return true, nil
			case e.Result != nil:
				res = *e.Result
				return true, nil
			}
			each(e)
			return false, nil
		})
		switch {
		case refused != nil:
			return refused
		case errors.Is(err, io.EOF):
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return fmt.Errorf("control socket %s: the gateway's answer breaks off (%w): see its log; the same import again completes it", c.socket, plainCause(err))
		}
		return nil
	})
	return res, err
}

// Export writes the registry to w, and tells progress how many octets are there;
// numbers is how many the registry has. An error means that w has not all of it.
func (c *Client) Export(ctx context.Context, w io.Writer, format string, progress func(octets int64)) (numbers int, err error) {
	err = c.stream(ctx, http.MethodGet, "/v1/registry/export?format="+format, nil, func(r *http.Response) error {
		numbers, _ = strconv.Atoi(r.Header.Get("Shunt-Numbers"))
		_, err := io.Copy(&counted{w: w, told: progress}, r.Body)
		return err
	})
	return numbers, err
}

// counted tells how much has passed.
type counted struct {
	w    io.Writer
	n    int64
	told func(int64)
}

func (c *counted) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	c.n += int64(n)
	c.told(c.n)
	return n, err
}

// stream sends a request whose answer is read as it comes.
func (c *Client) stream(ctx context.Context, method, path string, body io.Reader, read func(*http.Response) error) error {
	if err := c.there(ctx); err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://noc"+path, body)
	if err != nil {
		return fmt.Errorf("control socket %s: %w", c.socket, err)
	}
	res, err := c.http.Do(req)
	if err != nil {
		return c.unreached(err)
	}
	defer res.Body.Close()
	if err := c.ours(res); err != nil {
		return err
	}
	if res.StatusCode != http.StatusOK {
		p := &Problem{}
		if err := json.NewDecoder(io.LimitReader(res.Body, maxBody)).Decode(p); err != nil || p.Detail == "" {
			return c.foreign(res)
		}
		return p
	}
	return read(res)
}
