//go:build unix

package process

import "syscall"

func killGroup(pid int) {
	syscall.Kill(-pid, syscall.SIGKILL) //nolint:errcheck // it may have gone already
}
