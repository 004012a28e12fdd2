// Package smsc is a simulated SMSC: a real SMPP server that accepts messages,
// keeps a book of them and sends receipts, with the faults that one asks for.
package smsc

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"shunt/smpp"
	"shunt/smpp/pdu"
)

// IDForm is how message ids look in submit_sm_resp and in receipts.
type IDForm string

const (
	IDHex       IDForm = "hex"                  // eight hexadecimal digits in both
	IDDec       IDForm = "dec"                  // ten decimal digits in both
	IDHexThenDe IDForm = "hex-resp-dec-receipt" // the peers of trap 1: the same number in two forms
	IDDecThenHe IDForm = "dec-resp-hex-receipt"
	IDULID      IDForm = "ulid"
)

// Options are what the SMSC does. The zero value accepts everything at once
// and reports everything delivered.
type Options struct {
	Listen   string            // "127.0.0.1:0" when empty
	AddrFile string            // where the chosen address is written as JSON, if set
	Accounts map[string]string // system_id → password; empty: any
	Seed     uint64            // of every random choice

	Latency, Jitter time.Duration // of submit_sm_resp: Latency ± Jitter
	ErrorRate       float64       // share of submit_sm refused with ErrorStatus
	ErrorStatus     uint32        // ESME_RSYSERR when 0
	ThrottleRate    float64       // share refused with ESME_RTHROTTLED
	Unacked         bool          // never answers a submit_sm

	ID                IDForm
	ReceiptDelay      time.Duration
	ReceiptBeforeResp float64 // share of messages whose receipt is sent before the response
	FailRate          float64 // share that ends UNDELIV
	ExpireRate        float64 // share that ends EXPIRED
	MORate            float64 // deliver_sm of its own a second, to all binds together

	Book    string // file, if set
	Lasting bool   // the book survives kill -9: every message is in it before its response, and a new start goes on with it
	Sink    bool   // answers every submit_sm at once and does nothing else
	Window  int    // unanswered deliver_sm a bind (100)
	Held    int    // messages with an open receipt; above it ESME_RMSGQFUL (500,000)
}

func (o *Options) check() error {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.ID == "" {
		o.ID = IDHex
	}
	switch o.ID {
	case IDHex, IDDec, IDHexThenDe, IDDecThenHe, IDULID:
	default:
		return fmt.Errorf("id %q: want hex, dec, hex-resp-dec-receipt, dec-resp-hex-receipt or ulid", o.ID)
	}
	for name, r := range map[string]float64{
		"error-rate": o.ErrorRate, "throttle-rate": o.ThrottleRate,
		"receipt-before-resp-rate": o.ReceiptBeforeResp, "fail-rate": o.FailRate, "expire-rate": o.ExpireRate,
	} {
		if r < 0 || r > 1 {
			return fmt.Errorf("%s: %v is not between 0 and 1", name, r)
		}
	}
	if o.FailRate+o.ExpireRate > 1 || o.ErrorRate+o.ThrottleRate > 1 {
		return errors.New("shares of one draw add up to more than 1")
	}
	if o.Latency < 0 || o.Jitter < 0 || o.ReceiptDelay < 0 || o.MORate < 0 || o.MORate > 10_000 {
		return errors.New("latency, jitter, receipt-delay and mo-rate: want 0 or more, mo-rate at most 10000")
	}
	if o.Lasting && (o.Book == "" || o.ID == IDULID) {
		return errors.New("lasting: want a book, and ids other than ulid")
	}
	if o.ErrorStatus == 0 {
		o.ErrorStatus = uint32(pdu.RSYSERR)
	}
	if o.Window <= 0 {
		o.Window = 100
	}
	if o.Held <= 0 {
		o.Held = 500_000
	}
	return nil
}

// ParseAccounts reads "id:password,id:password".
func ParseAccounts(s string) (map[string]string, error) {
	m := map[string]string{}
	for _, pair := range strings.Split(s, ",") {
		if pair == "" {
			continue
		}
		id, password, ok := strings.Cut(pair, ":")
		if !ok || id == "" || len(id) > 15 || len(password) > 8 {
			return nil, fmt.Errorf("accounts: want id:password with at most 15 and 8 octets, after %d good ones", len(m))
		}
		m[id] = password
	}
	return m, nil
}

// Summary counts what the SMSC did.
type Summary struct {
	Seed          uint64 `json:"seed"`
	Binds         uint64 `json:"binds"`
	BindsRefused  uint64 `json:"binds_refused"`
	Submits       uint64 `json:"submits"`
	Accepted      uint64 `json:"accepted"`
	Refused       uint64 `json:"refused"`
	Throttled     uint64 `json:"throttled"`
	Malformed     uint64 `json:"malformed"`
	Unknown       uint64 `json:"unknown_commands"`
	Resumed       uint64 `json:"resumed"` // messages of a process before this one that were not done
	ReceiptsTaken uint64 `json:"receipts_taken"`
	ReceiptsOpen  uint64 `json:"receipts_open"`
	ReceiptsAgain uint64 `json:"receipts_sent_again"`
	MOSent        uint64 `json:"mo_sent"`
	MOTaken       uint64 `json:"mo_taken"`
}

// final draws the state that a message ends in.
func (o *Options) final(draw float64) smpp.MessageState {
	switch {
	case draw < o.FailRate:
		return smpp.StateUndeliverable
	case draw < o.FailRate+o.ExpireRate:
		return smpp.StateExpired
	}
	return smpp.StateDelivered
}
