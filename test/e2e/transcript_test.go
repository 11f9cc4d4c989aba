package e2e

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// step is one recorded command.
type step struct {
	comment        string
	env            []string // differences from the base environment: NAME=value
	unset          []string
	args           []string // with the command's name
	stdout, stderr []string
	rc             string
}

func (s *step) line() string { return strings.Join(append(slices.Clone(s.env), s.args...), " ") }

// readTranscript reads recorded commands: comments, `# env:` differences,
// `$ command`, `stdout: ` and `stderr: ` lines and the exit code. In the merged
// form, lines without mark are taken as stderr.
func readTranscript(t *testing.T, file string) []*step {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all []*step
	pending := &step{}
	var at *step
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		field := func(prefix string) (string, bool) { return strings.CutPrefix(line, prefix) }
		if v, ok := field("# env: "); ok && at == nil {
			pending.setEnv(v)
		} else if v, ok := field("# "); ok && at == nil {
			pending.comment = v
		} else if v, ok := field("$ "); ok {
			at, pending = pending, &step{}
			at.args = strings.Fields(v)
			all = append(all, at)
		} else if v, ok := field("stdout: "); ok && at != nil {
			at.stdout = append(at.stdout, v)
		} else if v, ok := field("stderr: "); ok && at != nil {
			at.stderr = append(at.stderr, v)
		} else if v, ok := field("rc: "); ok && at != nil {
			at.rc, at = v, nil
		} else if v, ok := field("rc="); ok && at != nil {
			at.rc, at = v, nil
		} else if at != nil {
			at.stderr = append(at.stderr, line)
		}
	}
	if len(all) == 0 {
		t.Fatalf("%s: no commands", file)
	}
	return all
}

// setEnv reads "A=b c C unset": values may hold blanks.
func (s *step) setEnv(text string) {
	for _, f := range strings.Fields(text) {
		switch last := len(s.env) - 1; {
		case f == "unset":
			s.unset, s.env = append(s.unset, s.env[last]), s.env[:last]
		case regexp.MustCompile(`^[A-Z_]+(=|$)`).MatchString(f):
			s.env = append(s.env, f)
		default:
			s.env[last] += " " + f
		}
	}
}

// apply returns base with the differences of the step.
func (s *step) apply(base []string) []string {
	out := slices.DeleteFunc(slices.Clone(base), func(v string) bool {
		name, _, _ := strings.Cut(v, "=")
		return slices.Contains(s.unset, name)
	})
	return append(out, s.env...)
}

// normalizer makes recorded and present output comparable.
type normalizer struct {
	places *strings.Replacer // recorded addresses and directories to ours
}

// words that differ from run to run.
func variable() []struct {
	re   *regexp.Regexp
	with string
} {
	re := regexp.MustCompile
	return []struct {
		re   *regexp.Regexp
		with string
	}{
		{re(`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} UTC (\[[^]]*\]) \S+ -> ([A-Z]{4}) [0-9a-f]{3,} `), "$1 -> $2 "}, // names of functions may differ
		{re(`"ts":[0-9.e+]+`), `"ts":TIME`},
		{re(`^ts=[0-9.e+]+`), "ts=TIME"},
		{re(`"caller":"[^"]*",?`), ""},
		{re(`caller=\S+ `), ""},
		{re(`[0-9a-f]{64}`), "HASH"},
		{re(`Hash":"[A-Za-z0-9+/]{43}="`), `Hash":"HASH"`},
		{re(`after [0-9.]+(µs|ms|s) with`), "after TIME with"},
		{re(`\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+0000 UTC`), "DATE"},
		// Texts of libraries need only share what precedes them.
		{re(`proto: ?.*`), "proto: ..."},
		{re(`proto:.cannot parse.*`), "proto: ..."},
		{re(`code = Unavailable desc = .*`), "code = Unavailable desc = ..."},
		{re(`While parsing config: .*`), "While parsing config: ..."},
		{re(`error starting container: .*`), "error starting container: ..."},
		{re(`^(.*result: status:200 payload:"\\010.* ).*`), "CHAIN INFO"},
		{re(`Go version: go\S+`), "Go version: GO"},
		{re(`^ Version: .*`), " Version: VERSION"},
		{re(`^ Commit SHA: .*`), " Commit SHA: SHA"},
	}
}

func (n normalizer) lines(in []string) []string {
	var out []string
	inherited := false
	for _, l := range in {
		if n.places != nil {
			l = n.places.Replace(l)
		}
		for _, v := range variable() {
			l = v.re.ReplaceAllString(l, v.with)
		}
		l = strings.TrimRight(l, " ")
		switch { // usage texts were shortened
		case l == "Global Flags:":
			inherited = true
			out = append(out, l, "  (the inherited flags, see cli_help.txt)")
			continue
		case inherited && l != "":
			continue
		}
		inherited = false
		if len(out) > 0 && out[len(out)-1] == l && (strings.Contains(l, "handshake failed") || strings.Contains(l, "CORE_LOGGING_LEVEL")) {
			continue // as often as there was time for, or twice in the reference
		}
		out = append(out, l)
		if strings.HasPrefix(l, "panic: ") {
			break // a trace may follow
		}
	}
	for len(out) > 0 && out[len(out)-1] == "" {
		out = out[:len(out)-1]
	}
	return out
}

func splitLines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n")
}

// diff compares lines; "(usage continues)" in want stands for any more.
func (n normalizer) diff(want []string, got string) string {
	w, g := n.lines(want), n.lines(splitLines(got))
	if i := slices.Index(w, "(usage continues)"); i >= 0 && i <= len(g) {
		w, g = w[:i], g[:i]
	}
	return cmp.Diff(w, g)
}

// TestTranscriptReader reads every recorded file to its end.
func TestTranscriptReader(t *testing.T) {
	for file, count := range map[string]int{
		"cli_channel_node_logging.txt": 81, "daemon_start.txt": 62, "chaincode_cli.txt": 98, "chaincode_cli2.txt": 27,
	} {
		all := readTranscript(t, "testdata/"+file)
		if len(all) < count/2 {
			t.Errorf("%s: %d commands", file, len(all))
		}
		t.Logf("%s: %d", file, len(all))
		for _, s := range all {
			if s.rc == "" {
				t.Errorf("%s: no exit code", s.line())
			}
		}
	}
}
