//go:build !linux

package smpp

import "net"

// acked cannot be told on this system.
func acked(net.Conn) (uint64, bool) { return 0, false }
