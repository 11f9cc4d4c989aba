package ledger

import (
	"fmt"
	"io"
	"strings"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/progress"
	"github.com/heddle-ledger/heddle/ledger/blockfile"
)

// Progress shows how far long work on a channel's blocks is; see
// blockfile.Progress.
type Progress = blockfile.Progress

// workReplay is the walk in which state and history are brought level.
const workReplay = "replay"

// ShowProgress shows work as a bar on w if that is a terminal, and otherwise
// every five seconds, and at the end, in a log line. A nil w is no terminal.
func ShowProgress(w io.Writer, log *flog.Logger) Progress {
	if w == nil || !progress.IsTerminal(w) {
		w = logLines{log.Named("kvledger")}
	}
	return func(walk blockfile.Walk) blockfile.Watch {
		return progress.New(w, fmt.Sprintf("[%s] %s", walk.Channel, walk.Work), walk.From, walk.Total)
	}
}

// logLines logs every line that is written to it.
type logLines struct{ log *flog.Logger }

func (l logLines) Write(p []byte) (int, error) {
	l.progress(strings.TrimSuffix(string(p), "\n"))
	return len(p), nil
}

// progress has its name in the log.
func (l logLines) progress(line string) { l.log.Info(line) }
