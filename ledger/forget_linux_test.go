package ledger

import (
	"os"
	"path/filepath"
	"syscall"
)

// forgetPages lets the machine drop its copies of the files in a directory. It
// then uses the same memory for what comes next: the first touch of memory that
// a virtual machine gets page by page from its host costs more than all the
// rest of a commit, and a peer that has run for a while pays for it no more.
func forgetPages(dir string) {
	names, _ := filepath.Glob(filepath.Join(dir, "*"))
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			continue
		}
		const dontNeed = 4
		_, _, _ = syscall.Syscall6(syscall.SYS_FADVISE64, f.Fd(), 0, 0, dontNeed, 0, 0)
		f.Close()
	}
}
