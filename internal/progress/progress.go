// Package progress shows how far a long walk over blocks has come: one line
// redrawn in place on a terminal, plain lines elsewhere (a log file, a pipe).
// Both tell the block, the percentage, blocks per second and the time left.
//
// State: the count and the times of one walk. It starts no goroutine: a line
// is written by the call that reports progress, at most ten times a second on
// a terminal and every five seconds elsewhere. Any package of layer 2 and above
// may import it.
package progress

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

const (
	plainEvery  = 5 * time.Second
	redrawEvery = 100 * time.Millisecond
	barWidth    = 30
)

// Progress is one walk being shown. Its methods may be called by several
// goroutines. Errors of the writer are ignored: a closed pipe does not stop the
// work it reports on.
type Progress struct {
	w           io.Writer
	title, unit string
	from, total uint64
	started     time.Time

	mu sync.Mutex // guards everything below
	n  uint64
	// shown is when the last line was written.
	shown time.Time
	bar   *progressbar.ProgressBar // nil: plain lines
	done  bool

	screen *Terminal // nil: nobody else writes where the bar is
}

// New starts showing on w a walk whose first from of total blocks are already
// behind it; nothing is written yet. The bar is drawn if w is a terminal; a nil
// w shows nothing.
func New(w io.Writer, title string, from, total uint64) *Progress {
	return NewOf(w, title, "block", from, total)
}

// NewOf is New of a walk over something else than blocks; unit is its name in the
// singular.
func NewOf(w io.Writer, title, unit string, from, total uint64) *Progress {
	if w == nil {
		w = io.Discard
	}
	return newProgress(w, title, unit, from, total, IsTerminal(w))
}

// IsTerminal tells whether New would draw a bar on w.
func IsTerminal(w io.Writer) bool {
	switch w := w.(type) {
	case *Terminal:
		return true
	case *os.File:
		return term.IsTerminal(int(w.Fd()))
	}
	return false
}

func newProgress(w io.Writer, title, unit string, from, total uint64, bar bool) *Progress {
	from = min(from, total)
	now := time.Now()
	p := &Progress{w: w, title: title, unit: unit, from: from, total: total, started: now, n: from, shown: now}
	if screen, ok := w.(*Terminal); ok {
		p.screen, w = screen, screen.w
	}
	if bar && total > from {
		p.bar = progressbar.NewOptions64(int64(total-from),
			progressbar.OptionSetWriter(w),
			progressbar.OptionSetWidth(barWidth),
			progressbar.OptionSetDescription(p.position()),
			progressbar.OptionSetTheme(progressbar.Theme{Saucer: "=", SaucerHead: ">", SaucerPadding: " ", BarStart: "[", BarEnd: "]"}),
			progressbar.OptionShowIts(),
			progressbar.OptionSetItsString(unit+"s"),
			progressbar.OptionSetPredictTime(true),
			progressbar.OptionShowElapsedTimeOnFinish(),
			progressbar.OptionThrottle(0), // advance decides
			progressbar.OptionUseANSICodes(true),
		)
		// Else its clock starts with the first frame, and the speed is wrong.
		p.bar.StartWithoutRender()
	}
	return p
}

// Add reports that n more blocks are done.
func (p *Progress) Add(n uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.advance(p.n + n)
}

// Set reports that the first n blocks, those before from among them, are done.
func (p *Progress) Set(n uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.advance(n)
}

// Done writes the last line, whether or not all blocks are done, and ends the
// showing: later calls do nothing.
func (p *Progress) Done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done {
		return
	}
	p.done = true
	if p.bar == nil {
		fmt.Fprintln(p.w, p.line())
		return
	}
	p.draw()
	p.onScreen(false, func(w io.Writer) { fmt.Fprintln(w) })
}

// advance notes the position and writes a line if one is due; p.mu is held.
func (p *Progress) advance(n uint64) {
	if p.done {
		return
	}
	p.n = max(p.from, min(n, p.total))
	every := plainEvery
	if p.bar != nil {
		every = redrawEvery
	}
	if time.Since(p.shown) < every || p.n == p.total {
		return // the last line is Done's
	}
	p.shown = time.Now()
	if p.bar != nil {
		p.draw()
		return
	}
	fmt.Fprintln(p.w, p.line())
}

// draw redraws the bar; p.mu is held. The new position is set as an option,
// because Describe would draw a frame of its own, with the old percentage. The
// library refuses positions beyond the end, which advance never passes on, and
// reports errors of the writer.
func (p *Progress) draw() {
	p.onScreen(true, func(io.Writer) {
		progressbar.OptionSetDescription(p.position())(p.bar)
		_ = p.bar.Set64(int64(p.n - p.from))
	})
}

// onScreen lets write write where the bar is; afterwards the bar is the last
// line there, or no longer.
func (p *Progress) onScreen(bar bool, write func(w io.Writer)) {
	if p.screen == nil {
		write(p.w)
		return
	}
	p.screen.mu.Lock()
	defer p.screen.mu.Unlock()
	write(p.screen.w)
	p.screen.bar = bar
}

// position is the part that both forms share.
func (p *Progress) position() string {
	return fmt.Sprintf("%s: %s %d/%d", p.title, p.unit, p.n, p.total)
}

// line is the plain form.
func (p *Progress) line() string {
	percent := uint64(100)
	if p.total > 0 {
		percent = uint64(float64(p.n) / float64(p.total) * 100)
	}
	elapsed := time.Since(p.started)
	speed := 0.0
	if elapsed > 0 {
		speed = float64(p.n-p.from) / elapsed.Seconds()
	}
	text := fmt.Sprintf("%s, %d%%", p.position(), percent)
	if speed > 0 {
		text += fmt.Sprintf(", %.0f %ss/s", speed, p.unit)
	}
	switch {
	case p.done || p.n == p.total:
		return fmt.Sprintf("%s, took %s", text, elapsed.Round(100*time.Millisecond))
	case speed > 0:
		left := time.Duration(float64(p.total-p.n) / speed * float64(time.Second))
		return fmt.Sprintf("%s, %s left", text, left.Round(time.Second))
	}
	return text
}
