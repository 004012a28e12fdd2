//go:build interop

package pdu_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"shunt/smpp/pdu"
)

// tshark finds a program of the package tshark, and installs that where it is
// missing. Without it there is no judge, and the test fails.
func tshark(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err == nil {
		return path
	}
	t.Logf("%s is missing: apt-get install tshark", program)
	out, err := exec.Command("apt-get", "-o", "DPkg::Lock::Timeout=120", "install", "-y", "--no-install-recommends", "tshark").CombinedOutput()
	if err != nil {
		t.Fatalf("%s is missing, and apt-get install tshark failed: %v\n%s", program, err, out)
	}
	if path, err = exec.LookPath(program); err != nil {
		t.Fatal(err)
	}
	return path
}

// run gives what a program writes to its standard output.
func run(t *testing.T, path string, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(path, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(path), strings.Join(args, " "), err, errs.String())
	}
	return out.String()
}

// judged is p as tshark may see it: without broadcast_rep_num, of whose two
// octets (SMPP v5.0 §4.8.4) tshark 4.0 reads one and loses its place.
func judged(t *testing.T, p pdu.PDU) pdu.PDU {
	t.Helper()
	if p.ID() != pdu.BroadcastSM {
		return p
	}
	var m pdu.Broadcast
	if err := m.Decode(p); err != nil {
		t.Fatal(err)
	}
	var rest pdu.TLVs
	for tag, v := range m.TLVs.All() {
		if tag != pdu.TagBroadcastRepNum {
			rest = pdu.AppendTLV(rest, tag, v)
		}
	}
	m.TLVs = rest
	return m.Append(nil, p.Seq())
}

// TestTsharkGolden gives every golden PDU to tshark's dissector: none is
// malformed, and tshark reads the header and the fields that this package
// reads.
func TestTsharkGolden(t *testing.T) {
	dir := t.TempDir()
	var dump strings.Builder
	all := vectors()
	for _, v := range all {
		p := judged(t, golden(t, v.name))
		for i := 0; i < len(p); i += 16 {
			fmt.Fprintf(&dump, "%06x % x\n", i, []byte(p[i:min(i+16, len(p))]))
		}
		dump.WriteString("\n")
	}
	text, pcap := filepath.Join(dir, "golden.txt"), filepath.Join(dir, "golden.pcap")
	if err := os.WriteFile(text, []byte(dump.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, tshark(t, "text2pcap"), "-q", "-T", "2775,40000", text, pcap)
	args := []string{"-r", pcap, "-d", "tcp.port==2775,smpp", "-T", "fields", "-E", "separator=|", "-E", "aggregator=,"}
	fields := []string{
		"_ws.malformed", "_ws.expert.message", "smpp.command_length", "smpp.command_id", "smpp.command_status", "smpp.sequence_number",
		"smpp.message_id", "smpp.source_addr", "smpp.destination_addr", "smpp.dl_name", "smpp.error_status_code", "smpp.opt_param_tag",
	}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	lines := strings.Split(strings.TrimRight(run(t, tshark(t, "tshark"), args...), "\n"), "\n")
	if len(lines) != len(all) {
		t.Fatalf("tshark sees %d packets, want %d", len(lines), len(all))
	}
	for i, v := range all {
		got := strings.Split(lines[i], "|")
		if len(got) != len(fields) {
			t.Fatalf("%s: tshark says %q, want %d fields", v.name, lines[i], len(fields))
		}
		want := seen(judged(t, golden(t, v.name)), v.id)
		if !slices.Equal(got, want) {
			t.Errorf("%s: tshark reads\n got %q\nwant %q", v.name, got, want)
		}
	}
}

// seen is what tshark must see of p: no fault, and what p decodes to.
func seen(p pdu.PDU, id pdu.ID) []string {
	number := func(n uint32) string { return fmt.Sprintf("0x%08x", n) }
	status := ""
	if id.IsResponse() {
		status = number(uint32(p.Status()))
	}
	var messageID, source, dest, lists, errs, tags []string
	name := func(list *[]string, s []byte) {
		if len(s) > 0 {
			*list = append(*list, string(s))
		}
	}
	var optional pdu.TLVs
	v, _ := decode(p, id)
	if id.IsResponse() && p.Status() != pdu.ROK {
		v = nil // tshark does not look into the body of an error
	}
	switch m := v.(type) {
	case *pdu.SM:
		name(&source, m.Source.Addr)
		name(&dest, m.Dest.Addr)
		optional = m.TLVs
	case *pdu.Data:
		name(&source, m.Source.Addr)
		name(&dest, m.Dest.Addr)
	case *pdu.Multi:
		name(&source, m.Source.Addr)
		for d := range m.Dests.All() {
			name(&dest, d.Address.Addr)
			name(&lists, d.List)
		}
	case *pdu.MultiResp:
		name(&messageID, m.MessageID)
		for u := range m.Unsuccess.All() {
			name(&dest, u.Address.Addr)
			errs = append(errs, number(uint32(u.Status)))
		}
	case *pdu.Query:
		name(&messageID, m.MessageID)
		name(&source, m.Source.Addr)
	case *pdu.QueryResp:
		name(&messageID, m.MessageID)
	case *pdu.Cancel:
		name(&messageID, m.MessageID)
		name(&source, m.Source.Addr)
		name(&dest, m.Dest.Addr)
	case *pdu.Replace:
		name(&messageID, m.MessageID)
		name(&source, m.Source.Addr)
	case *pdu.Alert:
		name(&source, m.Source.Addr)
	case *pdu.Broadcast:
		name(&messageID, m.MessageID)
		name(&source, m.Source.Addr)
	case *pdu.BroadcastQuery:
		name(&messageID, m.MessageID)
		name(&source, m.Source.Addr)
	case *pdu.BroadcastCancel:
		name(&messageID, m.MessageID)
		name(&source, m.Source.Addr)
	case *pdu.MessageResp:
		name(&messageID, m.MessageID)
	case string:
		name(&messageID, []byte(m))
	}
	if op, ok := v.(decodable); ok && optional == nil {
		optional = tlvsOf(op)
	}
	for tag := range optional.All() {
		tags = append(tags, fmt.Sprintf("0x%04x", uint16(tag)))
	}
	if b, ok := v.(*pdu.BindResp); ok && b.SCVersion != 0 {
		tags = append(tags, "0x0210")
	}
	join := func(l []string) string { return strings.Join(l, ",") }
	return []string{
		"", "", strconv.Itoa(len(p)), number(uint32(id)), status, strconv.FormatUint(uint64(p.Seq()), 10),
		join(messageID), join(source), join(dest), join(lists), join(errs), join(tags),
	}
}

// TestTsharkTables: every command and every single status that tshark's tables
// name has a name here too, but for commands of one vendor.
func TestTsharkTables(t *testing.T) {
	commands, statuses := 0, 0
	for line := range strings.Lines(run(t, tshark(t, "tshark"), "-G", "values")) {
		f := strings.Split(strings.TrimSpace(line), "\t")
		switch {
		case len(f) == 4 && f[0] == "V" && f[1] == "smpp.command_id":
			n, err := strconv.ParseUint(f[2], 0, 32)
			if err != nil {
				t.Fatal(err)
			}
			vendor := n&0x7F000000 != 0
			if id := pdu.ID(n); !vendor && strings.HasPrefix(id.String(), "command ") {
				t.Errorf("%v is tshark's %q", id, f[3])
			}
			commands++
		case len(f) == 5 && f[0] == "R" && f[1] == "smpp.command_status" && f[2] == f[3] && f[4] != "[Reserved]":
			n, err := strconv.ParseUint(f[2], 0, 32)
			if err != nil {
				t.Fatal(err)
			}
			if s := pdu.Status(n); !strings.Contains(s.String(), "ESME_") {
				t.Errorf("%v is tshark's %q", s, f[4])
			}
			statuses++
		}
	}
	if commands < 33 || statuses != 48+19 {
		t.Errorf("tshark knows %d commands and %d statuses, want 33 at least and %d", commands, statuses, 48+19)
	}
}
