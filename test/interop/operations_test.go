//go:build interop

package interop

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
	"time"

	"shunt/smpp/pdu"
)

// holdFor is how long the gateway waits for the missing parts of a long message.
const holdFor = 30 * time.Second

// TestForeignOperations holds every operation but submit_sm of whole messages
// against npm's smpp on both sides, and long messages that lack a part or fall
// back.
func TestForeignOperations(t *testing.T) {
	s := set(t)
	wire := capture(t, s)
	o := &operations{
		T: t, scene: s, c: startESME(t, s),
		due: map[string][]string{}, receipts: map[[2]string]receipt{}, claims: map[[2]string]string{},
	}
	began := time.Now()
	holed := o.holed() // all else goes on while its parts are held
	o.long()
	o.multi()
	o.multiOfOurs()
	o.data()
	o.query()
	o.cancel()
	o.replace()
	o.passed()
	for _, e := range holed {
		o.stateOf(with(about(e.ID), holedSender), pdu.ROK, enroute(e.ID))
	}
	// Theirs come last, and nothing of them before its time.
	o.c.within(t, holdFor+patience, "every receipt", func() bool { return len(o.c.all("receipt")) >= len(o.receipts) })
	for _, e := range holed {
		o.stateOf(with(about(e.ID), holedSender), pdu.ROK, final(e.ID, 2))
	}
	s.smsc.until(t, "the answers to its receipts", func() bool { return len(s.smsc.all("receipt-taken")) >= len(s.smsc.all("receipt")) })
	// tshark takes a command_id that it does not know for no SMPP at all, and
	// loses the PDU behind it too: its part ends before there is one.
	before, behind := o.tallies()
	wire.finish(t)
	o.vendor()
	o.c.end(t, s)
	o.judge(holed, began)
	pdus := wire.judge(t, before, behind)
	t.Logf("npm smpp 0.5.1 on both sides: %d requests, %d receipts, %d claims, %d requests at the SMSC; tshark: %s",
		o.c.asked, len(o.receipts), len(o.claims), len(o.arrived()), pdus)
}

// operations is the scenario: what is done, and what must come of it. A message
// is told by its octets, or by the message_id and the number of its receipt.
type operations struct {
	*testing.T
	*scene
	c *client

	due      map[string][]string   // at the SMSC: what for, by system_id and octets
	receipts map[[2]string]receipt // by message_id and number
	claims   map[[2]string]string  // in the app: what for, by number and text
}

// receipt is what an ESME must be told.
type receipt struct {
	name    string
	state   int
	channel string // app or carrier; empty: Shunt sent it, and neither took the message
	passed  bool   // it is the SMSC's
	to      string // the message's sender; empty: NODE
}

// ask sends a request and returns its answer, which must have that status.
func (o *operations) ask(command string, options words, status pdu.Status) event {
	o.Helper()
	e := o.c.answer(o.T, o.c.ask(o.T, command, options))
	if e.Status != int(status) {
		o.Fatalf("%s %s: answered %s with status %#x, want %#x", command, e.Raw, e.Back, e.Status, uint32(status))
	}
	return e
}

// ours is ask for a message that the gateway must take.
func (o *operations) ours(command string, options words) event {
	o.Helper()
	e := o.ask(command, options, pdu.ROK)
	if !isOurs.MatchString(e.ID) {
		o.Fatalf("%s %s: message_id %q, want s and a ULID", command, e.Raw, e.ID)
	}
	return e
}

// smscGets notes what the SMSC must get, on a bind of that system_id.
func (o *operations) smscGets(name, systemID, raw string) {
	key := systemID + " " + unnumbered(raw)
	o.due[key] = append(o.due[key], name)
}

func (o *operations) fallsBack(name, id, number, raw string) {
	o.smscGets(name, "shunt", raw)
	o.receipts[[2]string{id, number}] = receipt{name: name, state: 2, channel: "carrier"}
}

func (o *operations) inApp(name, number, text string, ids ...string) {
	o.claims[[2]string{number, text}] = name
	for _, id := range ids {
		o.receipts[[2]string{id, number}] = receipt{name: name, state: 2, channel: "app"}
	}
}

// passes judges a request that the SMSC must get and answer, octet by octet.
func (o *operations) passes(name string, e event) {
	o.Helper()
	o.smscGets(name, "node", e.Raw)
	var at event
	o.smsc.until(o.T, name, func() bool {
		for _, at = range o.smsc.all("request") {
			if at.SystemID == "node" && unnumbered(at.Raw) == unnumbered(e.Raw) {
				return true
			}
		}
		return false
	})
	if !sameButSequence(at.Back, e.Back) {
		o.Errorf("%s: answer\ngot  %s\nwant %s, but for the sequence", name, e.Back, at.Back)
	}
}

// udhPart and sarPart are a part of a long message each, told by a user data
// header with an 8-bit reference, and by sar_*.
func udhPart(reference, total, number int, text string) words {
	return words{"esm_class": 0x40, "short_message": words{"udh": fmt.Sprintf("050003%02x%02x%02x", reference, total, number), "message": text}}
}

func sarPart(reference, total, number int, text string) words {
	return words{
		"sar_msg_ref_num": reference, "sar_total_segments": total, "sar_segment_seqnum": number, "short_message": text,
	}
}

var holedSender = words{"source_addr": "HOLED"}

// holed is a long message without its second part: the phone is on, and yet
// the others go by carrier. It has a sender of its own, whose later messages to
// that phone would wait for it.
func (o *operations) holed() (parts []event) {
	for _, number := range []int{1, 3} {
		text := fmt.Sprintf("Part %d of a letter with a hole.", number)
		e := o.ours("submit_sm", with(basics(claimingAPNs), holedSender, udhPart(0x77, 3, number, text)))
		o.fallsBack("part of a letter with a hole", e.ID, claimingAPNs, e.Raw)
		r := o.receipts[[2]string{e.ID, claimingAPNs}]
		r.to = "HOLED"
		o.receipts[[2]string{e.ID, claimingAPNs}] = r
		parts = append(parts, e)
	}
	return parts
}

// long are messages whose parts are told by sar_*, of which a fallback has the
// same octets, and by a user data header, last part first.
func (o *operations) long() {
	texts := []string{"A sar_ letter [€]: ", "its second part, ", "and its end."}
	var ids []string
	for i, text := range texts {
		e := o.ours("submit_sm", with(basics(offlineAPNs), sarPart(0x1234, len(texts), i+1, text)))
		o.fallsBack("sar_ part to a phone that is off", e.ID, offlineAPNs, e.Raw)
	}
	for i, text := range texts {
		e := o.ours("submit_sm", with(basics(claimingFCM), sarPart(0x1234, len(texts), i+1, text)))
		ids = append(ids, e.ID)
	}
	o.inApp("sar_ letter", claimingFCM, strings.Join(texts, ""), ids...)
	ids = nil
	for i := len(texts); i > 0; i-- {
		e := o.ours("submit_sm", with(basics(claimingFCM), udhPart(0x34, len(texts), i, strings.ToUpper(texts[i-1]))))
		ids = append(ids, e.ID)
	}
	o.inApp("letter from its end", claimingFCM, strings.ToUpper(strings.Join(texts, "")), ids...)
}

// smeOctets is the same on the wire, without its dest_flag, in hexadecimal.
func smeOctets(number string) string { return "0101" + hex.EncodeToString([]byte(number)) + "00" }

const friends = "friends"

func multiWords(text string, dests ...words) words {
	return with(source(), words{"dest_address": dests, "registered_delivery": 1, "data_coding": 0, "short_message": text, "vendor_note": "note 43"})
}

// multi is a submit_multi of which some is for the SMSC.
func (o *operations) multi() {
	const text = "To many [€]"
	e := o.ask("submit_multi", multiWords(text, dest(unregistered), dest(claimingAPNs), words{"dl_name": friends}, dest(offlineFCM)), pdu.ROK)
	list := "02" + hex.EncodeToString([]byte(friends)) + "00"
	head, tail, ok := strings.Cut(e.Raw, "0401"+smeOctets(unregistered)+"01"+smeOctets(claimingAPNs)+list+"01"+smeOctets(offlineFCM))
	if !ok {
		o.Fatalf("node's submit_multi %s, want its four destinations", e.Raw)
	}
	o.smscGets("rest of a submit_multi", "node", sized(head+"0201"+smeOctets(unregistered)+list+tail))
	if want := hex.EncodeToString(append([]byte(e.ID), 0, 0)); e.Back[32:] != want {
		o.Errorf("submit_multi: answered %s, want the body %s: message_id, no_unsuccess 0", e.Back, want)
	}
	o.receipts[[2]string{e.ID, unregistered}] = receipt{name: "submit_multi", state: 2, passed: true}
	o.inApp("submit_multi", claimingAPNs, text, e.ID)
	o.fallsBack("submit_multi", e.ID, offlineFCM, single(head, offlineFCM, tail))
	o.smsc.until(o.T, "the rest of a submit_multi, under the id that was answered", func() bool {
		at := o.smsc.all("request")
		return len(at) > 0 && at[len(at)-1].ID == e.ID
	})
}

// multiOfOurs is a submit_multi to registered numbers alone: not a PDU of it
// reaches the SMSC, but for the fallback.
func (o *operations) multiOfOurs() {
	const text = "To many with the app"
	e := o.ours("submit_multi", multiWords(text, dest(claimingFCM), dest(offlineAPNs)))
	head, tail, ok := strings.Cut(e.Raw, "0201"+smeOctets(claimingFCM)+"01"+smeOctets(offlineAPNs))
	if !ok {
		o.Fatalf("node's submit_multi %s, want its two destinations", e.Raw)
	}
	if want := hex.EncodeToString(append([]byte(e.ID), 0, 0)); e.Back[32:] != want {
		o.Errorf("submit_multi: answered %s, want the body %s: message_id, no_unsuccess 0", e.Back, want)
	}
	o.inApp("submit_multi of ours", claimingFCM, text, e.ID)
	o.fallsBack("submit_multi of ours", e.ID, offlineAPNs, single(head, offlineAPNs, tail))
}

// single is the submit_sm to one destination that a submit_multi stands for.
func single(head, number, tail string) string {
	return sized(head[:8] + "00000004" + head[16:] + smeOctets(number) + tail)
}

// sized sets command_length.
func sized(raw string) string { return fmt.Sprintf("%08x", len(raw)/2) + raw[8:] }

// unnumbered is a PDU without its sequence_number.
func unnumbered(raw string) string { return raw[:24] + raw[32:] }

// data are data_sm, which have their text in message_payload.
func (o *operations) data() {
	say := func(to string) words {
		return with(basics(to), words{"data_coding": 8, "message_payload": "Письмо " + to + " 📦", "vendor_note": "note 44"})
	}
	e := o.ask("data_sm", say(unregistered), pdu.ROK)
	o.passes("data_sm", e)
	o.receipts[[2]string{e.ID, unregistered}] = receipt{name: "data_sm", state: 2, passed: true}
	e = o.ours("data_sm", say(claimingAPNs))
	o.inApp("data_sm", claimingAPNs, "Письмо "+claimingAPNs+" 📦", e.ID)
	e = o.ours("data_sm", say(offlineFCM))
	o.fallsBack("data_sm", e.ID, offlineFCM, e.Raw)
}

// about is a query_sm, cancel_sm or replace_sm of that message.
func about(id string) words { return with(source(), words{"message_id": id}) }

// state asks for a message's state; what is the answer's body, in hexadecimal.
// The library turns final_date into a Date in local time: the octets count.
func (o *operations) state(id string, status pdu.Status, what func(body []byte) string) {
	o.Helper()
	o.stateOf(about(id), status, what)
}

func (o *operations) stateOf(message words, status pdu.Status, what func(body []byte) string) {
	o.Helper()
	e := o.ask("query_sm", message, status)
	b, err := hex.DecodeString(e.Back[32:])
	if err != nil {
		o.Fatal(err)
	}
	if fault := what(b); fault != "" {
		o.Errorf("query_sm %s: answered %s: %s", e.Raw, e.Back, fault)
	}
}

func enroute(id string) func([]byte) string {
	return func(b []byte) string {
		if want := append([]byte(id), 0, 0, 1, 0); !bytes.Equal(b, want) {
			return fmt.Sprintf("want the body % x: no final_date, ENROUTE", want)
		}
		return ""
	}
}

func final(id string, state byte) func([]byte) string {
	return func(b []byte) string {
		rest, ok := bytes.CutPrefix(b, append([]byte(id), 0))
		if !ok || len(rest) != 19 || string(rest[13:17]) != "00+\x00" || rest[17] != state || rest[18] != 0 {
			return fmt.Sprintf("want the message_id, a final_date in UTC, state %d and error_code 0", state)
		}
		at, err := time.Parse("060102150405", string(rest[:12]))
		if since := time.Since(at); err != nil || since < 0 || since > 2*time.Minute {
			return fmt.Sprintf("final_date %s, %v, want one of just now in UTC", rest[:16], err)
		}
		return ""
	}
}

// told waits for the receipt of a message.
func (o *operations) told(id string) {
	o.Helper()
	o.c.until(o.T, "the receipt of "+id, func() bool {
		for _, r := range o.c.all("receipt") {
			if r.ID == id {
				return true
			}
		}
		return false
	})
}

// query asks for a message of ours before and after its outcome, for one of
// the SMSC's, and for one of ours in somebody else's name.
func (o *operations) query() {
	e := o.ours("submit_sm", with(basics(offlineAPNs), words{"short_message": "Where am I?"}))
	o.fallsBack("queried", e.ID, offlineAPNs, e.Raw)
	o.state(e.ID, pdu.ROK, enroute(e.ID))
	o.ask("query_sm", with(about(e.ID), words{"source_addr": "OTHER"}), pdu.RQUERYFAIL)
	o.told(e.ID)
	o.state(e.ID, pdu.ROK, final(e.ID, 2))
	o.ask("cancel_sm", with(about(e.ID), dest(offlineAPNs)), pdu.RCANCELFAIL)
	o.passes("query_sm of theirs", o.ask("query_sm", about(o.theirs("Where is this?")), pdu.ROK))
}

// theirs is the message_id of a message of the SMSC's.
func (o *operations) theirs(text string) string {
	o.Helper()
	e := o.ask("submit_sm", with(basics(unregistered), words{"short_message": text}), pdu.ROK)
	o.smscGets("submit_sm", "node", e.Raw)
	o.receipts[[2]string{e.ID, unregistered}] = receipt{name: "submit_sm", state: 2, passed: true}
	return e.ID
}

// cancel takes messages back before anybody has them, by their message_id and
// by their addresses.
func (o *operations) cancel() {
	gone := receipt{name: "cancelled", state: 4}
	e := o.ours("submit_sm", with(basics(offlineFCM), words{"short_message": "Never mind"}))
	request := with(about(e.ID), dest(offlineFCM))
	o.ask("cancel_sm", request, pdu.ROK)
	o.receipts[[2]string{e.ID, offlineFCM}] = gone
	o.told(e.ID)
	o.state(e.ID, pdu.ROK, final(e.ID, 4))
	o.ask("cancel_sm", request, pdu.ROK) // repeated: it is cancelled

	other := words{"source_addr": "NODE2"}
	e = o.ours("submit_sm", with(basics(offlineFCM), other, words{"short_message": "Never mind either"}))
	all := o.ask("cancel_sm", with(source(), other, dest(offlineFCM)), pdu.ROK)
	o.passes("cancel_sm of all", all)
	o.receipts[[2]string{e.ID, offlineFCM}] = gone

	o.passes("cancel_sm of theirs", o.ask("cancel_sm", with(about(o.theirs("Mind this")), dest(unregistered)), pdu.ROK))
}

// replace changes the text of a message before anybody has it. The library
// knows no data_coding there and writes the GSM alphabet whatever the message
// has; so the message has it too.
func (o *operations) replace() {
	const before, after = "The old text", "The new text [€], and longer"
	e := o.ours("submit_sm", with(basics(offlineAPNs), words{"short_message": before, "vendor_note": "note 45"}))
	changed := words{"registered_delivery": 1, "short_message": after}
	r := o.ask("replace_sm", with(about(e.ID), changed), pdu.ROK)
	// short_message is the end of both PDUs but for a TLV, and begins at its length.
	_, octets, ok := strings.Cut(r.Raw, hex.EncodeToString([]byte("NODE"))+"000000"+"0100")
	head, tail, found := strings.Cut(e.Raw, fmt.Sprintf("%02x", len(before))+hex.EncodeToString([]byte(before)))
	if !ok || !found {
		o.Fatalf("node's submit_sm %s and replace_sm %s, want their texts in them", e.Raw, r.Raw)
	}
	o.fallsBack("replaced", e.ID, offlineAPNs, sized(head+octets+tail))
	o.told(e.ID)
	o.ask("replace_sm", with(about(e.ID), changed), pdu.RREPLACEFAIL)
	o.passes("replace_sm of theirs", o.ask("replace_sm", with(about(o.theirs("Keep this")), changed), pdu.ROK))
}

// passed are operations that Shunt has nothing to do with. broadcast_rep_num,
// which v5.0 wants, is left out: tshark 4.0 reads one octet of its two, and
// finds malformed what follows.
func (o *operations) passed() {
	e := o.ask("broadcast_sm", with(source(), words{
		"data_coding": 0, "message_payload": "To all in the area", "broadcast_area_identifier": []string{"Area 51"},
		"broadcast_content_type":       words{"network": 1, "content_type": 2},
		"broadcast_frequency_interval": words{"unit": 9, "interval": 5},
	}), pdu.ROK)
	o.passes("broadcast_sm", e)
	o.passes("query_broadcast_sm", o.ask("query_broadcast_sm", about(e.ID), pdu.ROK))
	o.passes("cancel_broadcast_sm", o.ask("cancel_broadcast_sm", about(e.ID), pdu.ROK))
}

// vendor is an operation that only its vendor knows. The library gives away
// the header of one alone, and has no words to ask for it: the octets count.
func (o *operations) vendor() {
	o.Helper()
	const vendor = 0x00010203 // SMPP v3.4 §5.1.2.1: 0x00010200 to 0x000102FF are vendors'
	b := pdu.AppendHeader(nil, vendor, pdu.ROK, 0)
	b = append(b, 0xDE, 0xAD, 0x00, 0xBE, 0xEF)
	binary.BigEndian.PutUint32(b, uint32(len(b)))
	e := o.c.answer(o.T, o.c.octets(o.T, b))
	if e.Status != 0 || e.Back[8:16] != "80010203" {
		o.Errorf("vendor operation %s: answered %s, want its response", e.Raw, e.Back)
	}
	o.passes("vendor operation", e)
}
