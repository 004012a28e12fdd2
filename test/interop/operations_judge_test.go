//go:build interop

package interop

import (
	"cmp"
	"encoding/hex"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"shunt/smpp/pdu"
	"shunt/test/sim/books"
)

// arrived is all that the SMSC got, but for what belongs to the session.
func (o *operations) arrived() []event {
	return append(o.smsc.all("submit"), o.smsc.all("request")...)
}

// judge compares what had to come of the scenario with what did; held are the
// parts that wait in vain for another, since began at the earliest.
func (o *operations) judge(held []event, began time.Time) {
	o.Helper()
	o.judgeSMSC()
	o.judgeReceipts()
	o.judgeClaims()
	for _, e := range held {
		for _, at := range o.arrived() {
			if unnumbered(at.Raw) != unnumbered(e.Raw) {
				continue
			}
			if after := at.at.Sub(began); after < holdFor || after > holdFor+3*time.Second {
				o.Errorf("part %s went by carrier after %s, want %s", e.ID, after, holdFor)
			}
		}
	}
}

// judgeSMSC wants the SMSC to have got what is due, octet by octet, and no
// more.
func (o *operations) judgeSMSC() {
	o.Helper()
	due := maps.Clone(o.due)
	for _, e := range o.arrived() {
		key := e.SystemID + " " + unnumbered(e.Raw)
		if len(due[key]) == 0 {
			o.Errorf("the SMSC got from %s, for no reason known or once more than that, %s", e.SystemID, e.Raw)
			continue
		}
		due[key] = due[key][1:]
	}
	for key, names := range due {
		for _, name := range names {
			o.Errorf("%s: the SMSC did not get, without its sequence_number, %s", name, key)
		}
	}
}

// judgeReceipts wants one receipt for each message and destination, and no
// other.
func (o *operations) judgeReceipts() {
	o.Helper()
	sent := map[[2]string]string{}
	for _, e := range o.smsc.all("receipt") {
		sent[[2]string{e.ID, e.From}] = e.Raw
	}
	taken := map[string]int{}
	for _, e := range o.smsc.all("receipt-taken") {
		if e.Status != 0 {
			o.Errorf("the SMSC's receipt %s was answered with %#x", e.ID, e.Status)
		}
		taken[e.ID]++
	}
	for _, e := range o.smsc.all("receipt") {
		if taken[e.ID] != 1 {
			o.Errorf("the SMSC's receipt %s was answered %d times", e.ID, taken[e.ID])
		}
	}
	missing := maps.Clone(o.receipts)
	for _, e := range o.c.all("receipt") {
		key := [2]string{e.ID, e.From}
		want, ok := missing[key]
		delete(missing, key)
		if !ok {
			o.Errorf("receipt %s of id %s from %s: want none, or no second one", e.Raw, e.ID, e.From)
			continue
		}
		stat := map[int]string{2: " stat:DELIVRD ", 4: " stat:DELETED "}[want.state]
		if e.ESMClass != 4 || e.State != want.state || e.Channel != want.channel || !strings.HasPrefix(e.Text, "id:"+e.ID+" ") || !strings.Contains(e.Text, stat) {
			o.Errorf("%s: receipt %s: %+v, want state %d and channel %q", want.name, e.Raw, e, want.state, want.channel)
		}
		if addresses := "00" + smeOctets(e.From) + "0500" + hex.EncodeToString([]byte(cmp.Or(want.to, "NODE"))); !strings.HasPrefix(e.Raw[32:], addresses) {
			o.Errorf("%s: receipt %s, want service_type and addresses %s in it", want.name, e.Raw, addresses)
		}
		if want.passed && !sameButSequence(e.Raw, sent[key]) {
			o.Errorf("%s: receipt\ngot  %s\nwant %s, but for the sequence", want.name, e.Raw, sent[key])
		}
	}
	for key, want := range missing {
		o.Errorf("%s: no receipt of id %s from %s", want.name, key[0], key[1])
	}
}

// judgeClaims wants each text claimed once, on the phone of its number, and no
// other notification.
func (o *operations) judgeClaims() {
	o.Helper()
	lines, err := books.Read[books.HandsetLine](o.path("handset.ndjson"))
	if err != nil {
		o.Fatal(err)
	}
	for key, name := range o.claims {
		i := slices.IndexFunc(lines, func(l books.HandsetLine) bool {
			return l.Number == key[0] && l.Text == books.Sum([]byte(key[1]))
		})
		if i < 0 {
			o.Errorf("%s: nobody claimed %q at %s: %+v", name, key[1], key[0], lines)
			continue
		}
		if l := lines[i]; l.Claim != 200 || l.Delivered/100 != 2 || l.From != "NODE" || l.Fault != "" {
			o.Errorf("%s: phone's book %+v, want the text claimed and delivered", name, l)
		}
	}
	if len(lines) != len(o.claims) {
		o.Errorf("the phones got %d messages, want %d: %+v", len(lines), len(o.claims), lines)
	}
}

// tallies are the requests of each side by command_id, as node has them.
func (o *operations) tallies() (before, behind map[pdu.ID]int) {
	o.Helper()
	before = map[pdu.ID]int{pdu.DeliverSM: len(o.c.all("receipt"))}
	behind = map[pdu.ID]int{pdu.DeliverSM: len(o.smsc.all("receipt"))}
	count := func(side map[pdu.ID]int, list []event) {
		for _, e := range list {
			id, err := strconv.ParseUint(e.Raw[8:16], 16, 32)
			if err != nil {
				o.Fatal(err)
			}
			side[pdu.ID(id)]++
		}
	}
	count(before, o.c.all("answer"))
	count(behind, o.arrived())
	return before, behind
}
