package listen

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"

	"github.com/coreos/go-systemd/v22/activation"
)

// Sockets are the listening sockets that the service manager handed over
// (sd_listen_fds(3)). Connections that come during a restart wait in them. The
// zero value is none. It belongs to one goroutine.
type Sockets struct{ left []socket }

type socket struct {
	net.Listener
	name string
}

// Inherited are the sockets that LISTEN_FDS announces, if LISTEN_PID is this
// process. The first call clears these variables. The process keeps the sockets, so
// that every call has them, also after what another one gave was closed: a node
// that began on a full disk opens its listeners a second time.
func Inherited() (*Sockets, error) { return take(handed()) }

var handed = sync.OnceValue(func() []*os.File { return activation.Files(true) })

func take(files []*os.File) (*Sockets, error) {
	s := &Sockets{}
	var errs []error
	for _, f := range files {
		l, err := net.FileListener(f) // a duplicate of the descriptor
		if err != nil {
			errs = append(errs, fmt.Errorf("socket %q from the service manager: %w, want a listening stream socket", f.Name(), err))
			continue
		}
		if u, ok := l.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false) // its path is the service manager's
		}
		s.left = append(s.left, socket{l, f.Name()})
	}
	if err := errors.Join(errs...); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// Listen opens a listener: on the socket that was handed over for o.Addr, else
// on one of its own. The error has no address in it.
func (s *Sockets) Listen(o Options) (*Listener, error) {
	for i, k := range s.left {
		if same(o.Addr, k.Addr()) {
			s.left = append(s.left[:i:i], s.left[i+1:]...)
			return New(k.Listener, o), nil
		}
	}
	l, err := listen(o)
	if err != nil {
		return nil, err
	}
	return New(l, o), nil
}

// Named takes out the socket of that name (FileDescriptorName= in its unit), if
// there is one.
func (s *Sockets) Named(name string) (net.Listener, bool) {
	for i, k := range s.left {
		if k.name == name {
			s.left = append(s.left[:i:i], s.left[i+1:]...)
			return k.Listener, true
		}
	}
	return nil, false
}

// Unused is an error that names the sockets that no Listen asked for: nobody
// would ever accept there, and peers would wait in vain.
func (s *Sockets) Unused() error {
	if len(s.left) == 0 {
		return nil
	}
	names := make([]string, len(s.left))
	for i, k := range s.left {
		names[i] = fmt.Sprintf("%s (%s)", k.Addr(), k.name)
	}
	return fmt.Errorf("sockets from the service manager that the configuration does not listen on: %s; want the addresses of listen.addr and api.listen",
		strings.Join(names, ", "))
}

// Close closes the sockets that no Listen asked for.
func (s *Sockets) Close() {
	for _, k := range s.left {
		_ = k.Close()
	}
	s.left = nil
}

// same tells whether a socket is the one that an addr of the configuration
// would open. Without a host that is any address, of both families.
func same(addr string, of net.Addr) bool {
	got, ok := of.(*net.TCPAddr)
	want, err := net.ResolveTCPAddr("tcp", addr)
	if !ok || err != nil || want.Port != got.Port {
		return false
	}
	if want.IP == nil {
		return got.IP.IsUnspecified()
	}
	return want.IP.Equal(got.IP) && want.Zone == got.Zone
}
