package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"time"

	"shunt/gateway/noc"
)

// Every request is for another number, so that no pause before a second code
// stands between them.
const (
	verifications = 4000 // of each kind
	verifySection = `
[verification]
sender = "Shunt"
per_number = 0
per_address = 0
per_subnet = 0
per_app = 0
per_prefix = 0
alarm_sequence = 1000000
alarm_sent = 1000000
`
)

// verified are the times of POST /v1/verifications in µs, from the first octet of
// the request to the last of the answer, for numbers that are registered and for
// others: an answer that takes another time tells who is a customer.
type verified struct {
	Requests   int        `json:"requests_of_each"`
	Registered [3]float64 `json:"registered_us"` // quartiles
	Others     [3]float64 `json:"others_us"`
	Halves     [2]float64 `json:"median_difference_by_half_us"`   // registered less others, of the first and second half
	Split      float64    `json:"median_difference_of_equals_us"` // what two halves of the same kind, drawn at random, differ by: 95 % of times less
	Z          float64    `json:"rank_sum_z"`                     // Mann and Whitney's: beyond ±1.96 once in twenty by chance
}

func (b *bench) verification(all *results) error {
	g, err := startGateway(b.dir, b.shunt, 2*verifications, b.sink, verifySection)
	if err != nil {
		return err
	}
	defer g.stop()
	c := noc.New(g.socket)
	defer c.Close()
	st, err := c.Status(context.Background())
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "verifications: %d of each kind, one at a time, in random turn\n", verifications)
	url := "http://" + st.API[0] + "/v1/verifications"
	client := &http.Client{}
	ask := func(n int) (float64, error) {
		body := fmt.Appendf(nil, `{"app":"chat","number":"+%d"}`, n)
		begun := time.Now()
		resp, err := client.Post(url, "application/json", bytes.NewReader(body))
		if err != nil {
			return 0, err
		}
		answer, err := io.ReadAll(resp.Body)
		took := time.Since(begun)
		_ = resp.Body.Close()
		if err == nil && resp.StatusCode != http.StatusAccepted {
			err = fmt.Errorf("%d %s", resp.StatusCode, answer)
		}
		return float64(took.Nanoseconds()) / 1e3, err
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	var times [2][]float64
	for i := range verifications + 200 {
		first := rnd.IntN(2) // of each pair, which goes first
		for j := range 2 {
			kind := (first + j) % 2
			took, err := ask([]int{firstRegistered, firstFree}[kind] + i)
			if err != nil {
				return fmt.Errorf("verification: %w", err)
			}
			if i >= 200 { // the first ones warm up
				times[kind] = append(times[kind], took)
			}
		}
	}
	v := &verified{Requests: verifications, Registered: quartiles(times[0]), Others: quartiles(times[1]), Z: rankSum(times[0], times[1])}
	for h := range 2 {
		at := h * verifications / 2
		v.Halves[h] = median(times[0][at:at+verifications/2]) - median(times[1][at:at+verifications/2])
	}
	v.Split = split(rnd, times[1])
	all.Verification = v
	return nil
}

func quartiles(v []float64) (q [3]float64) {
	s := slices.Sorted(slices.Values(v))
	for i := range q {
		q[i] = s[len(s)*(i+1)/4]
	}
	return q
}

// split is below which the medians of two random halves of v differ in 95 of a
// hundred draws, as if each had as many as v.
func split(rnd *rand.Rand, v []float64) float64 {
	var d []float64
	for range 200 {
		s := slices.Clone(v)
		rnd.Shuffle(len(s), func(i, j int) { s[i], s[j] = s[j], s[i] })
		d = append(d, math.Abs(median(s[:len(s)/2])-median(s[len(s)/2:]))/math.Sqrt2)
	}
	slices.Sort(d)
	return d[len(d)*95/100]
}

// rankSum is the normal score of the sum of a's ranks among both.
func rankSum(a, b []float64) float64 {
	type timed struct {
		v  float64
		of int
	}
	var all []timed
	for _, v := range a {
		all = append(all, timed{v, 0})
	}
	for _, v := range b {
		all = append(all, timed{v, 1})
	}
	slices.SortFunc(all, func(x, y timed) int { return int(math.Copysign(1, x.v-y.v)) })
	sum := 0.0
	for i, x := range all {
		if x.of == 0 {
			sum += float64(i + 1)
		}
	}
	n, m := float64(len(a)), float64(len(b))
	return (sum - n*(n+m+1)/2) / math.Sqrt(n*m*(n+m+1)/12)
}

func (v *verified) print(w io.Writer) {
	fmt.Fprintln(w, "\n| verification | lower quartile | median | upper quartile |\n|---|---|---|---|")
	for _, x := range []struct {
		name string
		q    [3]float64
	}{{"of a registered number", v.Registered}, {"of another", v.Others}} {
		fmt.Fprintf(w, "| %s | %.0f µs | %.0f µs | %.0f µs |\n", x.name, x.q[0], x.q[1], x.q[2])
	}
	fmt.Fprintf(w, "\n%d requests of each: medians differ by %+.1f µs (first half %+.1f, second %+.1f); two draws of the same kind by less than %.1f µs in 95 %% of times; rank sum z %+.2f\n",
		v.Requests, v.Registered[1]-v.Others[1], v.Halves[0], v.Halves[1], v.Split, v.Z)
}
