package handset

import (
	"encoding/json"
	"io"
	"net/http"
	"time"
)

const maxAnswer = 1 << 20

// call makes one call of the app's API with the phone's bearer and repeats it
// while there is no answer or the gateway says that it cannot answer now: all
// calls are safe to repeat. The status is 0 when RetryFor is over or the phones
// are switched off.
func (p *Park) call(d *Device, method, path string, answer any) (status, attempts int) {
	deadline := time.Now().Add(p.o.RetryFor)
	for {
		attempts++
		status = p.once(d, method, path, answer)
		again := status == 0 || status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests ||
			status == http.StatusBadGateway || status == http.StatusGatewayTimeout
		if !again || time.Now().After(deadline) {
			return status, attempts
		}
		p.count(func(s *Summary) { s.Retries++ })
		select {
		case <-time.After(retryBackoff):
		case <-p.off:
			return status, attempts
		}
	}
}

func (p *Park) once(d *Device, method, path string, answer any) int {
	p.slots <- struct{}{}
	defer func() { <-p.slots }()
	status, b, err := p.ask(method, path, d.Bearer)
	if err != nil || answer != nil && status == http.StatusOK && json.Unmarshal(b, answer) != nil {
		return 0
	}
	return status
}

func (p *Park) ask(method, path, bearer string) (status int, body []byte, err error) {
	if p.wire != nil {
		return p.wire.do(method, path, bearer)
	}
	req, err := http.NewRequest(method, p.o.API+path, nil)
	if err != nil {
		return 0, nil, err
	}
	req.Header.Set("Authorization", "Bearer "+bearer)
	resp, err := p.api.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err = io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return resp.StatusCode, body, err
}
