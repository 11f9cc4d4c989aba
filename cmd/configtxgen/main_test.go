package main

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-ledger/heddle/internal/golden"
)

const (
	mainDir = "testdata/config/configtxgen"
	edgeDir = "testdata/config/configtxgen_edge"
)

func vector(t testing.TB, name string, into any) []byte {
	t.Helper()
	f, err := os.Open("testdata/" + name + ".gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	if into != nil {
		if err := json.Unmarshal(raw, into); err != nil {
			t.Fatal(err)
		}
	}
	return raw
}

type result struct {
	code           int
	stdout, stderr string
}

func runWith(env map[string]string, args ...string) result {
	var stdout, stderr bytes.Buffer
	code := run(args, world{stdout: &stdout, stderr: &stderr, getenv: func(k string) string {
		if k == "FABRIC_LOGGING_FORMAT" {
			return "%{module} %{level} %{message}"
		}
		return env[k]
	}})
	return result{code, stdout.String(), stderr.String()}
}

// lastLine is the message of the last log line.
func (r result) lastLine() string {
	lines := strings.Split(strings.TrimSpace(r.stderr), "\n")
	parts := strings.SplitN(lines[len(lines)-1], " ", 3)
	return parts[len(parts)-1]
}

// blank removes from a JSON tree what differs from run to run.
func blank(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for _, key := range []string{"nonce", "tx_id", "timestamp", "data_hash"} {
			delete(v, key)
		}
		for key := range v {
			v[key] = blank(v[key])
		}
	case []any:
		for i := range v {
			v[i] = blank(v[i])
		}
	}
	return v
}

func inspect(t *testing.T, flag, path string) any {
	t.Helper()
	r := runWith(nil, "-configPath", mainDir, flag, path)
	if r.code != 0 {
		t.Fatal(r.stderr)
	}
	var got any
	if err := json.Unmarshal([]byte(r.stdout), &got); err != nil {
		t.Fatal(err)
	}
	return blank(got)
}

func TestOutputs(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		vector  string
		inspect string
		args    []string
	}{
		{"genesis_solo", "-inspectBlock", []string{"-profile", "SoloGenesis", "-channelID", "syschannel", "-outputBlock"}},
		{"genesis_kafka", "-inspectBlock", []string{"-profile", "KafkaGenesis", "-channelID", "syschannel", "-outputBlock"}},
		{"genesis_raft", "-inspectBlock", []string{"-profile", "RaftGenesis", "-channelID", "syschannel", "-outputBlock"}},
		{"genesis_nopolicies", "-inspectBlock", []string{"-profile", "NoPoliciesGenesis", "-channelID", "syschannel", "-outputBlock"}},
		{"standalone", "-inspectBlock", []string{"--profile", "StandaloneChannel", "--channelID", "standalone", "--outputBlock"}},
		{"mychannel.tx", "-inspectChannelCreateTx", []string{"-profile", "TwoOrgChannel", "-channelID", "mychannel", "-outputCreateChannelTx"}},
		{"mychannel_withbase.tx", "-inspectChannelCreateTx", []string{"-profile", "TwoOrgChannel", "-channelID", "mychannel", "-channelCreateTxBaseProfile", "SoloGenesis", "-outputCreateChannelTx"}},
		{"Org1anchors.tx", "-inspectChannelCreateTx", []string{"-profile", "TwoOrgChannel", "-channelID", "mychannel", "-asOrg", "Org1", "-outputAnchorPeersUpdate"}},
		{"Org2anchors.tx", "-inspectChannelCreateTx", []string{"-profile", "TwoOrgChannel", "-channelID", "mychannel", "-asOrg", "Org2", "-outputAnchorPeersUpdate"}},
	} {
		t.Run(tc.vector, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "out")
			r := runWith(nil, append(append([]string{"-configPath", mainDir}, tc.args...), path)...)
			if r.code != 0 || r.stdout != "" {
				t.Fatalf("exit %d\n%s%s", r.code, r.stdout, r.stderr)
			}
			if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o644 {
				t.Errorf("mode %v %v", st, err)
			}
			var want any
			vector(t, tc.vector+".json", &want)
			got := inspect(t, tc.inspect, path)
			if diff := cmp.Diff(blank(want), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPrintOrg(t *testing.T) {
	t.Parallel()
	r := runWith(nil, "-configPath", mainDir, "-printOrg", "Org1")
	if diff := cmp.Diff(string(vector(t, "printorg_org1.json", nil)), r.stdout); diff != "" || r.code != 0 {
		t.Errorf("exit %d %s\n%s", r.code, r.stderr, diff)
	}
}

// groupOf finds the channel group in the JSON of a block.
func groupOf(v any) any {
	for _, key := range []string{"data", "data", "0", "payload", "data", "config", "channel_group"} {
		if list, ok := v.([]any); ok {
			v = list[0]
			continue
		}
		v = v.(map[string]any)[key]
	}
	return v
}

func TestEdgeCases(t *testing.T) {
	t.Parallel()
	var v struct {
		Cases []struct {
			Profile      string
			Env          map[string]string
			ChannelGroup any `json:"channel_group"`
			Exit         int
			Error        string
		}
	}
	vector(t, "edge.json", &v)
	dir, err := filepath.Abs(edgeDir)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range v.Cases {
		t.Run(tc.Profile, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "out")
			r := runWith(tc.Env, "-configPath", edgeDir, "-profile", tc.Profile, "-channelID", "edge", "-outputBlock", path)
			if tc.Error != "" {
				want := strings.ReplaceAll(tc.Error, "<dir of configtx.yaml>", dir)
				if got := r.lastLine(); got != want || r.code == 0 {
					t.Errorf("exit %d\n got %s\nwant %s", r.code, got, want)
				}
				return
			}
			if r.code != 0 {
				t.Fatal(r.stderr)
			}
			if diff := cmp.Diff(blank(tc.ChannelGroup), groupOf(inspect(t, "-inspectBlock", path))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	garbage := filepath.Join(t.TempDir(), "garbage")
	if err := os.WriteFile(garbage, []byte{0x0f}, 0o600); err != nil {
		t.Fatal(err)
	}
	broken, err := base64.StdEncoding.DecodeString("CgEH") // an envelope whose payload is garbage
	if err != nil {
		t.Fatal(err)
	}
	inside := filepath.Join(t.TempDir(), "inside")
	if err := os.WriteFile(inside, broken, 0o600); err != nil {
		t.Fatal(err)
	}
	two := []string{"-profile", "TwoOrgChannel"}
	for _, tc := range []struct {
		name string
		args []string
		want string // start of the last line
	}{
		{"profile", []string{"-profile", "Nope", "-outputBlock", "x"}, "Could not find profile:  Nope. Please make sure that FABRIC_CFG_PATH or -configPath is set to a path which contains configtx.yaml with the specified profile"},
		{"base profile", append([]string{"-outputCreateChannelTx", "x", "-channelCreateTxBaseProfile", "Nope"}, two...), "Could not find profile:  Nope. Please"},
		{"no orderer", append([]string{"-outputBlock", "x"}, two...), "Error on outputBlock: refusing to generate block which is missing orderer section"},
		{"block path", []string{"-profile", "SoloGenesis", "-outputBlock", "/nonexistent/x"}, "Error on outputBlock: Error writing genesis block: open /nonexistent/x: no such file or directory"},
		{"tx path", append([]string{"-outputCreateChannelTx", "/nonexistent/x"}, two...), "Error on outputChannelCreateTx: Error writing channel create tx: "},
		{"anchors path", append([]string{"-outputAnchorPeersUpdate", "/nonexistent/x", "-asOrg", "Org1"}, two...), "Error on inspectChannelCreateTx: Error writing channel anchor peer update: "},
		{"no application", []string{"-profile", "SoloGenesis", "-outputCreateChannelTx", "x"}, "Error on outputChannelCreateTx: could not generate default config template: channel template configs must contain an application section"},
		{"base without consortiums", append([]string{"-outputCreateChannelTx", "x", "-channelCreateTxBaseProfile", "StandaloneChannel"}, two...), "Error on outputChannelCreateTx: could not create config template: supplied system channel group does not appear to be system channel (missing consortiums group)"},
		{"base without member", append([]string{"-outputCreateChannelTx", "x", "-channelCreateTxBaseProfile", "NoPoliciesGenesis"}, two...), "Error on outputChannelCreateTx: could not create config template: consortium SampleConsortium does not contain member org Org1"},
		{"anchors without org", append([]string{"-outputAnchorPeersUpdate", "x"}, two...), "Error on inspectChannelCreateTx: Must specify an organization to update the anchor peer for"},
		{"anchors of unknown org", append([]string{"-outputAnchorPeersUpdate", "x", "-asOrg", "Nope"}, two...), "Error on inspectChannelCreateTx: No organization name matching: Nope"},
		{"anchors without application", []string{"-profile", "SoloGenesis", "-outputAnchorPeersUpdate", "x", "-asOrg", "Org1"}, "Error on inspectChannelCreateTx: Cannot update anchor peers without an application section"},
		{"missing block", []string{"-inspectBlock", "/nonexistent"}, "Error on inspectBlock: Could not read block /nonexistent"},
		{"garbage block", []string{"-inspectBlock", garbage}, "Error on inspectBlock: error unmarshaling to block: "},
		{"missing tx", []string{"-inspectChannelCreateTx", "/nonexistent"}, "Error on inspectChannelCreateTx: could not read channel create tx: open /nonexistent: no such file or directory"},
		{"garbage tx", []string{"-inspectChannelCreateTx", garbage}, "Error on inspectChannelCreateTx: Error unmarshaling envelope: "},
		{"garbage inside tx", []string{"-inspectChannelCreateTx", inside}, "Error on inspectChannelCreateTx: malformed transaction contents: *common.Envelope: "},
		{"unknown org", []string{"-printOrg", "Nope"}, "Error on printOrg: organization Nope not found"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := runWith(nil, append([]string{"-configPath", mainDir}, tc.args...)...)
			if r.code != 1 || !strings.HasPrefix(r.lastLine(), tc.want) {
				t.Errorf("exit %d\n got %s\nwant %s", r.code, r.lastLine(), tc.want)
			}
		})
	}
}

func TestFlags(t *testing.T) {
	t.Parallel()
	if r := runWith(nil, "-nope"); r.code != 2 || !strings.HasPrefix(r.stderr, "flag provided but not defined: -nope\nUsage of configtxgen:\n") {
		t.Errorf("%+v", r)
	}
	for _, tc := range golden.Transcripts(t, "testdata/cli_help.txt") {
		if r := runWith(nil, strings.Fields(tc.Command)[1:]...); r != (result{tc.Code, tc.Stdout, tc.Stderr}) {
			t.Errorf("%s: %s", tc.Command, cmp.Diff(tc.Stderr, r.stderr))
		}
	}
	if r := runWith(nil, "-version"); r.code != 0 || !strings.HasPrefix(r.stdout, "configtxgen:\n Version: 1.4.12+") {
		t.Errorf("%+v", r)
	}
	if r := runWith(nil, "-configPath", mainDir); r.code != 0 || r.stdout != "" {
		t.Errorf("no output flag: %+v", r)
	}
	if r := runWith(map[string]string{"FABRIC_CFG_PATH": mainDir}, "rest", "-nope"); r.code != 0 {
		t.Errorf("from the first positional argument on all is ignored: %+v", r)
	}
	if r := runWith(nil, "-configPath", "testdata"); r.code == 0 || !strings.HasPrefix(r.lastLine(), "Error reading configuration: ") {
		t.Errorf("without configtx.yaml: %+v", r)
	}
	path := filepath.Join(t.TempDir(), "x")
	r := runWith(nil, "-configPath", mainDir, "-profile", "SoloGenesis", "-outputBlock", path)
	if r.code != 0 || !strings.Contains(r.stderr, "defaulting to 'testchainid'") {
		t.Errorf("without channel id: %+v", r)
	}
	r = runWith(map[string]string{"FABRIC_LOGGING_SPEC": "a=b=c"}, "-configPath", mainDir)
	if r.code != 2 {
		t.Errorf("bad logging spec: %+v", r)
	}
}
