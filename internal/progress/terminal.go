package progress

import (
	"io"
	"os"
	"sync"

	"golang.org/x/term"
)

// Terminal is a terminal on which a bar is drawn while others, a log for one,
// write lines: a line takes the place of the bar, which is drawn again below it.
type Terminal struct {
	w io.Writer

	mu  sync.Mutex // guards w and bar
	bar bool       // the cursor is behind a bar
}

// OnTerminal returns a Terminal if file is one, and otherwise file.
func OnTerminal(file *os.File) io.Writer {
	if term.IsTerminal(int(file.Fd())) {
		return &Terminal{w: file}
	}
	return file
}

// eraseLine goes to the beginning of the line and erases it.
const eraseLine = "\r\x1b[K"

// Write writes whole lines.
func (t *Terminal) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.bar {
		t.bar = false
		if _, err := io.WriteString(t.w, eraseLine); err != nil {
			return 0, err
		}
	}
	return t.w.Write(p)
}
