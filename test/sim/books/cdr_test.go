package books

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// records are the sound ones of world.
func records() []CDR {
	line := func(seq uint64, id, state, channel string) CDR {
		return CDR{Seq: seq, Type: "message", ID: id, WireID: id, Account: "bank", State: state, Channel: channel}
	}
	return []CDR{
		line(1, "sCLAIMED", "DELIVERED", "app"), line(2, "sFELL", "SMS_DELIVERED", "carrier"),
		line(3, "sEXPIRED", "EXPIRED", ""), line(4, "sFAILED", "SMS_FAILED", "carrier"),
		line(5, "sANSWERCUT", "SMS_DELIVERED", "carrier"), // of the message without a response
	}
}

func TestRecords(t *testing.T) {
	for name, tc := range map[string]struct {
		spoil func([]CDR) []CDR
		want  map[string]int
	}{
		"sound": {func(c []CDR) []CDR { return c }, map[string]int{}},
		"by the wire's id": {func(c []CDR) []CDR {
			c[0].ID = "sANOTHER"
			return c
		}, map[string]int{}},
		"one missing at the end": {func(c []CDR) []CDR { return append(c[:3], CDR{Seq: 4, ID: "sANSWERCUT", Account: "bank"}) }, map[string]int{RecordMissing: 1}},
		"one missing in the middle": {func(c []CDR) []CDR {
			return append(c[:1], c[2:]...)
		}, map[string]int{RecordGap: 1, RecordMissing: 1}},
		"not from 1": {func(c []CDR) []CDR {
			for i := range c {
				c[i].Seq++
			}
			return c
		}, map[string]int{RecordGap: 1}},
		"one twice": {func(c []CDR) []CDR {
			again := c[1]
			again.Seq = 6
			return append(c, again)
		}, map[string]int{RecordDoubled: 1}},
		"one line twice": {func(c []CDR) []CDR { return append(c, c[4]) }, map[string]int{RecordDoubled: 1, RecordGap: 1}},
		"another state": {func(c []CDR) []CDR {
			c[0].State = "SMS_DELIVERED"
			return c
		}, map[string]int{RecordUntrue: 1}},
		"another channel": {func(c []CDR) []CDR {
			c[1].Channel = "app"
			return c
		}, map[string]int{RecordUntrue: 1}},
		"another account": {func(c []CDR) []CDR {
			c[1].Account = "shop"
			return c
		}, map[string]int{RecordUntrue: 1}},
		"of a message that nobody sent": {func(c []CDR) []CDR {
			return append(c, CDR{Seq: 6, ID: "sNOBODY", Account: "bank", State: "DELIVERED"})
		}, map[string]int{RecordStray: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			o := Options{ForwardedIDs: true}
			r := Reconcile(world(), o)
			if r.Diverted() != 4 {
				t.Errorf("Diverted() = %d, want 4", r.Diverted())
			}
			r.CDRs(tc.spoil(records()), o)
			if d := cmp.Diff(tc.want, r.Counts); d != "" {
				t.Errorf("faults (-want +got):\n%s%v", d, r.Faults)
			}
		})
	}
}

// An SMS that the SMSC took, and whose answer was cut off, ends UNKNOWN; a
// message that was claimed and never acknowledged has no record yet.
func TestRecordsOfTheExceptions(t *testing.T) {
	o := Options{PendingClaimed: true, Ask: says(
		Word{ID: "sFELL", State: "UNKNOWN", SMSAttempts: 1}, Word{ID: "sEXPIRED", State: "EXPIRED"}, Word{ID: "sCLAIMED", State: "CLAIMED"},
	)}
	b := world()
	b.ESME[expiredAt].Validity = 10
	b.ESME[fellAt].Asked, b.ESME[fellAt].Receipts = false, nil
	b.ESME[claimedAt].Receipts, b.Handset[0].Delivered, b.Handset[0].Read = nil, 0, 0
	c := records()[1:]
	c[0].State = "UNKNOWN"
	for i := range c {
		c[i].Seq = uint64(i + 1)
	}
	r := Reconcile(b, o)
	if r.CDRs(c, o); !r.OK() || r.Records != 4 {
		t.Errorf("%d records, faults %v; want 4 and none", r.Records, r.Faults)
	}
	o.Ask = says(Word{ID: "sFELL", State: "SMS_DELIVERED", SMSAttempts: 1}, Word{ID: "sEXPIRED", State: "EXPIRED"})
	r = Reconcile(b, o)
	if r.CDRs(c, o); !cmp.Equal(r.Counts, map[string]int{RecordUntrue: 1}) {
		t.Errorf("UNKNOWN of an SMS that was answered: %v, want one untrue record", r.Counts)
	}
}

func TestRecordsOnDisk(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, lines ...string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("b.jsonl", `{"seq":1,"type":"message","id":"s1","state":"DELIVERED"}`, `{"type":"forwarded","count":7}`, `{"seq":2,"type":"message","id":"s2"}`)
	write("a.jsonl", `{"seq":3,"type":"message","id":"s3","more":[1]}`)
	write("empty.jsonl")
	if err := os.Truncate(filepath.Join(dir, "empty.jsonl"), 0); err != nil {
		t.Fatal(err)
	}
	write("other.txt", "no record")
	got, err := ReadCDRs(dir)
	var ids []string
	for _, c := range got {
		ids = append(ids, c.ID)
	}
	if d := cmp.Diff([]string{"s1", "s2", "s3"}, ids); d != "" || err != nil {
		t.Errorf("ReadCDRs: %v (-want +got):\n%s", err, d)
	}
	write("c.jsonl", `{"seq":4,"type":"message"}`, `{"seq":5,"ty`)
	if _, err := ReadCDRs(dir); err == nil || !strings.Contains(err.Error(), "c.jsonl:2") {
		t.Errorf("ReadCDRs with half a line: %v, want its file and line", err)
	}
}
