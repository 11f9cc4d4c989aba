package e2e

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/heddle-ledger/heddle/internal/csp"
)

func readCertificate(t *testing.T, path string) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode([]byte(readFile(t, path)))
	if block == nil {
		t.Fatalf("%s holds no PEM block", path)
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// renew replaces a certificate by one like it that ends at another time; ca is the directory of its authority.
func renew(t *testing.T, path, ca string, end time.Time) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(ca, "*"))
	if err != nil {
		t.Fatal(err)
	}
	var root *x509.Certificate
	var key *ecdsa.PrivateKey
	for _, f := range files {
		if strings.HasSuffix(f, ".pem") {
			root = readCertificate(t, f)
			continue
		}
		k, err := csp.ParsePrivateKey([]byte(readFile(t, f)))
		if err != nil {
			t.Fatal(err)
		}
		key = k.(*ecdsa.PrivateKey)
	}
	c := readCertificate(t, path)
	c.NotBefore, c.NotAfter, c.SerialNumber = root.NotBefore, end, big.NewInt(77)
	der, err := x509.CreateCertificate(rand.Reader, c, root, c.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, path, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
}

// expiries reads the gauge of a daemon: seconds to the end, by role.
func expiries(t *testing.T, address string) map[string]float64 {
	t.Helper()
	resp, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]float64)
	for _, m := range regexp.MustCompile(`(?m)^heddle_certificate_expiry_seconds\{role="([^"]*)"\} (\S+)$`).FindAllStringSubmatch(string(text), -1) {
		if out[m[1]], err = strconv.ParseFloat(m[2], 64); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

// node is a daemon that TestCertificatesThatEnd starts.
type node struct {
	name, dir, org string
	env, args      []string
	operations     int    // port
	ready          string // what it logs when it serves
	refusal        string // what it logs when it may not
}

func (n *network) enrollment(d node) string {
	n.t.Helper()
	files, err := os.ReadDir(d.dir + "/msp/signcerts")
	if err != nil {
		n.t.Fatal(err)
	}
	return filepath.Join(d.dir, "msp/signcerts", files[0].Name())
}

// TestCertificatesThatEnd starts both daemons with certificates that have expired or soon will: they say so,
// with dates, and give the time left as a metric. An expired enrollment certificate keeps them from starting.
func TestCertificatesThatEnd(t *testing.T) {
	t.Parallel()
	n := newNetwork(t, options{})
	ports := freePorts(t, 2)
	for _, d := range []node{
		{
			name: "orderer", dir: n.ordererDir(), org: n.path("crypto/ordererOrganizations/example.com"), operations: ports[0],
			env:   n.ordererEnv("ORDERER_METRICS_PROVIDER=prometheus", "ORDERER_OPERATIONS_LISTENADDRESS="+address(ports[0])),
			ready: "Beginning to serve requests", refusal: "Failed to initialize local MSP: signing identity expired ",
		},
		{
			name: "peer", dir: n.peerDir(0), org: n.orgDir(0), operations: ports[1],
			env:  n.peerEnv(0, "CORE_METRICS_PROVIDER=prometheus", "CORE_OPERATIONS_LISTENADDRESS="+address(ports[1])),
			args: []string{"node", "start"}, ready: "Started peer with ID=",
			refusal: "Cannot run peer because error when setting up MSP of type bccsp from directory " + n.peerDir(0) + "/msp: signing identity expired ",
		},
	} {
		t.Run(d.name, func(t *testing.T) { n.certificatesThatEnd(t, d) })
	}
}

func (n *network) certificatesThatEnd(t *testing.T, node node) {
	soon, later, gone := time.Now().Add(50*time.Hour), time.Now().Add(20*24*time.Hour+time.Hour), time.Now().Add(-2*time.Minute)
	on := func(when time.Time) string { return when.UTC().Format("2006-01-02 15:04:05 -0700 MST") }
	for _, step := range []struct {
		enrollment, tls time.Time
		want            []string // level and text
	}{
		{later, soon, []string{
			"INFO The enrollment certificate will expire on " + on(later),
			"WARN Renew the enrollment certificate: it expires on " + on(later) + ", in 20 days",
			"INFO The server TLS certificate will expire on " + on(soon),
			"WARN The server TLS certificate expires within 2 days and 1 hours",
			"WARN Renew the server TLS certificate: it expires on " + on(soon) + ", in 2 days",
		}},
		{soon, gone, []string{
			"WARN The enrollment certificate expires within 2 days and 1 hours",
			"WARN The server TLS certificate has expired",
			"WARN Renew the server TLS certificate: it expired on " + on(gone),
		}},
	} {
		renew(t, n.enrollment(node), node.org+"/ca", step.enrollment)
		renew(t, node.dir+"/tls/server.crt", node.org+"/tlsca", step.tls)
		d := start(t, n.dir, node.env, node.name, node.args...)
		d.waitFor(node.ready)
		for _, line := range step.want {
			level, text, _ := strings.Cut(line, " ")
			found := regexp.MustCompile(`(?m)^.* \[certmonitor\] .* -> ` + level + ` [0-9a-f]+ ` + regexp.QuoteMeta(text) + `$`)
			if !found.MatchString(d.log.String()) {
				t.Errorf("no line %s:\n%s", line, d.log.tail(20))
			}
		}
		got := expiries(t, address(node.operations))
		for role, end := range map[string]time.Time{"enrollment": step.enrollment, "server TLS": step.tls} {
			if left := time.Until(end).Seconds(); got[role] < left-5 || got[role] > left+60 {
				t.Errorf("the gauge of %s is %v, want about %.0f", role, got, left)
			}
		}
		d.stop()
	}
	renew(t, n.enrollment(node), node.org+"/ca", gone)
	r := execute(t, n.dir, node.env, node.name, node.args...)
	if r.code == 0 || !strings.Contains(r.stderr, node.refusal) {
		t.Errorf("exit code %d, want %s\n%s", r.code, node.refusal, r.stderr)
	}
}
