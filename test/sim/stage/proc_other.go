//go:build !linux

package stage

import "syscall"

// attributes keep the terminal's SIGINT from the children, whose end has an
// order. Only Linux ends them should their parent be killed.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
