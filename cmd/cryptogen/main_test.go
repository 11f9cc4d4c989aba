package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/heddle-ledger/heddle/internal/cryptogen"
	"github.com/heddle-ledger/heddle/internal/golden"
	"github.com/heddle-ledger/heddle/msp/x509msp"
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

// command runs cryptogen in a directory.
func command(t *testing.T, dir string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	c := exec.CommandContext(t.Context(), exe, args...)
	c.Args[0] = "cryptogen" // error texts begin with it
	c.Dir, c.Stdout, c.Stderr, c.Env = dir, &out, &errs, append(os.Environ(), asCommand+"=1")
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
		stdout, stderr, code := command(t, ".", strings.Fields(tc.Command)[1:]...)
		if stdout != tc.Stdout || stderr != tc.Stderr || code != tc.Code {
			t.Errorf("%s: exit code %d, stdout %q, stderr\n%s", tc.Command, code, stdout, stderr)
		}
	}
}

func TestCommands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"noyaml":   "PeerOrgs: 1",
		"template": "PeerOrgs:\n- Domain: x\n  Specs: [{Hostname: h, CommonName: '{{'}]\n",
		"values":   "OrdererOrgs:\n- Domain: x\n  Specs: [{Hostname: h, CommonName: '{{.Nope}}'}]\n",
		"two":      "PeerOrgs:\n- {Name: A, Domain: a.org}\nOrdererOrgs:\n- {Name: O, Domain: o.org}\n",
		"more":     "PeerOrgs:\n- {Name: A, Domain: a.org, Template: {Count: 1}}\n- {Name: B, Domain: b.org}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name+".yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		args           string
		stdout, stderr string // how they begin
		code           int
	}{
		{"", "", "usage: cryptogen [<flags>] <command> [<args> ...]\n\nUtility for generating Hyperledger Fabric key material\n", 0},
		{"nope", "", "cryptogen: error: expected command but got \"nope\", try --help\n", 1},
		{"version", "cryptogen:\n Version: 1.4.12+", "", 0},
		{"showtemplate", cryptogen.DefaultTemplate, "", 0},
		{"generate --config nope", "", "cryptogen: error: open nope: no such file or directory, try --help\n", 1},
		{"generate --config noyaml.yaml", "Error reading config: Error Unmarshaling YAML: ", "", 255},
		{"generate --config template.yaml", "Error processing peer configuration: Error parsing template: ", "", 255},
		{"extend --config values.yaml", "Error processing orderer configuration: Error executing template: ", "", 255},
		{"generate --config two.yaml --output noyaml.yaml/x", "a.org\nError generating signCA for org a.org:\n", "", 1},
		{"generate --config two.yaml", "a.org\n", "", 0},
		{"extend --config more.yaml", "b.org\n", "", 0},
		{"generate --output default", "org1.example.com\norg2.example.com\n", "", 0},
	} {
		stdout, stderr, code := command(t, dir, strings.Fields(tc.args)...)
		if code != tc.code || !strings.HasPrefix(stdout, tc.stdout) || !strings.HasPrefix(stderr, tc.stderr) || tc.stderr == "" && stderr != "" {
			t.Errorf("cryptogen %s: exit code %d\nstdout %s\nstderr %s", tc.args, code, stdout, stderr)
		}
	}
	for _, node := range []string{
		"crypto-config/peerOrganizations/a.org/peers/peer0.a.org",
		"default/peerOrganizations/org2.example.com/users/User1@org2.example.com",
		"default/ordererOrganizations/example.com/orderers/orderer.example.com",
	} {
		if _, err := x509msp.LoadLocal(x509msp.LocalConfig{Dir: filepath.Join(dir, node, "msp"), MSPID: "X"}); err != nil {
			t.Errorf("%s: %s", node, err)
		}
	}
}
