package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/heddle-ledger/heddle/internal/config"
	"github.com/heddle-ledger/heddle/internal/csp"
	"github.com/heddle-ledger/heddle/internal/flog"
)

func TestUnsupportedSettingsEndTheStart(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name string
		set  func(c *config.Core)
		want string // part of the error; empty: none
	}{
		{"as shipped", func(*config.Core) {}, ""},
		{"plugin", func(c *config.Core) { c.Chaincode.SystemPlugins = []string{"mine"} }, "chaincode.systemPlugins enables mine"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			core := &config.Core{}
			tc.set(core)
			err := (&Node{cfg: Config{Core: core}}).refuseUnsupported()
			if (err == nil) != (tc.want == "") || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestPackageHashIsThatOfTheBCCSP(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name string
		conf csp.Config
		size int
		want string // first byte of the hash of nothing
	}{
		{"default", csp.Config{}, 32, "\xe3"},
		{"SHA2", csp.Config{SW: &csp.SWConfig{Hash: "SHA2", Security: 256}}, 32, "\xe3"},
		{"SHA2 384", csp.Config{SW: &csp.SWConfig{Hash: "SHA2", Security: 384}}, 48, "\x38"},
		{"SHA3", csp.Config{SW: &csp.SWConfig{Hash: "SHA3", Security: 256}}, 32, "\xa7"},
		{"SHA3 384 in a token", csp.Config{Default: "PKCS11", SW: &csp.SWConfig{}, PKCS11: &csp.PKCS11Config{Hash: "SHA3", Security: 384}}, 48, "\x0c"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			sum := packageHash(tc.conf)().Sum(nil)
			if len(sum) != tc.size || string(sum[:1]) != tc.want {
				t.Errorf("got %x", sum)
			}
		})
	}
}

func TestUnreadableOverrideIsLeftOut(t *testing.T) {
	t.Parallel()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, []byte("ca"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := readOverrides([]config.AddressOverride{
		{From: "a:1", To: "b:1", CACertsFile: ca + ".absent"},
		{From: "a:2", To: "b:2", CACertsFile: ca},
		{From: "a:3", To: "b:3"},
	}, flog.ForTest(t))
	if len(got) != 2 || got[0].From != "a:2" || string(got[0].Roots[0]) != "ca" || got[1].To != "b:3" {
		t.Errorf("got %+v", got)
	}
}
