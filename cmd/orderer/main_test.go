package main

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/heddle-ledger/heddle/internal/version"
)

// childVariable makes the test binary behave as the command.
const childVariable = "HEDDLE_TEST_ORDERER"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		main()
	}
	os.Exit(m.Run())
}

// command is the orderer with the sample configuration, the identity of the
// sample and its own directory, on free ports.
func command(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Env = append([]string{
		childVariable + "=1", "PATH=" + os.Getenv("PATH"), "FABRIC_CFG_PATH=../../sampleconfig",
		"FABRIC_LOGGING_FORMAT=%{level} %{module} %{message}",
		"ORDERER_GENERAL_GENESISMETHOD=file", "ORDERER_GENERAL_GENESISFILE=" + mustAbs(t, "../../orderer/node/testdata/solo_genesis.block"),
		"ORDERER_GENERAL_LOCALMSPDIR=" + mustAbs(t, "../../orderer/node/testdata/orderer-msp"), "ORDERER_GENERAL_LOCALMSPID=OrdererMSP",
		"ORDERER_FILELEDGER_LOCATION=" + t.TempDir(), "ORDERER_OPERATIONS_LISTENADDRESS=127.0.0.1:0",
	}, env...)
	return cmd
}

func mustAbs(t *testing.T, path string) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	return dir + "/" + path
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	golden, err := os.ReadFile("testdata/help.txt")
	if err != nil {
		t.Fatal(err)
	}
	help := strings.Split(string(golden), "====\n")
	versionText := "orderer:\n Version: " + version.Full + "\n Commit SHA: " + version.CommitSHA + "\n Go version: " + runtime.Version() +
		"\n OS/Arch: " + runtime.GOOS + "/" + runtime.GOARCH + "\n\n"
	for _, tc := range []struct {
		args           string
		stdout, stderr string
		code           int
	}{
		{"version", versionText, "", 0},
		{"foo", "", "orderer: error: unexpected foo, try --help\n", 1},
		{"start --bogus", "", "orderer: error: unknown long flag '--bogus', try --help\n", 1},
		{"version x", "", "orderer: error: unexpected x, try --help\n", 1},
		{"--help", "", help[0], 0},
		{"start --help", "", help[1], 0},
		{"help version", "", help[2], 0},
		{"benchmark --help", "", help[3], 0},
	} {
		t.Run(tc.args, func(t *testing.T) {
			t.Parallel()
			cmd := command(t, nil, strings.Fields(tc.args)...)
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			_ = cmd.Run()
			if stdout.String() != tc.stdout || stderr.String() != tc.stderr || cmd.ProcessState.ExitCode() != tc.code {
				t.Errorf("exit code %d, stdout:\n%s\nstderr:\n%s", cmd.ProcessState.ExitCode(), &stdout, &stderr)
			}
		})
	}
}

// TestFailingStart checks first error text and exit code (daemon_start.txt).
func TestFailingStart(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		env  string
		want string
		code int
	}{
		{"FABRIC_CFG_PATH=/nosuch", `ERROR orderer.common.server failed to parse config:  Error reading configuration: Unsupported Config Type ""` + "\n", 1},
		{"ORDERER_GENERAL_LISTENPORT=abc", "ERROR orderer.common.server failed to parse config:  Error unmarshaling config into struct: 1 error(s) decoding:\n\n* cannot parse 'General.ListenPort' as uint: strconv.ParseUint: parsing \"abc\": invalid syntax\n", 1},
		{"ORDERER_GENERAL_GENESISMETHOD=foo", "PANIC orderer.common.server Unknown genesis method: foo\npanic: Unknown genesis method: foo\n", 2},
		{"ORDERER_GENERAL_GENESISFILE=/nosuch", "panic: unable to bootstrap orderer. Error reading genesis block file: open /nosuch: no such file or directory\n", 2},
		{"ORDERER_GENERAL_TLS_ENABLED=true", "FATAL orderer.common.server Failed to load server Certificate file '", 1},
		{"ORDERER_FILELEDGER_LOCATION=/proc/x", "panic: Error creating dir if missing: error creating dir [/proc/x/index/]: mkdir /proc/x: no such file or directory\n", 2},
		{"FABRIC_LOGGING_SPEC=x=y", "panic: invalid logging specification 'x=y': bad segment 'x=y'\n", 2},
		{"FABRIC_LOGGING_FORMAT=%{color:foo}", "panic: invalid color option: foo\n", 2},
	} {
		t.Run(tc.env, func(t *testing.T) {
			t.Parallel()
			cmd := command(t, []string{tc.env})
			out, _ := cmd.CombinedOutput()
			if !strings.Contains(string(out), tc.want) || cmd.ProcessState.ExitCode() != tc.code {
				t.Errorf("exit code %d, output:\n%s", cmd.ProcessState.ExitCode(), out)
			}
		})
	}
}

// TestSignals: SIGUSR1 dumps goroutines, SIGTERM ends the daemon with exit code 0.
func TestSignals(t *testing.T) {
	t.Parallel()
	cmd := command(t, []string{"ORDERER_GENERAL_LISTENADDRESS=127.0.0.77", "ORDERER_GENERAL_LISTENPORT=17099"}, "benchmark")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var seen []string
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		switch line := lines.Text(); {
		case strings.HasSuffix(line, "Beginning to serve requests"):
			seen = append(seen, "serving")
			err = cmd.Process.Signal(syscall.SIGUSR1)
		case strings.HasSuffix(line, "Go routines report:"):
			seen = append(seen, "report")
			err = cmd.Process.Signal(syscall.SIGTERM)
		case strings.HasSuffix(line, "Received signal: 10 (user defined signal 1)"):
			seen = append(seen, "SIGUSR1")
		case strings.HasSuffix(line, "Received signal: 15 (terminated)"):
			seen = append(seen, "SIGTERM")
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the daemon ends with %s", err)
	}
	if got, want := strings.Join(seen, " "), "serving SIGUSR1 report SIGTERM"; got != want {
		t.Errorf("saw %s, want %s", got, want)
	}
}
