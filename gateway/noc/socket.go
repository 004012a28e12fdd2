package noc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const (
	socketMode   = 0o660 // the owner's and the operators' group's
	parentMode   = 0o750
	maxPath      = 107 // octets of a socket's path (unix(7), sun_path less its zero)
	maxHeader    = 16 << 10
	headerWithin = 5 * time.Second
	idleFor      = 60 * time.Second
	drainWithin  = 5 * time.Second
	probeWithin  = 2 * time.Second
)

// ErrInUse says that somebody answers on the socket.
var ErrInUse = errors.New("another process answers on it")

// Listen opens the control socket with mode 0660 and creates its directory
// when that is missing. A socket on which nobody answers is left over from a
// crash and is replaced; one that is answered on wraps ErrInUse. Closing the
// listener removes the socket, unless another process has put its own there.
func Listen(path string) (net.Listener, error) {
	l, err := listen(path)
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	return l, nil
}

func listen(path string) (net.Listener, error) {
	if len(path) > maxPath {
		return nil, fmt.Errorf("its path has %d octets, at most %d fit", len(path), maxPath)
	}
	if err := os.MkdirAll(filepath.Dir(path), parentMode); err != nil {
		return nil, fmt.Errorf("create its directory: %w", err)
	}
	if err := clearStale(path); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // see socket.Close
	err = os.Chmod(path, socketMode)
	var own fs.FileInfo
	if err == nil {
		own, err = os.Lstat(path)
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &socket{l, path, own}, nil
}

// clearStale removes a socket that nobody listens on, and nothing else.
func clearStale(path string) error {
	st, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if st.Mode().Type() != fs.ModeSocket {
		return errors.New("something that is no socket is there: remove it or choose another path")
	}
	c, err := net.DialTimeout("unix", path, probeWithin)
	if err == nil {
		_ = c.Close() // it was only a question
		return fmt.Errorf("%w: stop it or choose another path", ErrInUse)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("%w or it is not ours: %w", ErrInUse, err)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove what a crash left: %w", err)
	}
	return nil
}

// socket is a listener that removes its own file and nobody else's.
type socket struct {
	*net.UnixListener
	path string
	own  fs.FileInfo
}

func (s *socket) Close() error {
	if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.own) {
		_ = os.Remove(s.path) // a file that stays is found stale by the next start
	}
	return s.UnixListener.Close()
}

// Serve listens on path and answers until ctx ends; then it stops accepting,
// waits up to 5 seconds for requests under way, removes the socket and returns
// nil. Any other end is an error.
func (s *Server) Serve(ctx context.Context, path string) error {
	l, err := Listen(path)
	if err != nil {
		return err
	}
	return s.ServeOn(ctx, l)
}

// ServeOn is Serve on a listener that Listen made. It closes l.
func (s *Server) ServeOn(ctx context.Context, l net.Listener) error {
	srv := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: headerWithin, // the rest of a request's time is wrap's
		IdleTimeout:       idleFor,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.o.Log.Handler(), slog.LevelDebug),
		ConnContext:       withPeer,
	}
	stopped := make(chan struct{})
	release := context.AfterFunc(ctx, func() {
		defer close(stopped)
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainWithin)
		defer cancel()
		if srv.Shutdown(drain) != nil {
			_ = srv.Close() // whoever is still there had its time
		}
	})
	err := srv.Serve(l)
	if release() { // ctx is not done: Serve ended by itself
		return fmt.Errorf("control socket %s: %w", l.Addr(), err)
	}
	<-stopped
	return nil
}
