package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

const sampleDir = "../../sampleconfig"

// sampleTree returns a shipped file and the reference's keys and values, both
// as JSON trees.
func sampleTree(t *testing.T, file, recorded string) (ours, want map[string]any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(sampleDir, file))
	if err != nil {
		t.Fatal(err)
	}
	var tree map[string]any
	if err := yaml.Unmarshal(text, &tree); err != nil {
		t.Fatal(err)
	}
	asJSON, err := json.Marshal(tree)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(asJSON, &ours); err != nil {
		t.Fatal(err)
	}
	text, err = os.ReadFile(filepath.Join("testdata", recorded))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	return ours, want
}

func TestSampleCoreTree(t *testing.T) {
	t.Parallel()
	ours, want := sampleTree(t, "core.yaml", "sample_core.json")
	// The one value that differs on purpose.
	if got := ours["vm"].(map[string]any)["endpoint"]; got != "process://" {
		t.Errorf("vm.endpoint is %v", got)
	}
	ours["vm"].(map[string]any)["endpoint"] = want["vm"].(map[string]any)["endpoint"]
	if d := cmp.Diff(want, ours); d != "" {
		t.Errorf("core.yaml differs (-reference +ours):\n%s", d)
	}
}

func TestLoadCoreSample(t *testing.T) {
	t.Setenv("FABRIC_CFG_PATH", sampleDir)
	c, err := LoadCore()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := filepath.Abs(sampleDir)
	if err != nil {
		t.Fatal(err)
	}
	checks := []struct{ got, want any }{
		{c.Peer.ID, "jdoe"},
		{c.Peer.MSPConfigPath, filepath.Join(dir, "msp")},
		{c.Peer.TLS.ClientRootCAs[0], filepath.Join(dir, "tls/ca.crt")},
		{c.Peer.FileSystemPath, "/var/hyperledger/production"},
		{c.Peer.KeepAliveMinInterval, time.Minute},
		{c.Peer.Handlers.AuthFilters[1].Name, "ExpirationCheck"},
		{c.Peer.Handlers.Validators["vscc"].Name, "DefaultValidation"},
		{c.Peer.BCCSP.SW.Security, 256},
		{c.Chaincode.StartupTimeout, 5 * time.Minute},
		{c.Chaincode.System["qscc"], true},
		{c.Ledger.TotalQueryLimit, 100000},
		{c.Ledger.HistoryEnabled, true},
		{c.Operations.ListenAddress, "127.0.0.1:9443"},
		{c.Metrics.StatsdWriteInterval, 10 * time.Second},
	}
	for i, k := range checks {
		if k.got != k.want {
			t.Errorf("check %d: got %v, want %v", i, k.got, k.want)
		}
	}
}

func TestEnvironmentOverrides(t *testing.T) {
	t.Setenv("FABRIC_CFG_PATH", sampleDir)
	t.Setenv("CORE_PEER_TLS_ENABLED", "true")
	t.Setenv("CORE_PEER_ID", "") // counts as not set
	t.Setenv("CORE_PEER_ADDRESS", "peer0.org1.example.com:7051")
	t.Setenv("CORE_PEER_TLS_CLIENTROOTCAS_FILES", "/a /b")
	t.Setenv("CORE_CHAINCODE_EXECUTETIMEOUT", "100ms")
	c, err := LoadCore()
	if err != nil {
		t.Fatal(err)
	}
	if !c.Peer.TLS.Enabled || c.Peer.ID != "jdoe" || c.Peer.Address != "peer0.org1.example.com:7051" {
		t.Errorf("overrides not applied: %+v", c.Peer)
	}
	if d := cmp.Diff([]string{"/a", "/b"}, c.Peer.TLS.ClientRootCAs); d != "" {
		t.Error(d)
	}
	if c.Chaincode.ExecuteTimeout != 30*time.Second {
		t.Errorf("execute timeout %v", c.Chaincode.ExecuteTimeout)
	}
}

func TestRareKeysAreRead(t *testing.T) {
	dir := t.TempDir()
	const content = `
peer:
  gomaxprocs: 3
  deliveryclient: {staticRootsEnabled: true}
chaincode:
  systemPlugins:
    - {enabled: true, name: mine, path: /opt/lib/mine.so}
    - {enabled: false, name: other}
`
	if err := os.WriteFile(filepath.Join(dir, "core.yaml"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("FABRIC_CFG_PATH", dir)
	c, err := LoadCore()
	if err != nil {
		t.Fatal(err)
	}
	if c.Peer.GoMaxProcs != 3 || !c.Peer.Delivery.StaticRoots {
		t.Errorf("got %d, %v", c.Peer.GoMaxProcs, c.Peer.Delivery.StaticRoots)
	}
	if d := cmp.Diff([]string{"mine"}, c.Chaincode.SystemPlugins); d != "" {
		t.Error(d)
	}
}

func TestLoadCoreFailures(t *testing.T) {
	cases := []struct{ name, content, want string }{
		{"missing", "", "Could not find config file. Please make sure that FABRIC_CFG_PATH is set to a path which contains core.yaml"},
		{"malformed", "peer: [", "error when reading core config file: While parsing config: yaml: "},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			if tc.content != "" {
				if err := os.WriteFile(filepath.Join(dir, "core.yaml"), []byte(tc.content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			t.Setenv("FABRIC_CFG_PATH", dir)
			if _, err := LoadCore(); err == nil || !strings.HasPrefix(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	t.Setenv("FABRIC_CFG_PATH", "/nosuch")
	if _, err := LoadCore(); err == nil || err.Error() != "FABRIC_CFG_PATH /nosuch does not exist" {
		t.Errorf("no directory: %v", err)
	}
}

func TestEmptyCoreHasDefaults(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "core.yaml"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("FABRIC_CFG_PATH", dir)
	c, err := LoadCore()
	if err != nil {
		t.Fatal(err)
	}
	if c.Chaincode.StartupTimeout != 5*time.Second || c.Ledger.TotalQueryLimit != 10000 || c.Peer.Handlers.Endorsers["escc"].Name != "DefaultEndorsement" {
		t.Errorf("defaults missing: %+v", c)
	}
}

func TestPeerAddress(t *testing.T) {
	t.Parallel()
	if _, err := (Peer{}).PeerAddress(); err == nil || err.Error() != "peer.address isn't set" {
		t.Errorf("unset: %v", err)
	}
	if _, err := (Peer{Address: "nohostport"}).PeerAddress(); err == nil || err.Error() != "peer.address isn't in host:port format: nohostport" {
		t.Errorf("malformed: %v", err)
	}
	if a, err := (Peer{Address: "h:1"}).PeerAddress(); err != nil || a != "h:1" {
		t.Errorf("plain: %q %v", a, err)
	}
}
