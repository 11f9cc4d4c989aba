package cryptogen

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/heddle-ledger/heddle/internal/csp"
)

// kind is what peer and orderer organisations differ in.
type kind struct {
	name string // in error texts, role OU and the name of the template prefix
	orgs string // directory of organisations
	dir  string // directory of an organisation's nodes
}

func peers() kind    { return kind{"peer", "peerOrganizations", "peers"} }
func orderers() kind { return kind{"orderer", "ordererOrganizations", "orderers"} }

// Role OUs of node and user certificates.
const (
	roleAdmin  = "admin"
	roleClient = "client"
)

// ConfigError is a mistake in the configuration, as opposed to a failure to
// write.
type ConfigError struct{ err error }

func (e *ConfigError) Error() string { return e.err.Error() }
func (e *ConfigError) Unwrap() error { return e.err }

// Generate writes the key material of a network below dir. The domain of every
// peer organisation is printed on out before it is made. Node and user
// directories that exist are left alone, but certificate authorities are made
// anew: the directory is expected to be empty.
func Generate(n *Network, dir string, out io.Writer) error {
	return eachOrg(n, dir, func(o *org) error {
		o.announce(out)
		return o.generate()
	})
}

// Extend adds to the key material below dir the organisations, nodes and users
// that the network has and the directory lacks.
func Extend(n *Network, dir string, out io.Writer) error {
	return eachOrg(n, dir, func(o *org) error {
		if _, err := os.Stat(o.base); errors.Is(err, fs.ErrNotExist) {
			o.announce(out)
			return o.generate()
		}
		return o.extend()
	})
}

func eachOrg(n *Network, dir string, do func(*org) error) error {
	run := func(k kind, specs []Org) error {
		for i := range specs {
			if err := specs[i].resolve(k.name); err != nil {
				return &ConfigError{fmt.Errorf("Error processing %s configuration: %w", k.name, err)}
			}
			if err := do(&org{Org: specs[i], kind: k, base: filepath.Join(dir, k.orgs, specs[i].Domain)}); err != nil {
				return err
			}
		}
		return nil
	}
	if err := run(peers(), n.PeerOrgs); err != nil {
		return err
	}
	return run(orderers(), n.OrdererOrgs)
}

// org is one organisation at work.
type org struct {
	Org
	kind   kind
	base   string
	signCA *authority
	tlsCA  *authority
}

func (o *org) announce(out io.Writer) {
	if o.kind == peers() {
		fmt.Fprintln(out, o.Domain)
	}
}

func (o *org) failed(what string, err error) error {
	return fmt.Errorf("Error generating %s for org %s:\n%w", what, o.Domain, err)
}

func (o *org) path(parts ...string) string {
	return filepath.Join(append([]string{o.base}, parts...)...)
}

func (o *org) adminName() string { return "Admin@" + o.Domain }

func (o *org) generate() error {
	var err error
	if o.signCA, err = newAuthority(o.path("ca"), o.Domain, o.CA.CommonName, o.CA); err != nil {
		return o.failed("signCA", err)
	}
	if o.tlsCA, err = newAuthority(o.path("tlsca"), o.Domain, "tls"+o.CA.CommonName, o.CA); err != nil {
		return o.failed("tlsCA", err)
	}
	if err := o.mspCommon(o.path("msp")); err != nil {
		return o.failed("MSP", err)
	}
	if err := o.user(o.adminName(), roleAdmin); err != nil {
		return o.failed("users", err)
	}
	if err := o.users(); err != nil {
		return err
	}
	if !o.EnableNodeOUs {
		if err := o.copyAdmin(o.path("msp", "admincerts")); err != nil {
			return fmt.Errorf("Error copying admin cert for org %s:\n%w", o.Domain, err)
		}
	}
	return o.nodes()
}

func (o *org) extend() error {
	var err error
	if o.signCA, err = loadAuthority(o.path("ca"), o.CA); err != nil {
		return o.failed("signCA", err)
	}
	if o.tlsCA, err = loadAuthority(o.path("tlsca"), o.CA); err != nil {
		return o.failed("tlsCA", err)
	}
	if err := o.users(); err != nil {
		return err
	}
	return o.nodes()
}

// users makes User1 to UserN; orderer organisations have none.
func (o *org) users() error {
	if o.kind != peers() {
		return nil
	}
	for i := range o.Users.Count {
		if err := o.user(fmt.Sprintf("User%d@%s", i+1, o.Domain), roleClient); err != nil {
			return o.failed("users", err)
		}
	}
	return nil
}

func (o *org) user(name, role string) error {
	return o.entity(entity{dir: o.path("users", name), name: name, role: role, tlsName: "client"})
}

// nodes makes the nodes that are missing and, without node OUs, lists the
// administrator in all of them.
func (o *org) nodes() error {
	for _, n := range o.Specs {
		e := entity{
			dir: o.path(o.kind.dir, n.CommonName), name: n.CommonName, role: o.kind.name, sans: n.SANS, tlsName: "server",
		}
		if err := o.entity(e); err != nil {
			return o.failed(o.kind.name+"s", err)
		}
		if o.EnableNodeOUs {
			continue
		}
		if err := o.adoptAdmin(filepath.Join(e.dir, "msp", "admincerts")); err != nil {
			return fmt.Errorf("Error copying admin cert for org %s %s %s:\n%w", o.Domain, o.kind.name, n.CommonName, err)
		}
	}
	return nil
}

// adoptAdmin makes the administrator's certificate the only one in a directory
// of administrators that lacks it.
func (o *org) adoptAdmin(dir string) error {
	if _, err := os.Stat(filepath.Join(dir, o.adminName()+"-cert.pem")); err == nil {
		return nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	return o.copyAdmin(dir)
}

func (o *org) copyAdmin(dir string) error {
	file := o.adminName() + "-cert.pem"
	text, err := os.ReadFile(o.path("users", o.adminName(), "msp", "signcerts", file))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, file), text, 0o644)
}

// mspCommon writes what every MSP directory holds: the authorities, an empty
// list of administrators and the node OUs.
func (o *org) mspCommon(dir string) error {
	for _, d := range []string{"admincerts", "cacerts", "tlscacerts"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			return err
		}
	}
	sign := certFile(o.signCA.cert)
	if err := writeCert(filepath.Join(dir, "cacerts", sign), o.signCA.cert); err != nil {
		return err
	}
	if err := writeCert(filepath.Join(dir, "tlscacerts", certFile(o.tlsCA.cert)), o.tlsCA.cert); err != nil {
		return err
	}
	if !o.EnableNodeOUs {
		return nil
	}
	var text strings.Builder
	if err := nodeOUs().Execute(&text, "cacerts/"+sign); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "config.yaml"), []byte(text.String()), 0o644)
}

func certFile(c *x509.Certificate) string { return c.Subject.CommonName + "-cert.pem" }

func nodeOUs() *template.Template {
	return template.Must(template.New("config.yaml").Parse(`NodeOUs:
  Enable: true
  ClientOUIdentifier:
    Certificate: {{.}}
    OrganizationalUnitIdentifier: client
  PeerOUIdentifier:
    Certificate: {{.}}
    OrganizationalUnitIdentifier: peer
  AdminOUIdentifier:
    Certificate: {{.}}
    OrganizationalUnitIdentifier: admin
  OrdererOUIdentifier:
    Certificate: {{.}}
    OrganizationalUnitIdentifier: orderer
`))
}

// entity is a node or a user.
type entity struct {
	dir     string
	name    string
	role    string
	sans    []string
	tlsName string // of the TLS files: server or client
}

// entity writes the local MSP and the TLS files of a node or user, unless its
// directory exists.
func (o *org) entity(e entity) error {
	if _, err := os.Stat(e.dir); err == nil {
		return nil
	}
	msp := filepath.Join(e.dir, "msp")
	if err := o.mspCommon(msp); err != nil {
		return err
	}
	key, err := newKey(filepath.Join(msp, "keystore"))
	if err != nil {
		return err
	}
	l := leaf{name: e.name}
	if o.EnableNodeOUs {
		l.units = []string{e.role}
	}
	cert, err := o.signCA.issue(l, key.Public())
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(msp, "signcerts"), 0o755); err != nil {
		return err
	}
	if err := writeCert(filepath.Join(msp, "signcerts", certFile(cert)), cert); err != nil {
		return err
	}
	if !o.EnableNodeOUs && e.tlsName == "client" {
		// A user's own MSP names the user as its administrator.
		if err := writeCert(filepath.Join(msp, "admincerts", certFile(cert)), cert); err != nil {
			return err
		}
	}
	return o.tlsFiles(e)
}

func (o *org) tlsFiles(e entity) error {
	dir := filepath.Join(e.dir, "tls")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	key, err := generateKey()
	if err != nil {
		return err
	}
	text, err := csp.MarshalPrivateKey(key)
	if err != nil {
		return err
	}
	cert, err := o.tlsCA.issue(leaf{name: e.name, sans: e.sans, tls: true}, key.Public())
	if err != nil {
		return err
	}
	if err := writeCert(filepath.Join(dir, "ca.crt"), o.tlsCA.cert); err != nil {
		return err
	}
	if err := writeCert(filepath.Join(dir, e.tlsName+".crt"), cert); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, e.tlsName+".key"), text, 0o600)
}
