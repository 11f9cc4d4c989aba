package process

import "syscall"

// childAttributes puts a child into a process group of its own and lets the
// kernel kill it when the peer dies.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
