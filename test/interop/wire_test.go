//go:build interop

package interop

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"shunt/smpp/pdu"
)

// tap is a capture of both of the gateway's sides.
type tap struct {
	p      *part
	tshark string
	file   string
	ports  []string // before the gateway, behind it
	mark   net.Conn // UDP, within the capture's filter
}

func capture(t *testing.T, s *scene) *tap {
	t.Helper()
	w := &tap{tshark: need(t, "tshark", "tshark"), file: filepath.Join(s.dir, "wire.pcapng")}
	for _, addr := range []string{s.listen, s.behind} {
		_, port, err := net.SplitHostPort(addr)
		if err != nil {
			t.Fatal(err)
		}
		w.ports = append(w.ports, port)
	}
	sink, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err == nil {
		w.mark, err = net.Dial("udp", sink.LocalAddr().String())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.mark.Close(); _ = sink.Close() })
	_, udp, _ := net.SplitHostPort(sink.LocalAddr().String())
	w.p = run(t, s.dir, "dumpcap", need(t, "dumpcap", "wireshark-common"), "-i", "lo", "-B", "16", "-w", w.file,
		"-f", "tcp port "+w.ports[0]+" or tcp port "+w.ports[1]+" or udp port "+udp)
	w.p.until(t, "the capture", func() bool { return w.p.said("File:") })
	return w
}

// finish ends the capture when all that went over the wire is in it; again, it
// does nothing.
func (w *tap) finish(t *testing.T) {
	t.Helper()
	// The kernel hands packets over in blocks: a datagram that has arrived in
	// the file says that all before it have.
	last := []byte("the last packet of this capture")
	poll(t, "the end of the capture", w.p, func() bool {
		_, _ = w.mark.Write(last)
		b, err := os.ReadFile(w.file)
		return err == nil && bytes.Contains(b, last)
	})
	_ = w.p.cmd.Process.Signal(syscall.SIGINT)
	<-w.p.done
}

// read is a line of tab-separated fields for every packet that a filter finds.
func (w *tap) read(t *testing.T, filter string, fields ...string) []string {
	t.Helper()
	args := []string{"-r", w.file, "-Y", filter, "-T", "fields"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	for _, port := range w.ports {
		args = append(args, "-d", "tcp.port=="+port+",smpp")
	}
	out := strings.TrimSpace(output(t, "", w.tshark, args...))
	if out == "" {
		return nil
	}
	return strings.Split(out, "\n")
}

// malformed fails the test for every packet that tshark finds fault with.
func (w *tap) malformed(t *testing.T) {
	t.Helper()
	if bad := w.read(t, "_ws.malformed", "frame.number", "smpp.command_id", "tcp.port"); len(bad) > 0 {
		t.Errorf("tshark finds %d malformed packets: %q", len(bad), bad)
	}
}

// commands counts the PDUs of each side, before the gateway and behind it, by
// command_id as tshark reads it.
func (w *tap) commands(t *testing.T) (counts [2]tally) {
	t.Helper()
	for i, port := range w.ports {
		counts[i] = tally{}
		for _, line := range w.read(t, "smpp && tcp.port=="+port, "smpp.command_id") {
			for _, field := range strings.Split(line, ",") {
				id, err := strconv.ParseUint(field, 0, 32)
				if err != nil {
					t.Fatal(err)
				}
				counts[i][pdu.ID(id)]++
			}
		}
	}
	return counts
}

// tally is a number of PDUs by command_id.
type tally map[pdu.ID]int

func (c tally) String() string {
	var list []string
	for _, id := range slices.Sorted(maps.Keys(c)) {
		if !id.IsResponse() { // judge finds as many of each
			list = append(list, fmt.Sprintf("%d %s", c[id], id))
		}
	}
	return strings.Join(list, ", ")
}

func (c tally) total() (n int) {
	for _, k := range c {
		n += k
	}
	return n
}

// judge asks tshark what it saw: the requests given for each side, no others
// but binds, unbind and enquire_link, a response for each, and nothing
// malformed. It tells the numbers.
func (w *tap) judge(t *testing.T, before, behind map[pdu.ID]int) string {
	t.Helper()
	w.finish(t)
	w.malformed(t)
	seen := w.commands(t)
	for i, want := range []map[pdu.ID]int{before, behind} {
		side := [...]string{"before", "behind"}[i]
		for id, n := range seen[i] {
			request := id &^ (1 << 31)
			if seen[i][request] != seen[i][request.Response()] {
				t.Errorf("tshark saw %d %s %s the gateway, and %d responses", seen[i][request], request, side, seen[i][request.Response()])
			}
			session := id.IsBind() || id == pdu.Unbind || id == pdu.EnquireLink
			if !id.IsResponse() && !session && n != want[id] {
				t.Errorf("tshark saw %d %s %s the gateway, want %d", n, id, side, want[id])
			}
		}
		for id, n := range want {
			if n > 0 && seen[i][id] == 0 {
				t.Errorf("tshark saw no %s %s the gateway, want %d", id, side, n)
			}
		}
	}
	return fmt.Sprintf("%d PDUs, 0 malformed; with a response each, before the gateway %s; behind it %s",
		seen[0].total()+seen[1].total(), seen[0], seen[1])
}

// flow is one TCP connection as tshark put it together again.
type flow struct {
	port         string // that the client connected to
	asked, given []pdu.PDU
}

// flows are the connections to the ports of both sides, in the order of their
// first packets, cut into PDUs.
func (w *tap) flows(t *testing.T) (all []flow) {
	t.Helper()
	args := []string{"-r", w.file, "-q"}
	n := 0
	for _, line := range w.read(t, "tcp", "tcp.stream") {
		stream, err := strconv.Atoi(line)
		if err != nil {
			t.Fatal(err)
		}
		for ; n <= stream; n++ {
			args = append(args, "-z", fmt.Sprintf("follow,tcp,raw,%d", n))
		}
	}
	// Each connection is a header with its number and its two ends, then lines
	// of hexadecimal: the client's as they are, the server's behind a tab.
	all = make([]flow, n)
	octets := make([][2][]byte, n)
	at := 0
	for _, line := range strings.Split(output(t, "", w.tshark, args...), "\n") {
		if stream, ok := strings.CutPrefix(line, "Filter: tcp.stream eq "); ok {
			var err error
			if at, err = strconv.Atoi(stream); err != nil || at >= n {
				t.Fatalf("tshark: %q, want one of %d streams", line, n)
			}
		} else if server, ok := strings.CutPrefix(line, "Node 1: "); ok {
			var err error
			if _, all[at].port, err = net.SplitHostPort(server); err != nil {
				t.Fatal(err)
			}
		} else if hexed, server := strings.CutPrefix(line, "\t"); len(hexed) > 0 {
			b, err := hex.DecodeString(hexed)
			if err != nil {
				continue // the frame around it
			}
			from := 0
			if server {
				from = 1
			}
			octets[at][from] = append(octets[at][from], b...)
		}
	}
	for i, o := range octets {
		all[i].asked, all[i].given = cut(t, o[0]), cut(t, o[1])
	}
	return all
}

// cut divides a direction of a connection into PDUs.
func cut(t *testing.T, b []byte) (all []pdu.PDU) {
	t.Helper()
	for len(b) >= pdu.HeaderLen {
		n := binary.BigEndian.Uint32(b)
		if n < pdu.HeaderLen || int(n) > len(b) {
			t.Errorf("the wire holds a PDU of %d octets where %d are left: % x", n, len(b), b[:pdu.HeaderLen])
			return all
		}
		all = append(all, pdu.PDU(b[:n]))
		b = b[n:]
	}
	if len(b) > 0 {
		t.Errorf("the wire ends in %d octets that are no PDU: % x", len(b), b)
	}
	return all
}
