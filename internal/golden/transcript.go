// Package golden reads recorded behaviour of the reference in tests. It keeps no
// state and starts no goroutine; only tests import it.
package golden

import (
	"os"
	"strconv"
	"strings"
	"testing"
)

// Transcript is one recorded command.
type Transcript struct {
	Command        string
	Stdout, Stderr string
	Code           int
}

// Transcripts reads recorded commands: `$ command`, then lines that begin with
// `stdout: ` and `stderr: `, then `rc: ` and the exit code.
func Transcripts(t testing.TB, file string) []Transcript {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all []Transcript
	for l := range strings.Lines(string(text)) {
		l = strings.TrimSuffix(l, "\n")
		if c, ok := strings.CutPrefix(l, "$ "); ok {
			all = append(all, Transcript{Command: c})
			continue
		}
		if len(all) == 0 {
			continue
		}
		last := &all[len(all)-1]
		kind, rest, _ := strings.Cut(l, ": ")
		switch kind {
		case "stdout":
			last.Stdout += rest + "\n"
		case "stderr":
			last.Stderr += rest + "\n"
		case "rc":
			if last.Code, err = strconv.Atoi(rest); err != nil {
				t.Fatalf("%s: exit code of %s: %s", file, last.Command, err)
			}
		}
	}
	if len(all) == 0 {
		t.Fatalf("%s holds no commands", file)
	}
	return all
}
