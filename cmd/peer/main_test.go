package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-ledger/heddle/internal/version"
)

// transcript is one recorded command.
type transcript struct {
	command        string
	stdout, stderr string
	rc             string
}

// readTranscripts reads recorded commands: `$ command`, then stdout: and stderr:
// lines and rc: with the exit code.
func readTranscripts(t *testing.T, file string) []transcript {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all []transcript
	for l := range strings.Lines(string(text)) {
		l = strings.TrimSuffix(l, "\n")
		if c, ok := strings.CutPrefix(l, "$ "); ok {
			all = append(all, transcript{command: c})
			continue
		}
		if len(all) == 0 {
			continue
		}
		last := &all[len(all)-1]
		if s, ok := strings.CutPrefix(l, "stdout: "); ok {
			last.stdout += s + "\n"
		} else if s, ok := strings.CutPrefix(l, "stderr: "); ok {
			last.stderr += s + "\n"
		} else if s, ok := strings.CutPrefix(l, "rc: "); ok {
			last.rc = s
		}
	}
	return all
}

// execute runs one command line in this process.
func execute(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, err bytes.Buffer
	code = run(context.Background(), args, streams{stdout: &out, stderr: &err})
	return out.String(), err.String(), code
}

func TestHelp(t *testing.T) {
	cases := readTranscripts(t, "testdata/cli_help.txt")
	if len(cases) == 0 {
		t.Fatal("no transcripts")
	}
	for _, tc := range cases {
		t.Run(tc.command, func(t *testing.T) {
			stdout, stderr, code := execute(t, strings.Fields(tc.command)[1:]...)
			if d := cmp.Diff(tc.stdout, stdout); d != "" || code != 0 || stderr != "" {
				t.Errorf("exit code %d, stderr %q, stdout (-want +got):\n%s", code, stderr, d)
			}
		})
	}
}

func TestVersion(t *testing.T) {
	stdout, _, code := execute(t, "version")
	if code != 0 || !strings.HasPrefix(stdout, "peer:\n Version: "+version.Full+"\n Commit SHA: ") || !strings.HasSuffix(stdout, "  Docker Namespace: hyperledger\n\n") {
		t.Errorf("exit code %d, %q", code, stdout)
	}
	_, stderr, code := execute(t, "version", "x")
	want := "Error: trailing args detected\nUsage:\n  peer version [flags]\n\nFlags:\n  -h, --help   help for version\n\n"
	if code != 1 || stderr != want {
		t.Errorf("exit code %d, %q", code, stderr)
	}
}

func TestUnknownCommands(t *testing.T) {
	_, stderr, code := execute(t, "foo")
	if want := "Error: unknown command \"foo\" for \"peer\"\nRun 'peer --help' for usage.\n"; code != 1 || stderr != want {
		t.Errorf("exit code %d, %q", code, stderr)
	}
	help, _, _ := execute(t, "channel", "--help")
	stdout, stderr, code := execute(t, "channel", "foo")
	if code != 0 || stdout != help || stderr != "" {
		t.Errorf("unknown verb: exit code %d, %q %q", code, stdout, stderr)
	}
	_, stderr, code = execute(t, "channel", "list", "--bogus")
	if code != 1 || !strings.HasPrefix(stderr, "Error: unknown flag: --bogus\nUsage:\n  peer channel list [flags]\n") {
		t.Errorf("unknown flag: exit code %d, %q", code, stderr)
	}
}

// sample points the commands to the shipped configuration and its identity.
func sample(t *testing.T) {
	t.Helper()
	t.Setenv("FABRIC_CFG_PATH", "../../sampleconfig")
	t.Setenv("FABRIC_LOGGING_FORMAT", "%{module} %{shortfunc} %{level} %{message}")
}

func TestParameterChecks(t *testing.T) {
	sample(t)
	cases := []struct{ args, want string }{
		{"channel create", "must supply channel ID"},
		{"channel join", "Must supply genesis block path"},
		{"channel list x", "trailing args detected: [x]"},
		{"channel getinfo", "Must supply channel ID"},
		{"channel fetch", "fetch target required, oldest, newest, config, or a number"},
		{"channel fetch a b c", "trailing args detected"},
		{"channel update -c c", "Invalid channel create transaction : No configtx file name supplied"},
		{"channel update -f f", "Must supply channel ID"},
		{"channel signconfigtx", "Invalid channel create transaction : No configtx file name supplied"},
		{"chaincode invoke -n n", "The required parameter 'channelID' is empty. Rerun the command with -C flag"},
		{"chaincode query -n n", "The required parameter 'channelID' is empty. Rerun the command with -C flag"},
		{"chaincode list --instantiated", "The required parameter 'channelID' is empty. Rerun the command with -C flag"},
		{"chaincode signpackage a", "peer chaincode signpackage <inputpackage> <outputpackage>"},
		{"logging getlevel", "no parameters provided"},
		{"logging setlevel x", "no log level provided"},
		{"logging setlevel x bogus", "invalid log level provided - bogus"},
		{"logging getlogspec x", "more parameters than necessary were provided. Expected 0, received 1"},
		{"node start x", "trailing args detected"},
	}
	for _, tc := range cases {
		t.Run(tc.args, func(t *testing.T) {
			stdout, stderr, code := execute(t, strings.Fields(tc.args)...)
			if code != 1 || stdout != "" || !strings.HasPrefix(stderr, "Error: "+tc.want+"\nUsage:\n") || !strings.HasSuffix(stderr, "\n\n") {
				t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
			}
		})
	}
}

func TestFailuresWithoutUsage(t *testing.T) {
	sample(t)
	t.Setenv("CORE_PEER_ADDRESS", "127.0.0.1:1")
	refused := `failed to create new connection: connection error: desc = "transport: error while dialing: dial tcp 127.0.0.1:1: connect: connection refused"`
	cases := []struct{ args, want string }{
		{"channel create -c c", "ordering service endpoint  is not valid or missing"},
		{"channel update -c c -f f", "ordering service endpoint  is not valid or missing"},
		{"channel create -c c -o 127.0.0.1:1", "failed to create deliver client: orderer client failed to connect to 127.0.0.1:1: " + refused},
		{"channel create -c c -o 127.0.0.1:1 --tls", "failed to create deliver client: failed to load config for OrdererClient: unable to load orderer.tls.rootcert.file: open : no such file or directory"},
		{"channel create -c c -o 127.0.0.1:1 --clientauth", "failed to create deliver client: failed to load config for OrdererClient: unable to load orderer.tls.clientKey.file: open : no such file or directory"},
		{"channel list", "error getting endorser client for channel: endorser client failed to connect to 127.0.0.1:1: " + refused},
		{"channel fetch 0 -c c", "error getting deliver client for channel: failed to create deliver client: deliver client failed to connect to 127.0.0.1:1: " + refused},
		{"chaincode invoke -C c -n n", "error getting endorser client for invoke: endorser client failed to connect to 127.0.0.1:1: " + refused},
		{"chaincode query -C c --peerAddresses a:1 --peerAddresses b:1", "error validating peer connection parameters: 'query' command can only be executed against one peer. received 2"},
		{"chaincode package", "output file not specified or invalid number of args (filename should be the only arg)"},
		{"logging getlogspec", "admin client failed to connect to 127.0.0.1:1: " + refused},
	}
	for _, tc := range cases {
		t.Run(tc.args, func(t *testing.T) {
			_, stderr, code := execute(t, strings.Fields(tc.args)...)
			if want := "Error: " + tc.want + "\n"; code != 1 || stderr != want {
				t.Errorf("exit code %d, stderr\n%q, want\n%q", code, stderr, want)
			}
		})
	}
}

func TestNodeStatusOfNobody(t *testing.T) {
	sample(t)
	t.Setenv("CORE_PEER_ADDRESS", "127.0.0.1:1")
	stdout, stderr, code := execute(t, "node", "status")
	text := `admin client failed to connect to 127.0.0.1:1: failed to create new connection: connection error: desc = "transport: error while dialing: dial tcp 127.0.0.1:1: connect: connection refused"`
	if want := "nodeCmd status WARN " + text + "\nError: " + text + "\n"; code != 1 || stdout != "status:UNKNOWN \n" || stderr != want {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
}

func TestStartUpFailures(t *testing.T) {
	empty, bad := t.TempDir(), t.TempDir()
	if err := os.WriteFile(bad+"/core.yaml", []byte("peer: ["), 0o600); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name string
		env  map[string]string
		want string // what stderr starts with
		code int
	}{
		{"directory", map[string]string{"FABRIC_CFG_PATH": "/nosuch"}, "main InitCmd ERROR Fatal error when initializing core config : FABRIC_CFG_PATH /nosuch does not exist", 1},
		{"file", map[string]string{"FABRIC_CFG_PATH": empty}, "main InitCmd ERROR Fatal error when initializing core config : Could not find config file. Please make sure that FABRIC_CFG_PATH is set to a path which contains core.yaml", 1},
		{"malformed", map[string]string{"FABRIC_CFG_PATH": bad}, "main InitCmd ERROR Fatal error when initializing core config : error when reading core config file: While parsing config: yaml: ", 1},
		{"no MSP", map[string]string{"CORE_PEER_MSPCONFIGPATH": "/nosuch"}, `main InitCmd ERROR Cannot run peer because cannot init crypto, folder "/nosuch" does not exist`, 1},
		{"MSP type", map[string]string{"CORE_PEER_LOCALMSPTYPE": "foo"}, "main InitCmd ERROR Cannot run peer because error when setting up MSP of type foo from directory ", 1},
		{"MSP content", map[string]string{"CORE_PEER_MSPCONFIGPATH": empty}, "main InitCmd ERROR Cannot run peer because error when setting up MSP of type bccsp from directory " + empty + ": could not load a valid signer certificate from directory " + empty + "/signcerts: stat " + empty + "/signcerts: no such file or directory", 1},
		{"log spec", map[string]string{"FABRIC_LOGGING_SPEC": "x=y"}, "panic: invalid logging specification 'x=y': bad segment 'x=y'", 2},
		{"log format", map[string]string{"FABRIC_LOGGING_FORMAT": "%{color:x}"}, "panic: invalid color option: x", 2},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			sample(t)
			for k, v := range tc.env {
				t.Setenv(k, v)
			}
			_, stderr, code := execute(t, "channel", "list")
			// Before the configuration is read, lines have the default format.
			got := stderr
			if i := strings.Index(got, "[main]"); i >= 0 {
				got = strings.NewReplacer("[main] ", "main ", " -> ERRO ", " ERROR ", "001\x1b[0m ", "").Replace(got[i:])
			}
			if code != tc.code || !strings.HasPrefix(got, tc.want) {
				t.Errorf("exit code %d, stderr %q, want %q", code, got, tc.want)
			}
		})
	}
}
