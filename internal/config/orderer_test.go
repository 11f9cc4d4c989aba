package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestSampleOrderer compares the shipped file with the reference's.
func TestSampleOrderer(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(filepath.Join(sampleDir, "orderer.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := parseYAML11(raw)
	if err != nil {
		t.Fatal(err)
	}
	var want any
	golden, err := os.ReadFile("testdata/sample_orderer.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(golden, &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, viaJSON(t, got)); diff != "" {
		t.Errorf("sampleconfig/orderer.yaml (-want +got):\n%s", diff)
	}
}

func viaJSON(t *testing.T, v any) (out any) {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestLoadOrdererSample(t *testing.T) {
	t.Setenv("FABRIC_CFG_PATH", sampleDir)
	var notes []string
	c, err := LoadOrderer(func(s string) { notes = append(notes, s) })
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"Kafka.Version unset, setting to 0.10.2.0"}, notes); diff != "" {
		t.Errorf("notes (-want +got):\n%s", diff)
	}
	abs, err := filepath.Abs(sampleDir)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.General.LocalMSPDir, filepath.Join(abs, "msp"); got != want {
		t.Errorf("LocalMSPDir = %s, want %s", got, want)
	}
	if c.General.Cluster.RPCTimeout != 7*time.Second || c.General.ListenPort != 7050 || c.RAMLedger.HistorySize != 1000 {
		t.Errorf("unexpected values: %+v", c)
	}
	if got, want := c.Consensus["WALDir"], "/var/hyperledger/production/orderer/etcdraft/wal"; got != want {
		t.Errorf("Consensus.WALDir = %v, want %v", got, want)
	}
}

// TestDumpLines checks the lines of the dump in daemon_start.txt; the values that
// are of the recording's machine are set accordingly.
func TestDumpLines(t *testing.T) {
	t.Setenv("FABRIC_CFG_PATH", sampleDir)
	c, err := LoadOrderer(nil)
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]bool)
	for _, l := range strings.Split(c.Dump(), "\n\t") {
		got[l] = true
	}
	golden, err := os.ReadFile("testdata/orderer_dump.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range strings.Split(strings.TrimSpace(string(golden)), "\n") {
		if !got[want] && !got[want+" "] {
			t.Errorf("the dump lacks %q", want)
		}
	}
}

func TestLoadOrdererErrors(t *testing.T) {
	for _, tc := range []struct{ name, yaml, env, value, want string }{
		{"syntax", "General: [", "", "", "Error reading configuration: While parsing config: yaml: line 1: did not find expected node content"},
		{"unknown top", "Foo: 1", "", "", "Error unmarshaling config into struct: 1 error(s) decoding:\n\n* '' has invalid keys: foo"},
		{"unknown below", "General:\n  Bar: 1", "", "", "Error unmarshaling config into struct: 1 error(s) decoding:\n\n* 'General' has invalid keys: Bar"},
		{"port", "General:", "ORDERER_GENERAL_LISTENPORT", "abc", "Error unmarshaling config into struct: 1 error(s) decoding:\n\n* cannot parse 'General.ListenPort' as uint: strconv.ParseUint: parsing \"abc\": invalid syntax"},
		{"large port", "General:", "ORDERER_GENERAL_LISTENPORT", "70000", "Error unmarshaling config into struct: 1 error(s) decoding:\n\n* cannot parse 'General.ListenPort' as uint: strconv.ParseUint: parsing \"70000\": value out of range"},
		{"duration", "", "ORDERER_GENERAL_AUTHENTICATION_TIMEWINDOW", "xx", "Error unmarshaling config into struct: 1 error(s) decoding:\n\n* cannot parse 'General.Authentication.TimeWindow' as int: strconv.ParseInt: parsing \"xx\": invalid syntax"},
		{"old kafka", "", "ORDERER_KAFKA_VERSION", "0.8.1", "Error unmarshaling config into struct: 1 error(s) decoding:\n\n* error decoding 'Kafka.Version': Unsupported Kafka version: '0.8.1'"},
		{"no version", "", "ORDERER_KAFKA_VERSION", "abc", "Error unmarshaling config into struct: 1 error(s) decoding:\n\n* error decoding 'Kafka.Version': Unable to parse Kafka version: Malformed version: abc"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "orderer.yaml"), []byte(tc.yaml), 0o600); err != nil {
				t.Fatal(err)
			}
			t.Setenv("FABRIC_CFG_PATH", dir)
			if tc.env != "" {
				t.Setenv(tc.env, tc.value)
			}
			_, err := LoadOrderer(nil)
			if err == nil || err.Error() != tc.want {
				t.Errorf("LoadOrderer:\n got %v\nwant %s", err, tc.want)
			}
		})
	}
	t.Setenv("FABRIC_CFG_PATH", "/nosuch")
	if _, err := LoadOrderer(nil); err == nil || err.Error() != `Error reading configuration: Unsupported Config Type ""` {
		t.Errorf("missing directory: %v", err)
	}
}

func TestOrdererEnvironment(t *testing.T) {
	dir := t.TempDir()
	yaml := "general:\n  TLS: {Enabled: yes}\nKafka:\n  TLS:\n    PrivateKey:\n    Certificate: {File: " + dir + "/x}\n"
	for name, text := range map[string]string{"orderer.yaml": yaml, "x": "content", "key": "secret"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("FABRIC_CFG_PATH", dir)
	t.Setenv("ORDERER_GENERAL_TLS_ROOTCAS", "[a, b]")
	t.Setenv("ORDERER_GENERAL_LISTENADDRESS", "")
	t.Setenv("ORDERER_KAFKA_TLS_PRIVATEKEY_FILE", filepath.Join(dir, "key"))
	t.Setenv("ORDERER_CONSENSUS_WALDIR", "/w")
	t.Setenv("ORDERER_GENERAL_BCCSP_SW_SECURITY", "384")
	c, err := LoadOrderer(nil)
	if err != nil {
		t.Fatal(err)
	}
	type values struct {
		Roots             []string
		TLS               bool
		Address, Key, Crt string
		WAL               any
		Security          int
	}
	want := values{[]string{dir + "/a", dir + "/b"}, true, "127.0.0.1", "secret", "content", "/w", 384}
	got := values{
		c.General.TLS.RootCAs, c.General.TLS.Enabled, c.General.ListenAddress, c.Kafka.TLS.PrivateKey,
		c.Kafka.TLS.Certificate, c.Consensus["WALDir"], c.General.BCCSP.SW.Security,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestKafkaLevels(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"0.8.2.0": "0.8.2.0", "0.8.2.5": "0.8.2.2", "0.9": "0.9.0.0", "0.9.1": "0.9.0.1", "0.10.0.0": "0.10.0.0",
		"0.10.1.7": "0.10.1.0", "0.10.2.1": "0.10.2.0", "0.11.0.2": "0.11.0.0", "1.0": "1.0.0", "3.9.1": "1.0.0",
	} {
		if got, err := ParseKafkaVersion(in); err != nil || got.String() != want {
			t.Errorf("ParseKafkaVersion(%s) = %v, %v, want %s", in, got, err, want)
		}
	}
}

// TestCheckOrderer: each contradiction has its text, in this order.
func TestCheckOrderer(t *testing.T) {
	t.Parallel()
	c := &Orderer{}
	c.Kafka.TLS.Enabled, c.Kafka.SASLPlain.Enabled = true, true
	for _, tc := range []struct {
		want string
		mend func()
	}{
		{"General.Kafka.TLS.Certificate must be set if General.Kafka.TLS.Enabled is set to true.", func() { c.Kafka.TLS.Certificate = "x" }},
		{"General.Kafka.TLS.PrivateKey must be set if General.Kafka.TLS.Enabled is set to true.", func() { c.Kafka.TLS.PrivateKey = "x" }},
		{"General.Kafka.TLS.CertificatePool must be set if General.Kafka.TLS.Enabled is set to true.", func() { c.Kafka.TLS.RootCAs = []string{"x"} }},
		{"General.Kafka.SASLPlain.User must be set if General.Kafka.SASLPlain.Enabled is set to true.", func() { c.Kafka.SASLPlain.User = "x" }},
		{"General.Kafka.SASLPlain.Password must be set if General.Kafka.SASLPlain.Enabled is set to true.", func() { c.Kafka.SASLPlain.Password = "x" }},
		{"Unable to decode public/private key pair: tls: failed to find any PEM data in certificate input", func() {
			c.Kafka.TLS.Certificate, c.Kafka.TLS.PrivateKey = readPEM(t, "server.crt"), readPEM(t, "server.key")
		}},
		{"Unable to parse the root certificate authority certificates (Kafka.Tls.RootCAs)", func() { c.Kafka.TLS.RootCAs = []string{readPEM(t, "ca.crt")} }},
	} {
		if err := c.Check(); err == nil || err.Error() != tc.want {
			t.Errorf("got %v, want %s", err, tc.want)
		}
		tc.mend()
	}
	if err := c.Check(); err != nil {
		t.Errorf("all is well, but %v", err)
	}
}

// readPEM reads one of the TLS files of the orderer's tests.
func readPEM(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "..", "orderer", "node", "testdata", "orderer-tls", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestDumpHidesSecrets(t *testing.T) {
	t.Parallel()
	c := &Orderer{}
	c.Kafka.TLS.PrivateKey, c.Kafka.SASLPlain.Password, c.Kafka.SASLPlain.User = "secret key", "secret word", "user"
	text := c.Dump()
	if strings.Contains(text, "secret") || !strings.Contains(text, `Kafka.SASLPlain.User = "user"`) {
		t.Errorf("dump:%s", text)
	}
	if c.Kafka.TLS.PrivateKey != "secret key" {
		t.Error("the dump has changed the configuration")
	}
}
