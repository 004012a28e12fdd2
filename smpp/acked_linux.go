package smpp

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// acked is the number of octets that the peer's TCP has acknowledged on a plain
// connection so far (RFC 4898, tcpEStatsAppHCThruOctetsAcked).
func acked(conn net.Conn) (n uint64, ok bool) {
	c, plain := conn.(*net.TCPConn)
	if !plain {
		return 0, false
	}
	var raw syscall.RawConn
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, false
	}
	err = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			n, ok = info.Bytes_acked, true
		}
	})
	return n, ok && err == nil
}
