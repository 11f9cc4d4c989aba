package node

import (
	"errors"
	"fmt"
	"os"

	"github.com/heddle-ledger/heddle/internal/blockpull"
	"github.com/heddle-ledger/heddle/internal/config"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/run"
)

// tlsFiles holds the content of the TLS files.
type tlsFiles struct {
	cert, key             []byte
	clientRoots           [][]byte
	serverRoots           [][]byte
	clientCert, clientKey []byte
}

// loadTLS reads the files of the server, in the order of the reference.
func (n *Node) loadTLS() error {
	c, t := n.cfg.Core.Peer.TLS, &n.parts.tls
	if !c.Enabled {
		return nil
	}
	read := func(what, path string) ([]byte, error) {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, run.Failed(run.Fatal, "Error loading secure config for peer (error loading %s (%w))", what, err)
		}
		return text, nil
	}
	var err error
	if t.key, err = read("TLS key", c.Key); err != nil {
		return err
	}
	if t.cert, err = read("TLS certificate", c.Cert); err != nil {
		return err
	}
	if c.ClientAuthRequired {
		for _, f := range c.ClientRootCAs {
			root, err := read("client root CAs", f)
			if err != nil {
				return err
			}
			t.clientRoots = append(t.clientRoots, root)
		}
	}
	root, err := read("TLS root certificate", c.RootCert)
	if err != nil {
		return err
	}
	t.serverRoots = append(t.serverRoots, root)
	for _, f := range c.ServerRootCAs {
		more, err := read("TLS root certificate", f)
		if err != nil {
			return err
		}
		t.serverRoots = append(t.serverRoots, more)
	}
	return nil
}

// loadClientPair reads the pair for the peer's own connections; by default it is
// the server's.
func (t *tlsFiles) loadClientPair(c config.PeerTLS) error {
	if !c.Enabled {
		return nil
	}
	wrap := func(err error) error { return run.Failed(run.Fatal, "Failed to set TLS client certificate: %w", err) }
	if (c.ClientKey == "") != (c.ClientCert == "") {
		return wrap(errors.New("peer.tls.clientKey.file and peer.tls.clientCert.file must both be set or must both be empty"))
	}
	if c.ClientKey == "" {
		t.clientCert, t.clientKey = t.cert, t.key
		return nil
	}
	var err error
	if t.clientKey, err = os.ReadFile(c.ClientKey); err != nil {
		return wrap(fmt.Errorf("error loading client TLS key (%w)", err))
	}
	if t.clientCert, err = os.ReadFile(c.ClientCert); err != nil {
		return wrap(fmt.Errorf("error loading client TLS certificate (%w)", err))
	}
	return nil
}

// readOverrides reads the certificate files of address overrides. An override
// whose file cannot be read is left out (GOSSIP-DISCOVERY §20).
func readOverrides(list []config.AddressOverride, log *flog.Logger) []blockpull.Override {
	var out []blockpull.Override
	for _, o := range list {
		b := blockpull.Override{From: o.From, To: o.To}
		if o.CACertsFile != "" {
			text, err := os.ReadFile(o.CACertsFile)
			if err != nil {
				log.Warningf("peer.deliveryclient.addressOverrides: the override of %s is left out: %s", o.From, err)
				continue
			}
			b.Roots = append(b.Roots, text)
		}
		out = append(out, b)
	}
	return out
}
