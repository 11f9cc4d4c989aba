package cryptogen

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-ledger/heddle/internal/csp"
)

func network(t *testing.T, file string) *Network {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	n, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// lines reads a recorded list of paths, without the names of keys.
func lines(t *testing.T, file string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for l := range strings.Lines(string(text)) {
		l = strings.TrimSuffix(strings.TrimSpace(l), "/")
		l = strings.TrimPrefix(strings.TrimPrefix(l, "./"), "out")
		l = strings.TrimPrefix(l, "/")
		if l != "" && l != "." {
			out = append(out, keyName.ReplaceAllString(l, "<ski>_sk"))
		}
	}
	slices.Sort(out)
	return out
}

var keyName = regexp.MustCompile(`[0-9a-f]{64}_sk`)

func walk(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(dir, path)
		if rel != "." {
			out = append(out, keyName.ReplaceAllString(rel, "<ski>_sk"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(out)
	return out
}

func TestGenerateTree(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var out bytes.Buffer
	if err := Generate(network(t, "crypto-config.yaml"), dir, &out); err != nil {
		t.Fatal(err)
	}
	if got, want := out.String(), "org1.example.com\norg2.example.com\n"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
	if d := cmp.Diff(lines(t, "tree.txt"), walk(t, dir)); d != "" {
		t.Errorf("tree differs (-reference +ours):\n%s", d)
	}
}

func TestExtend(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	steps := []struct {
		do   func(*Network, string, *bytes.Buffer) error
		name string
	}{
		{func(n *Network, d string, b *bytes.Buffer) error { return Generate(n, d, b) }, "1"},
		{func(n *Network, d string, b *bytes.Buffer) error { return Extend(n, d, b) }, "2"},
	}
	for _, s := range steps {
		var out bytes.Buffer
		if err := s.do(network(t, "crypto-config-"+s.name+".yaml"), dir, &out); err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile("testdata/stdout-" + s.name + ".txt")
		if err != nil {
			t.Fatal(err)
		}
		if out.String() != string(want) {
			t.Errorf("step %s printed %q, want %q", s.name, out.String(), want)
		}
		if d := cmp.Diff(lines(t, "tree-"+s.name+".txt"), walk(t, dir)); d != "" {
			t.Errorf("tree %s differs (-reference +ours):\n%s", s.name, d)
		}
	}
	checkCertificates(t, dir)
}

// recorded is what the vectors tell of a certificate.
type recorded struct {
	DNSNames   []string `json:"dns_names"`
	IPs        []string `json:"ip_addresses"`
	ExtUsage   []string `json:"ext_key_usage"`
	Extensions []string `json:"extensions_in_order"`
	IsCA       bool     `json:"is_ca"`
	Issuer     string   `json:"issuer"`
	KeyUsage   int      `json:"key_usage_bits"`
	Algorithm  string   `json:"signature_algorithm"`
	Subject    string   `json:"subject"`
	SubjectDER string   `json:"subject_der_hex"`
	Hours      int      `json:"validity_hours"`
}

func checkCertificates(t *testing.T, dir string) {
	t.Helper()
	text, err := os.ReadFile("testdata/certs.json")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]recorded{}
	if err := json.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	for path, w := range want {
		cert, err := readCert(filepath.Join(dir, path))
		if err != nil {
			t.Error(err)
			continue
		}
		if d := cmp.Diff(w, describe(cert)); d != "" {
			t.Errorf("%s (-reference +ours):\n%s", path, d)
		}
		if pub := cert.PublicKey.(*ecdsa.PublicKey); cert.IsCA {
			if ski, err := csp.SKI(pub); err != nil || !bytes.Equal(ski, cert.SubjectKeyId) {
				t.Errorf("%s: subject key identifier %x, %v", path, cert.SubjectKeyId, err)
			}
		}
	}
}

func describe(c *x509.Certificate) recorded {
	r := recorded{
		DNSNames: c.DNSNames, IsCA: c.IsCA, Issuer: c.Issuer.String(), KeyUsage: int(c.KeyUsage),
		Algorithm: c.SignatureAlgorithm.String(), Subject: c.Subject.String(), SubjectDER: hex.EncodeToString(c.RawSubject),
		Hours: int(c.NotAfter.Sub(c.NotBefore) / time.Hour),
	}
	for _, ip := range c.IPAddresses {
		r.IPs = append(r.IPs, ip.String())
	}
	names := map[x509.ExtKeyUsage]string{x509.ExtKeyUsageClientAuth: "clientAuth", x509.ExtKeyUsageServerAuth: "serverAuth"}
	for _, u := range c.ExtKeyUsage {
		r.ExtUsage = append(r.ExtUsage, names[u])
	}
	for _, e := range c.Extensions {
		s := e.Id.String()
		if e.Critical {
			s += " critical"
		}
		r.Extensions = append(r.Extensions, s)
	}
	return r
}

func TestSignaturesAreLow(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := &Network{PeerOrgs: []Org{{Domain: "o.example", Template: Template{Count: 4}}}}
	if err := Generate(n, dir, &bytes.Buffer{}); err != nil {
		t.Fatal(err)
	}
	for _, p := range walk(t, dir) {
		if !strings.HasSuffix(p, ".pem") {
			continue
		}
		cert, err := readCert(filepath.Join(dir, p))
		if err != nil {
			t.Fatal(err)
		}
		if _, changed, err := csp.LowS(cert.PublicKey.(*ecdsa.PublicKey), cert.Signature); err != nil || changed {
			t.Errorf("%s: signature not low (%v)", p, err)
		}
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	if _, err := Parse([]byte("PeerOrgs: 1\n")); err == nil || !strings.HasPrefix(err.Error(), "Error Unmarshaling YAML: ") {
		t.Errorf("bad YAML: %v", err)
	}
	for text, want := range map[string]string{
		"{{.Nope}}": "Error processing peer configuration: Error executing template: ",
		"{{":        "Error processing peer configuration: Error parsing template: ",
	} {
		n := &Network{PeerOrgs: []Org{{Domain: "x", Specs: []Node{{Hostname: "h", CommonName: text}}}}}
		err := Generate(n, t.TempDir(), &bytes.Buffer{})
		var mistake *ConfigError
		if !errors.As(err, &mistake) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: got %v, want prefix %q", text, err, want)
		}
	}
	n := &Network{PeerOrgs: []Org{{Domain: "x"}}}
	base := t.TempDir()
	if err := os.MkdirAll(filepath.Join(base, "peerOrganizations", "x", "ca"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Extend(n, base, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "holds no certificate authority") {
		t.Errorf("empty authority directory: %v", err)
	}
}

func TestDefaultTemplate(t *testing.T) {
	t.Parallel()
	n, err := Parse([]byte(DefaultTemplate))
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(n.OrdererOrgs[0].Domain, n.OrdererOrgs[0].Specs[0].Hostname)
	for _, o := range n.PeerOrgs {
		got += fmt.Sprint(" ", o.Name, o.Domain, o.EnableNodeOUs, o.Template.Count, o.Users.Count)
	}
	if want := "example.comorderer Org1org1.example.comfalse 1 1 Org2org2.example.comfalse 1 1"; got != want {
		t.Errorf("default template holds %q, want %q", got, want)
	}
}

// TestSampleConfig makes the network of the shipped configuration.
func TestSampleConfig(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../sampleconfig/crypto-config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	n, err := Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := Generate(n, dir, &bytes.Buffer{}); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{
		"ordererOrganizations/example.com/orderers/orderer.example.com/tls/server.crt",
		"peerOrganizations/org2.example.com/peers/peer1.org2.example.com/msp/config.yaml",
		"peerOrganizations/org1.example.com/users/User1@org1.example.com/tls/client.key",
	} {
		if _, err := os.Stat(filepath.Join(dir, f)); err != nil {
			t.Error(err)
		}
	}
}
