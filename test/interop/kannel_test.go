//go:build interop

package interop

import (
	"fmt"
	"net"
	"os/exec"
	"strings"
	"testing"

	"shunt/smpp/pdu"
)

// letter is a text for Kannel to send.
type letter struct {
	smsc   string // of Kannel's configuration: the account
	to     string
	coding int // Kannel's: 0 GSM, 2 UCS-2
	parts  int // that Kannel must make of it
	plain  string
}

// forwarded tells that the letter must reach the SMSC as Kannel sent it.
func (l *letter) forwarded() bool { return l.to == unregistered || l.to == unreachable }

// claimed tells that an app gets the letter, as one text whatever its parts.
func (l *letter) claimed() bool { return l.to == claimingAPNs || l.to == claimingFCM }

// fails tells that nobody gets the letter.
func (l *letter) fails() bool { return strings.HasSuffix(l.to, "66") }

// letters are texts to numbers on both accounts; mark makes them unique.
func letters(mark string, long bool, numbers ...string) (list []letter) {
	for _, smsc := range []string{"trx", "pair"} {
		for _, to := range numbers {
			tag := fmt.Sprintf("%s %s %s", mark, smsc, to[6:])
			list = append(list,
				letter{smsc, to, 0, 1, "Price [" + tag + "]: 12.50 € ~ {today} | C:\\x ^ @home £5 ÄÖÜ ñ Δ"},
				letter{smsc, to, 2, 1, "Заказ " + tag + " готов 📦 您好 नमस्ते مرحبا"})
			if long {
				list = append(list,
					letter{smsc, to, 0, 2, "Long [" + tag + "]: " + strings.Repeat("{a} €5 ~ letter; ", 12)},
					letter{smsc, to, 2, 3, "Длинное " + tag + ": " + strings.Repeat("письмо; ", 20)})
			}
		}
	}
	return list
}

// kannelBinds are a transceiver, a transmitter and a receiver.
const kannelBinds = 3

func TestKannel(t *testing.T) {
	s := backstage(t, "250")
	free := freePorts(t, 2)
	listen, api := fmt.Sprintf("127.0.0.1:%d", free[0]), fmt.Sprintf("127.0.0.1:%d", free[1])
	s.listen = listen
	wire := capture(t, s)
	s.configure(t, listen, api, "")
	s.startGateway(t)
	s.people(t)
	s.startPhones(t)
	k := startKannel(t, s, free[0])
	s.esme = k.bearerbox
	k.bound(t, s, kannelBinds)
	all := []string{unregistered, claimingAPNs, claimingFCM, offlineAPNs, offlineFCM, unreachable, offlineGone}
	list := letters("one", true, all...)
	send := func(more []letter) {
		k.send(t, len(list), more)
		list = append(list, more...)
	}
	k.send(t, 0, list)
	k.reported(t, "every receipt", len(list), dlrDelivered, dlrFailed)

	// Two for each offline phone are in the spool when the gateway goes; what
	// comes while it is away waits at Kannel, which must come back by itself.
	send(letters("two", false, offlineAPNs, offlineFCM))
	k.reported(t, "the answers before the restart", len(list), dlrAccepted)
	s.gateway.stop()
	if conn, err := net.Dial("tcp", listen); err == nil {
		_ = conn.Close()
		t.Errorf("somebody listens on %s while the gateway is stopped", listen)
	}
	send(letters("three", false, all...))
	s.configure(t, listen, api, "[smpp]\nenquire_link = \"1s\"\n")
	s.startGateway(t)
	k.bound(t, s, 2*kannelBinds)
	k.reported(t, "every receipt after the restart", len(list), dlrDelivered, dlrFailed)
	poll(t, "an enquire_link of the gateway that Kannel answers", k.bearerbox, func() bool { return wire.enquired(free[0]) })

	for _, p := range []*part{k.smsbox, k.bearerbox, s.phones, s.gateway, s.smsc} {
		p.stop()
	}
	for _, e := range s.smsc.all("error") {
		t.Errorf("the SMSC met an error: %s", e.Error)
	}
	wire.finish(t)
	wire.malformed(t)
	seen := wire.commands(t)
	links := bindsOf(t, wire.flows(t), wire.ports)
	n := judgeKannel(t, s, k, links, list)
	asked := judgeLinks(t, links)
	t.Logf("Kannel before the gateway, npm smpp behind: %d texts in %d submit_sm: %d forwarded, %d claimed in the app, %d fell back to SMS; %d receipts; one restart; %d enquire_link, none crossed; tshark: %d PDUs, 0 malformed; before the gateway %s; behind it %s",
		len(list), n.forwarded+n.claimed+n.fellBack, n.forwarded, n.claimed, n.fellBack, n.receipts, asked, links.pdus, seen[0], seen[1])
}

// bound waits until Kannel has bound n times in all.
func (k *kannel) bound(t *testing.T, s *scene, n int) {
	t.Helper()
	s.smsc.until(t, "Kannel's binds", func() bool {
		have := 0
		for _, e := range s.smsc.all("bind") {
			if strings.HasPrefix(e.SystemID, "kannel-") {
				have++
			}
		}
		return have >= n
	})
}

// reported waits until n texts have a callback of one of those types.
func (k *kannel) reported(t *testing.T, what string, n int, kinds ...int) {
	t.Helper()
	missing := func() (list []int) {
		have := map[int]bool{}
		for _, kind := range kinds {
			for i := range k.reports(kind) {
				have[i] = true
			}
		}
		for i := range n {
			if !have[i] {
				list = append(list, i)
			}
		}
		return list
	}
	defer func() {
		if list := missing(); len(list) > 0 {
			t.Logf("no callback of types %d for texts %d", kinds, list)
		}
	}()
	poll(t, what, k.bearerbox, func() bool { return len(missing()) == 0 })
}

// enquired tells whether the capture, so far, holds a client's answer to an
// enquire_link of the server on that port.
func (w *tap) enquired(port int) bool {
	cmd := exec.Command(w.tshark, "-r", w.file, "-d", "tcp.port=="+w.ports[0]+",smpp",
		"-Y", fmt.Sprintf("smpp.command_id == %d && tcp.dstport == %d", uint32(pdu.EnquireLinkResp), port))
	out, _ := cmd.Output() // a file that is being written ends in the middle of a packet
	return len(out) > 0
}
