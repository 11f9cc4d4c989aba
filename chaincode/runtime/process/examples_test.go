package process_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/heddle-ledger/heddle/chaincode/platform/golang"
	"github.com/heddle-ledger/heddle/chaincode/runtimetest"
	"github.com/heddle-ledger/heddle/internal/flog"
)

// The sample chaincodes go all the way: packed as by the command line, built,
// started, invoked.
func TestExamples(t *testing.T) {
	t.Parallel()
	examples, err := filepath.Abs("../../../examples")
	if err != nil {
		t.Fatal(err)
	}
	rt := open(t)
	for path, gopath := range map[string]string{filepath.Join(examples, "asset"): "", "example.com/asset": filepath.Join(examples, "gopath")} {
		t.Run(filepath.Base(filepath.Dir(path)), func(t *testing.T) {
			t.Parallel()
			if testing.Short() && gopath != "" {
				t.Skip("costs a build of the 1.4 shim")
			}
			tool := golang.Tool{Environ: append(os.Environ(), "GOPATH="+gopath)}
			if gopath == "" {
				tool.Environ = os.Environ()
			}
			source, err := golang.Find(tool, path)
			if err != nil {
				t.Fatal(err)
			}
			code, err := source.Pack()
			if err != nil {
				t.Fatal(err)
			}
			p := runtimetest.StartPeer(t, runtimetest.PeerOptions{Runtime: rt, Log: flog.ForTest(t)})
			p.Install(t, "asset", "1.0", code).Path = source.Path
			if _, err := p.Init(t.Context(), "asset", "init"); err != nil {
				t.Fatal(err)
			}
			for _, c := range []struct{ args, want string }{
				{"create a1 ann 5", `{"id":"a1","owner":"ann","value":5}`},
				{"create a2 bob 6", `{"id":"a2","owner":"bob","value":6}`},
				{"transfer a1 bob", `{"id":"a1","owner":"bob","value":5}`},
				{"list a a2", `["a1"]`},
				{"delete a2", ""},
				{"read a1", `{"id":"a1","owner":"bob","value":5}`},
				{"read a2", "asset a2 does not exist"},
			} {
				resp, err := p.Invoke(t.Context(), "asset", strings.Fields(c.args)...)
				if err != nil {
					t.Fatal(err)
				}
				if got := resp.Message + string(resp.Payload); got != c.want {
					t.Errorf("%s: %s, want %s", c.args, got, c.want)
				}
			}
		})
	}
}
