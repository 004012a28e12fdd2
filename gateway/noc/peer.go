package noc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/user"
	"slices"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"shunt/gateway/audit"
)

// peer is the process at the other end of the socket, as the kernel saw it when
// it connected (unix(7), SO_PEERCRED and SO_PEERGROUPS).
type peer struct {
	audit.Actor
	groups []int
	socket int // the group of the socket's file; -1: not known
	err    error
}

type peerKey struct{}

// withPeer notes who connected.
func withPeer(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, peerKey{}, peerOf(c))
}

func peerOf(c net.Conn) *peer {
	p := &peer{socket: -1, Actor: audit.Actor{UID: -1}}
	u, ok := c.(*net.UnixConn)
	if !ok {
		p.err = errors.New("it is no unix socket")
		return p
	}
	raw, err := u.SyscallConn()
	if err != nil {
		p.err = err
		return p
	}
	err = raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, p.err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); p.err != nil {
			return
		}
		p.UID, p.PID = int(cred.Uid), int(cred.Pid)
		p.groups = append(peerGroups(fd), int(cred.Gid))
	})
	if p.err = errors.Join(p.err, err); p.err != nil {
		return p
	}
	p.User = audit.UserName(p.UID)
	if st, err := os.Stat(u.LocalAddr().String()); err == nil {
		if sys, ok := st.Sys().(*syscall.Stat_t); ok {
			p.socket = int(sys.Gid)
		}
	}
	return p
}

// peerGroups are the supplementary groups that the peer had when it connected;
// none where the kernel does not tell (before Linux 4.13).
func peerGroups(fd uintptr) []int {
	var gids [1024]uint32
	size := uint32(unsafe.Sizeof(gids))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
		uintptr(unsafe.Pointer(&gids)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return nil
	}
	all := make([]int, 0, size/4+1)
	for _, g := range gids[:size/4] {
		all = append(all, int(g))
	}
	return all
}

// may tells whether the peer is an operator: root, the gateway's own user, or in
// the group of the socket's file, now or by the user database.
func (p *peer) may() bool {
	switch {
	case p.err != nil:
		return false
	case p.UID == 0, p.UID == os.Geteuid():
		return true
	case p.socket < 0:
		return false
	case slices.Contains(p.groups, p.socket):
		return true
	}
	u, err := user.LookupId(strconv.Itoa(p.UID))
	if err != nil {
		return false
	}
	ids, err := u.GroupIds()
	return err == nil && slices.Contains(ids, strconv.Itoa(p.socket))
}

// Lines of the audit about strangers are bounded: they could fill the disk.
const (
	strangerEvery   = 10 * time.Second
	strangersAtOnce = 20
)

// admit refuses who is no operator; what he wanted to change is audited.
func (s *Server) admit(w http.ResponseWriter, r *http.Request) bool {
	p, ok := r.Context().Value(peerKey{}).(*peer)
	switch {
	case !ok:
		p = &peer{Actor: audit.Actor{UID: -1}, socket: -1}
	case p.may():
		return true
	}
	_, pattern := s.mux.Handler(r)
	s.o.Log.Warn("control socket: refused, not an operator", "uid", p.UID, "user", p.User, "pid", p.PID, "route", pattern)
	if action := actions[pattern]; action != "" && s.strangers.Allow() {
		_ = s.o.Audit.Note(p.Actor, action, "not an operator", "refused: "+CodeForbidden) // it logs its own failure
	}
	problemf(http.StatusForbidden, CodeForbidden, "uid %d%s is no operator of this gateway: run this as root, as the gateway's user or as a member of %s",
		p.UID, named(p.User), groupNamed(p.socket)).write(w)
	return false
}

func named(name string) string {
	if name == "" {
		return ""
	}
	return " (" + name + ")"
}

func groupNamed(gid int) string {
	if gid < 0 {
		return "the socket's group"
	}
	if g, err := user.LookupGroupId(strconv.Itoa(gid)); err == nil {
		return "the group " + g.Name
	}
	return fmt.Sprintf("the group %d", gid)
}
