// Package runtimetest is the conformance suite of chaincode runtimes: Run puts
// a runtime between a small peer and chaincodes on the stock shims. Only tests
// may import it.
package runtimetest

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/heddle-ledger/heddle/chaincode/support"
	"github.com/heddle-ledger/heddle/internal/flog"
)

// Options describe the runtime under test.
type Options struct {
	Open   func(t testing.TB) support.Runtime // opened once, shared by all tests
	Probes []Probe
	// Environment: chaincodes get exactly the variables of CHAINCODE §5.7.
	Environment bool
}

// Run checks a runtime.
func Run(t *testing.T, o Options) {
	rt := o.Open(t)
	for _, probe := range o.Probes {
		code, err := probe.Code()
		if err != nil {
			t.Fatal(err)
		}
		t.Run(probe.Name, func(t *testing.T) {
			t.Parallel()
			for _, tls := range []bool{false, true} {
				name := "plaintext"
				if tls {
					name = "TLS"
				}
				t.Run(name, func(t *testing.T) { conversation(t, o, rt, tls, code) })
			}
			t.Run("death", func(t *testing.T) { death(t, rt, code) })
		})
	}
	t.Run("broken", func(t *testing.T) { broken(t, rt) })
}

// conversation launches a chaincode and has it use the ledger and another one.
func conversation(t *testing.T, o Options, rt support.Runtime, tls bool, code []byte) {
	p := StartPeer(t, PeerOptions{Runtime: rt, TLS: tls, Log: flog.ForTest(t)})
	ctx := t.Context()
	p.Install(t, "probe", "1.0", code)
	p.Install(t, "other", "2.0", code)
	if _, err := p.Init(ctx, "probe", "a", "b"); err != nil {
		skipWithoutModules(t, err)
		t.Fatal(err)
	}
	if _, err := p.Init(ctx, "probe", "fail"); err == nil || err.Error() != "transaction returned with failure: init refused" {
		t.Errorf("refused init: %v", err)
	}
	for i := range 250 {
		p.State.Put("probe", "k"+string(rune('a'+i/26))+string(rune('a'+i%26)), []byte("v"))
	}
	for _, c := range []struct{ args, want string }{
		{"get init", "200 a,b"},
		{"get none", "200 "},
		{"put x 1", "200 "},
		{"get x", "200 1"},
		{"count k l", "200 250"},
		{"call other ch1 put y 2", "200 200||"},
		{"call other ch1 get y", "200 200||2"},
		{"call nosuch ch1 ping", "200 500||INVOKE_CHAINCODE failed: transaction ID: TX: chaincode nosuch not found"},
		{"nonsense", "500 unknown function nonsense"},
	} {
		args := strings.Fields(c.args)
		resp, err := p.Invoke(ctx, "probe", args...)
		if err != nil {
			t.Errorf("%s: %v", c.args, err)
			continue
		}
		got := "200 " + string(resp.Payload)
		if resp.Status != 200 {
			got = "500 " + resp.Message
		}
		if i := strings.Index(got, "transaction ID: "); i >= 0 {
			rest := got[i+len("transaction ID: "):]
			got = got[:i] + "transaction ID: TX" + rest[strings.Index(rest, ":"):]
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", c.args, got, c.want)
		}
	}
	tx := p.Tx()
	_, event, err := p.Execute(ctx, tx, "probe", "1.0", Args("event", "name", "payload"))
	if err != nil || event.ChaincodeId != "probe" || event.TxId != tx.TxID || event.EventName != "name" || string(event.Payload) != "payload" {
		t.Errorf("event %v, %v", event, err)
	}
	if o.Environment {
		environment(ctx, t, p, tls)
	}
}

// skipWithoutModules skips a test whose shim cannot be downloaded here.
func skipWithoutModules(t *testing.T, err error) {
	t.Helper()
	for _, sign := range []string{"dial tcp", "module lookup disabled", "no such host", "connection refused"} {
		if strings.Contains(err.Error(), sign) {
			t.Skipf("the shim's modules are not to be had: %v", err)
		}
	}
}

func environment(ctx context.Context, t *testing.T, p *Peer, tls bool) {
	t.Helper()
	resp, err := p.Invoke(ctx, "probe", "env")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, kv := range strings.Split(string(resp.Payload), "\n") {
		name, _, _ := strings.Cut(kv, "=")
		names = append(names, name)
	}
	want := []string{
		"CORE_CHAINCODE_BUILDLEVEL", "CORE_CHAINCODE_ID_NAME", "CORE_CHAINCODE_LOGGING_FORMAT", "CORE_CHAINCODE_LOGGING_LEVEL",
		"CORE_CHAINCODE_LOGGING_SHIM", "CORE_PEER_LOCALMSPID", "CORE_PEER_TLS_ENABLED", "HOME", "PATH", "PWD", "TMPDIR",
	}
	if tls {
		want = append(want, "CORE_PEER_TLS_ROOTCERT_FILE", "CORE_TLS_CLIENT_CERT_FILE", "CORE_TLS_CLIENT_CERT_PATH", "CORE_TLS_CLIENT_KEY_FILE", "CORE_TLS_CLIENT_KEY_PATH")
	}
	for _, name := range names {
		if !slices.Contains(want, name) {
			t.Errorf("chaincode was given %s", name)
		}
	}
	for _, name := range want[:7] {
		if !slices.Contains(names, name) {
			t.Errorf("chaincode was not given %s", name)
		}
	}
}

// death checks what is told of chaincodes that end, and that they are started
// again.
func death(t *testing.T, rt support.Runtime, code []byte) {
	p := StartPeer(t, PeerOptions{Runtime: rt, Log: flog.ForTest(t)})
	ctx := t.Context()
	p.Install(t, "probe", "1.0", code)
	if _, err := p.Init(ctx, "probe"); err != nil {
		skipWithoutModules(t, err)
		t.Fatal(err)
	}
	tx := p.Tx()
	_, _, err := p.Execute(ctx, tx, "probe", "1.0", Args("exit", "3"))
	if want := "failed to execute transaction " + tx.TxID + ": error sending: chaincode stream terminated"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if resp, err := p.Invoke(ctx, "probe", "ping"); err != nil || string(resp.Payload) != "pong" {
		t.Errorf("not started again: %v %v", resp, err)
	}
	p.Install(t, "probe", "crash", code)
	_, err = p.Init(ctx, "probe")
	if err == nil || !strings.HasPrefix(err.Error(), "chaincode registration failed: container exited with 7") || !strings.Contains(err.Error(), "last words") {
		t.Errorf("crash at start: %v", err)
	}
}

// broken checks the errors of packages that cannot be built.
func broken(t *testing.T, rt support.Runtime) {
	p := StartPeer(t, PeerOptions{Runtime: rt, Log: flog.ForTest(t)})
	for name, c := range map[string]struct{ file, content, want string }{
		"syntax":   {"src/" + Path + "/main.go", "package main\nfunc main( {}\n", `Error returned from build: 1 "`},
		"no files": {"src/other/main.go", "package main\nfunc main() {}\n", `Error returned from build: 1 "`},
		"escape":   {"src/../../x.go", "package main\n", "illegal name in code package"},
	} {
		code, err := Archive([2]string{c.file, c.content})
		if err != nil {
			t.Fatal(err)
		}
		p.Install(t, "probe", "1.0", code)
		_, err = p.Init(t.Context(), "probe")
		if err == nil || !strings.HasPrefix(err.Error(), "error starting container: error starting container: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	d := p.Install(t, "probe", "1.0", nil)
	d.Type = 0
	if _, err := p.Init(t.Context(), "probe"); err == nil || err.Error() != "error starting container: unknown chaincodeType: UNDEFINED" {
		t.Errorf("unknown type: %v", err)
	}
}
