package couchtest

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// AddressVariable names a server that is running already, instead of the one
// that Real starts.
const AddressVariable = "HEDDLE_COUCHDB"

// runScript is where the Node server lies, from the module's root.
const runScript = "../shared/couchdb/run"

// Real starts the CouchDB-compatible Node server for a test and returns its
// address. The test is skipped where the server or Node is not present.
func Real(t testing.TB) string {
	t.Helper()
	if address := os.Getenv(AddressVariable); address != "" {
		return address
	}
	script := filepath.Join(moduleRoot(t), runScript)
	if _, err := os.Stat(script); err != nil {
		t.Skipf("the CouchDB test server is not there (%v), and %s is not set", err, AddressVariable)
	}
	if _, err := exec.LookPath("node"); err != nil {
		t.Skipf("the CouchDB test server needs Node (%v), and %s is not set", err, AddressVariable)
	}
	return run(t, script)
}

func moduleRoot(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		up := filepath.Dir(dir)
		if up == dir {
			t.Fatal("there is no go.mod above the test")
		}
		dir = up
	}
}

// run starts the script on a free port and waits until it listens.
func run(t testing.TB, script string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	cmd := exec.Command(script, strconv.Itoa(port))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "listening") {
			client := http.Client{Timeout: time.Minute}
			resp, err := client.Get("http://" + address + "/")
			if err != nil {
				t.Fatalf("the CouchDB test server does not answer: %v", err)
			}
			resp.Body.Close()
			go io.Copy(io.Discard, out) // ends with the process
			return address
		}
	}
	cmd.Wait()
	t.Fatalf("the CouchDB test server did not start: %s", stderr.String())
	return ""
}
