//go:build unix && !linux

package process

import "syscall"

// childAttributes puts a child into a process group of its own. Where the
// kernel cannot kill it with the peer, the shim ends with its stream.
func childAttributes() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
