package stage

import "syscall"

// attributes keep the terminal's SIGINT from the children, whose end has an
// order, and end them should their parent be killed.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
