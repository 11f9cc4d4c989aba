package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/golden"
	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// asCommand makes the test binary be the command.
const asCommand = "HEDDLE_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// command runs configtxlator in a directory.
func command(t *testing.T, dir string, stdin []byte, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	c := exec.CommandContext(t.Context(), exe, args...)
	c.Args[0] = "configtxlator" // error texts begin with it
	c.Stdin, c.Stdout, c.Stderr = bytes.NewReader(stdin), &out, &errs
	c.Dir, c.Env = dir, append(os.Environ(), asCommand+"=1")
	err = c.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), c.ProcessState.ExitCode()
}

func TestHelp(t *testing.T) {
	t.Parallel()
	for _, tc := range golden.Transcripts(t, "testdata/cli_help.txt") {
		stdout, stderr, code := command(t, ".", nil, strings.Fields(tc.Command)[1:]...)
		if stdout != tc.Stdout || stderr != tc.Stderr || code != tc.Code {
			t.Errorf("%s: exit code %d, stdout %q, stderr\n%s", tc.Command, code, stdout, stderr)
		}
	}
}

// TestCommandLine: decode, edit, encode and compute_update as users do it, and what goes wrong.
func TestCommandLine(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	from := config(t)
	to := proto.CloneOf(from)
	to.ChannelGroup.ModPolicy = "X"
	for name, raw := range map[string][]byte{"from.pb": protoutil.Marshal(from), "to.pb": protoutil.Marshal(to), "bad": {7}} {
		if err := os.WriteFile(filepath.Join(dir, name), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		args, stdin    string
		stdout, stderr string // how they begin
		code           int
	}{
		{"", "", "", "usage: configtxlator [<flags>] <command> [<args> ...]\n", 0},
		{"nope", "", "", "configtxlator: error: expected command but got \"nope\", try --help\n", 1},
		{"version", "", "configtxlator:\n Version: 1.4.12+", "", 0},
		{"proto_decode", "", "", "configtxlator: error: required flag --type not provided, try --help\n", 1},
		{"compute_update", "", "", "configtxlator: error: required flag --channel_id not provided, try --help\n", 1},
		{"proto_decode --type common.Consortium", "\n\x01C", "{\n\t\"name\": \"C\"\n}\n", "", 0},
		{"proto_encode --type common.Consortium", "{\"name\": \"C\"} ignored", "\n\x01C", "", 0},
		{"proto_decode --type common.Foo", "", "", "configtxlator: error: Error decoding: message of type common.Foo unknown\n", 1},
		{"proto_encode --type common.Config", "", "", "configtxlator: error: Error decoding: error decoding input: error unmarshaling intermediate JSON: EOF\n", 1},
		{"proto_decode --type common.Config --input bad", "", "", "configtxlator: error: Error decoding: error unmarshaling: ", 1},
		{"proto_decode --type common.Config --input nope", "", "", "configtxlator: error: open nope: no such file or directory, try --help\n", 1},
		{"proto_decode --type common.Config --input from.pb --output from.json", "", "", "", 0},
		{"proto_encode --type common.Config --input from.json --output again.pb", "", "", "", 0},
		{"compute_update --channel_id ch --original from.pb --updated again.pb", "", "", "configtxlator: error: Error computing update: error computing config update: no differences detected between original and updated config\n", 1},
		{"compute_update --channel_id ch --updated to.pb", "", "", "configtxlator: error: Error computing update: error reading original config: invalid argument\n", 1},
		{"compute_update --channel_id ch --original again.pb --updated to.pb --output update.pb", "", "", "", 0},
		{"proto_decode --type common.ConfigUpdate --input update.pb", "", "{\n\t\"channel_id\": \"ch\",\n\t\"isolated_data\": {},\n\t\"read_set\": {", "", 0},
		{"start --hostname nope.invalid --port 1", "", "", "configtxlator: error: Error starting server:[listen tcp: ", 1},
	} {
		stdout, stderr, code := command(t, dir, []byte(tc.stdin), strings.Fields(tc.args)...)
		if code != tc.code || !strings.HasPrefix(stdout, tc.stdout) || tc.stdout == "" && stdout != "" ||
			!strings.HasPrefix(stderr, tc.stderr) || tc.stderr == "" && stderr != "" {
			t.Errorf("configtxlator %s: exit code %d\nstdout %s\nstderr %s", tc.args, code, stdout, stderr)
		}
	}
	if st, err := os.Stat(filepath.Join(dir, "update.pb")); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode of the output: %v %v", st, err)
	}
}
