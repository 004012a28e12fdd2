package noc

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"shunt/gateway/msg"
	"shunt/gateway/number"
	"shunt/store/registry"
)

func (r *rig) load(text, format string, skipBad, dryRun bool) (res ImportResult, faults []string, err error) {
	r.t.Helper()
	res, err = r.Import(r.t.Context(), strings.NewReader(text), format, skipBad, dryRun, func(e *ImportEvent) {
		if e.Fault != nil {
			faults = append(faults, fmt.Sprintf("%d:%d: %s", e.Fault.Line, e.Fault.Column, e.Fault.Text))
		}
	})
	return res, faults, err
}

const csvHead = "number,app,platform,token,device,bearer,state\n"

// Lines are read by the country of their app, and faults say what is wrong with a
// number.
func TestImportOfNationalNumbers(t *testing.T) {
	r := newRig(t)
	gb, err := number.In("GB")
	if err != nil {
		t.Fatal(err)
	}
	fr, err := number.In("FR")
	if err != nil {
		t.Fatal(err)
	}
	r.server.o.Country = func(app string) number.Country {
		if app == "bavard" {
			return fr
		}
		return gb
	}
	good := csvHead + strings.Join([]string{
		"07700 900042,chat,fcm,secret-token-1,phone-1,bearer-of-number-1,active",
		"447700900043,chat,fcm,secret-token-2,phone-2,bearer-of-number-2,active",
		"0044 7700 900044,bavard,fcm,secret-token-3,phone-3,bearer-of-number-3,active",
		"06 12 34 56 78,bavard,fcm,secret-token-4,phone-4,bearer-of-number-4,active",
	}, "\n")
	res, faults, err := r.load(good, FormatCSV, false, false)
	if want := (ImportResult{Lines: 4, Put: 4}); res != want || len(faults) > 0 || err != nil {
		t.Errorf("import = %+v, %q, %v, want %+v", res, faults, err, want)
	}
	for _, n := range []msg.Number{447700900042, 447700900043, 447700900044, 33612345678} {
		if _, err := r.reg.Get(n); err != nil {
			t.Errorf("registry has not %s: %v", n, err)
		}
	}
	if reg, err := r.Get(t.Context(), "07700 900-042", true); err != nil || reg.Number != "+447700900042" {
		t.Errorf("get = %+v, %v", reg, err)
	}
	if a, err := r.Put(t.Context(), "06/87/65/43/21", Put{App: "bavard", Platform: "fcm", Token: "t"}, true); err != nil || a.Registration.Number != "+33687654321" {
		t.Errorf("put = %+v, %v", a, err)
	}
	bad := csvHead + strings.Join([]string{
		"0770090,chat,fcm,secret-token,phone,bearer-of-number-5,active",
		"+33612345,chat,fcm,secret-token,phone,bearer-of-number-6,active",
		"+999700900042,chat,fcm,secret-token,phone,bearer-of-number-7,active",
		"alice,chat,fcm,secret-token,phone,bearer-of-number-8,active",
	}, "\n")
	_, faults, err = r.load(bad, FormatCSV, false, false)
	wantProblem(t, "import", err, 400, CodeInvalid, "4 of 4 lines are wrong", "nothing was changed")
	want := []string{
		`2:1: number "••••": want 7, 9 or 10 digits behind the 0 of a national number`,
		`3:1: number "••••": has 6 digits behind +33, want 9`,
		`4:1: number "+9997••••0042": no country has a calling code that begins like this`,
		`5:1: number "••••": want digits, with a leading + or not, set apart by nothing but blanks, hyphens, dots, slashes and brackets`,
	}
	if diff := cmp.Diff(want, faults); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
}

func TestImportRefusesWholly(t *testing.T) {
	r := newRig(t)
	long := strings.Repeat("x", 65)
	text := csvHead + strings.Join([]string{
		"+447700900042,chat,fcm,secret-token,phone,bearer-of-number-1,active",
		"12,chat,fcm,secret-token,phone,bearer-of-number-2,active",
		"+447700900043,chat,carrier-pigeon,secret-token,phone,bearer-of-number-3,active",
		"+447700900043,chat,fcm,secret-token,phone,bearer-of-number-3,asleep",
		`+447700900043,"chat,fcm,secret-token,phone,bearer-of-number-3,active`,
		"+447700900043,chat,fcm,secret-token,phone",
		"+447700900043,chat,fcm,secret-token,phone,bearer-of-number-3,active,more",
		"+447700900043,chat,fcm,secret-token," + long + ",bearer-of-number-3,",
		"+447700900043,chat,fcm,secret-token,phone,sha256:12,active",
		"+447700900044,chat,fcm,secret-token,phone,bearer-of-number-1,active",
		"+447700900045,chta,fcm,secret-token,phone,bearer-of-number-5,active",
	}, "\n")
	res, faults, err := r.load(text, FormatCSV, false, false)
	wantProblem(t, "import", err, 400, CodeInvalid, "10 of 11 lines are wrong", "nothing was changed", "--skip-bad")
	want := []string{
		`3:1: number "••••": not an E.164 number: want 7 to 15 digits, country code first, with or without a leading +`,
		`4:20: platform: invalid registration: want apns or fcm`,
		`5:62: state: invalid registration: want active or inactive`,
		`6:15: a field's closing " is missing`,
		`7:0: 5 fields, want the header's 7`,
		`8:69: more fields than the header's 7`,
		`9:37: device: want 1 to 64 printable ASCII characters without blanks or slash`,
		`10:43: bearer: want sha256: and 64 hexadecimal digits, or the bearer itself`,
		`11:0: bearer: line 2 has it too, and it can be of one device only`,
		`12:15: app: invalid registration: "chta" is not in the configuration: want chat, bank or bavard`,
	}
	if diff := cmp.Diff(want, faults); diff != "" {
		t.Errorf("faults (-want +got):\n%s", diff)
	}
	if n := r.reg.Count(); res != (ImportResult{}) || n != (registry.Count{}) {
		t.Errorf("result %+v, count %+v, want nothing", res, n)
	}
	res, _, err = r.load(text, FormatCSV, true, true)
	if want := (ImportResult{Lines: 11, Wrong: 10, DryRun: true}); res != want || err != nil {
		t.Errorf("dry run = %+v, %v, want %+v", res, err, want)
	}
	res, _, err = r.load(text, FormatCSV, true, false)
	if want := (ImportResult{Lines: 11, Wrong: 10, Put: 1}); res != want || err != nil || r.reg.Count().Numbers != 1 {
		t.Errorf("import without the bad = %+v, %v, want %+v", res, err, want)
	}
	for name, text := range map[string]string{
		"column 3 of the header": "number,app,colour\n",
		"no column token":        "number,app,platform\n",
		"empty":                  "",
	} {
		_, _, err := r.load(text, FormatCSV, true, false)
		wantProblem(t, name, err, 400, CodeInvalid, name)
	}
	left, err := os.ReadDir(r.server.o.TempDir)
	if len(left) != 0 || err != nil {
		t.Errorf("temporary files = %v, %v, want none", left, err)
	}
}

// traits are what apps said of themselves and when numbers were proven.
func (r *rig) traits() (all map[string]registry.Device) {
	r.t.Helper()
	all = make(map[string]registry.Device)
	err := r.reg.Each(r.t.Context(), func(reg *registry.Registration) error {
		for _, d := range reg.Devices {
			all[d.ID] = registry.Device{Features: d.Features, Permission: d.Permission, Preference: d.Preference, Ownership: registry.Ownership{ProvenAt: d.ProvenAt}}
		}
		return nil
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return all
}

// NDJSON loses nothing of what an app has said of itself, into nobody and beside
// others; and CSV, which does not have it, takes nothing of it from a device that
// is there.
func TestImportKeepsTraits(t *testing.T) {
	from := newRig(t)
	from.put(alice, Put{App: "chat", Platform: "fcm", Token: "t", Device: "plain", Bearer: "a-bearer-of-somebody-1"})
	from.put(alice, Put{
		App: "bank", Platform: "fcm", Token: "t", Device: "odd", Bearer: "a-bearer-of-somebody-2",
		Features: &[]string{"read"}, Permission: "denied", Preference: 7, ProvenAt: time.Unix(1_750_000_000, 5).UTC(),
	})
	want := from.traits()
	if want["plain"].Features != registry.AllFeatures || want["odd"].Features != registry.FeatureRead || want["odd"].Preference != 7 {
		t.Fatalf("traits after a put = %+v", want)
	}
	var ndjson, csv bytes.Buffer
	for format, file := range map[string]*bytes.Buffer{FormatNDJSON: &ndjson, FormatCSV: &csv} {
		if _, err := from.Export(t.Context(), file, format, func(int64) {}); err != nil {
			t.Fatal(err)
		}
	}
	empty, live := newRig(t), newRig(t)
	live.put(bob, Put{App: "chat", Platform: "fcm", Token: "t", Device: "bobs", Bearer: "a-bearer-of-somebody-3"})
	for name, to := range map[string]*rig{"into nobody": empty, "beside another": live} {
		for _, file := range []struct{ format, text string }{{FormatNDJSON, ndjson.String()}, {FormatCSV, csv.String()}} {
			if _, faults, err := to.load(file.text, file.format, false, false); err != nil {
				t.Fatalf("%s: %v %v", name, faults, err)
			}
			got := to.traits()
			delete(got, "bobs")
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s, %s: (-want +got)\n%s", name, file.format, diff)
			}
		}
		if e := to.reg.Lookup(alice); e.NoReceipts() {
			t.Errorf("%s: the index says that no app acknowledges", name)
		}
	}
	_, faults, _ := from.load(`{"number":"+447700900042","app":"chat","platform":"fcm","token":"t","features":["telepathy"]}`+"\n"+
		`{"number":"+447700900042","app":"chat","platform":"fcm","token":"t","permission":"maybe"}`+"\n", FormatNDJSON, false, false)
	if len(faults) != 2 || !strings.Contains(faults[0], "want receipts, read, reply or rich") || !strings.Contains(faults[1], "want granted, denied or unknown") {
		t.Errorf("faults = %q", faults)
	}
}

// What was exported is imported elsewhere as it was, in both formats.
func TestExportImport(t *testing.T) {
	from := newRig(t)
	for i := range 30 {
		p := Put{App: "chat", Platform: "apns", Token: fmt.Sprintf("token,\"%d", i), Device: fmt.Sprintf("d%d", i), State: "inactive", Sandbox: i%2 == 0, Bearer: fmt.Sprintf("a-bearer-of-somebody-%d", i)}
		if i%3 == 0 {
			p.Features, p.Permission, p.Preference, p.ProvenAt = &[]string{"read", "reply"}, "denied", uint8(i), time.Unix(1_750_000_000, 5).UTC()
		}
		from.put(alice+msg.Number(i/2), p)
	}
	// What an external registry has told is not for an import.
	if err := from.reg.Tell(t.Context(), alice+100, "far", []registry.Told{{
		Device: "d", App: "chat", Platform: registry.FCM, Token: "told", Active: true, BearerHash: [32]byte{1},
	}}); err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{FormatCSV, FormatNDJSON} {
		t.Run(format, func(t *testing.T) {
			var file bytes.Buffer
			if n, err := from.Export(t.Context(), &file, format, func(int64) {}); n != 15 || err != nil {
				t.Fatalf("export = %d, %v, want 15 numbers", n, err)
			}
			if strings.Contains(file.String(), "a-bearer-of") {
				t.Error("the export has a bearer in it")
			}
			to := newRig(t)
			res, faults, err := to.load(file.String(), format, false, false)
			if want := (ImportResult{Lines: 30, Put: 30}); res != want || err != nil {
				t.Fatalf("import = %+v, %v, %v, want %+v", res, faults, err, want)
			}
			var again bytes.Buffer
			if _, err := to.Export(t.Context(), &again, format, func(int64) {}); again.String() != file.String() || err != nil {
				t.Errorf("the second export differs, %v:\n%s", err, cmp.Diff(file.String(), again.String()))
			}
			if n, d, err := to.reg.ByBearer("a-bearer-of-somebody-4"); n != alice+2 || d.Token != `token,"4` || !d.Sandbox || err != nil {
				t.Errorf("ByBearer = %s %+v %v", n, d, err)
			}
		})
	}
}

const importLine = "+447700900042,chat,fcm,secret-token,phone,bearer-of-number-1,active\n"

func TestOneImportAtATime(t *testing.T) {
	r := newRig(t)
	r.server.imports <- struct{}{} // one is under way
	_, _, err := r.load(csvHead+importLine, FormatCSV, false, false)
	wantProblem(t, "second import", err, 409, CodeConflict, "another import")
	<-r.server.imports
	if res, _, err := r.load(csvHead+importLine, FormatCSV, false, false); res.Put != 1 || err != nil {
		t.Errorf("import afterwards = %+v, %v, want 1 put", res, err)
	}
}

func TestImportOfALongLine(t *testing.T) {
	r := newRig(t)
	_, _, err := r.load(csvHead+importLine+strings.Repeat("x", maxLine+1), FormatCSV, true, false)
	wantProblem(t, "import with a long line", err, 413, CodeTooLarge, "line 3", "nothing was put")
	if n := r.reg.Count(); n.Numbers != 0 {
		t.Errorf("numbers = %d, want 0", n.Numbers)
	}
}

// A body that breaks off leaves nothing behind and frees the way.
func TestImportBreaksOff(t *testing.T) {
	r := newRig(t)
	body := &blocked{begun: make(chan struct{}), end: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := r.Import(ctx, body, FormatNDJSON, false, false, func(*ImportEvent) {})
		ended <- err
	}()
	<-body.begun
	cancel()
	close(body.end)
	if err := <-ended; err == nil {
		t.Error("import that breaks off = nil, want an error")
	}
	r.server.imports <- struct{}{} // until the broken one has ended
	<-r.server.imports
	if n := r.reg.Count(); n.Numbers != 0 {
		t.Errorf("numbers = %d, want 0", n.Numbers)
	}
}

// BenchmarkImport is a line of an import into a registry of nobody, checked, put
// and on stable storage; b.N is to be some 100,000 (-benchtime 300000x).
func BenchmarkImport(b *testing.B) {
	for name, form := range map[string]string{"plus": "+%d", "digits": "%d", "blanks": "+%d "} {
		b.Run(name, func(b *testing.B) {
			r := newRig(b)
			var text bytes.Buffer
			text.WriteString(csvHead)
			for i := range b.N {
				fmt.Fprintf(&text, form+",chat,apns,%064x,phone,bench-bearer-%015d,active\n", 447700000000+i, i, i)
			}
			b.ResetTimer()
			res, err := r.Import(b.Context(), &text, FormatCSV, false, false, func(*ImportEvent) {})
			if res.Put != b.N || err != nil {
				b.Fatalf("import = %+v, %v, want %d put", res, err, b.N)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lines/s")
		})
	}
}
