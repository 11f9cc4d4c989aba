package node

import (
	"os"
	"sync"

	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/run"
	"github.com/heddle-ledger/heddle/msp"
)

// tlsFiles holds the content of the TLS files of the main listener.
type tlsFiles struct {
	cert, key   []byte
	clientRoots [][]byte
}

// loadTLS reads the files in the order of the reference. The server roots have no
// use, but must be readable.
func (n *Node) loadTLS() error {
	c, t := n.cfg.Orderer.General.TLS, &n.parts.tls
	if !c.Enabled {
		return nil
	}
	var err error
	if t.cert, err = os.ReadFile(c.Certificate); err != nil {
		return run.Failed(run.Fatal, "Failed to load server Certificate file '%s' (%w)", c.Certificate, err)
	}
	if t.key, err = os.ReadFile(c.PrivateKey); err != nil {
		return run.Failed(run.Fatal, "Failed to load PrivateKey file '%s' (%w)", c.PrivateKey, err)
	}
	for _, f := range c.RootCAs {
		if _, err := os.ReadFile(f); err != nil {
			return run.Failed(run.Fatal, "Failed to load ServerRootCAs file '%s' (%w)", f, err)
		}
	}
	kind := "TLS"
	if c.ClientAuthRequired {
		kind = "mutual TLS"
		for _, f := range c.ClientRootCAs {
			root, err := os.ReadFile(f)
			if err != nil {
				return run.Failed(run.Fatal, "Failed to load ClientRootCAs file '%s' (%w)", f, err)
			}
			t.clientRoots = append(t.clientRoots, root)
		}
	}
	n.log.Infof("Starting orderer with %s enabled", kind)
	return nil
}

// clientRoots keeps the accepted authorities of client certificates up to date
// (ORDERER §2.2). Most channels have the same ones: the server hears of changes of
// the whole set only.
type clientRoots struct {
	server rootsSetter
	own    [][]byte // as configured
	log    *flog.Logger

	mu       sync.Mutex                 // guards what follows
	channels map[string]map[string]bool // the authorities of each channel
	uses     map[string]int             // the number of channels that have an authority
}

// rootsSetter is the server whose clients are judged.
type rootsSetter interface {
	MutualTLS() bool
	SetClientRoots(roots [][]byte) error
}

func newClientRoots(server rootsSetter, own [][]byte, log *flog.Logger) *clientRoots {
	return &clientRoots{
		server: server, own: own, log: log,
		channels: make(map[string]map[string]bool), uses: make(map[string]int),
	}
}

// update is called with every config that comes into force.
func (c *clientRoots) update(b *chanconfig.Bundle) {
	if c.server.MutualTLS() {
		c.set(b.ChannelID(), rootsOf(b))
	}
}

func (c *clientRoots) set(channelID string, roots [][]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, now := c.channels[channelID], make(map[string]bool, len(roots))
	known := len(c.uses)
	for _, root := range roots {
		now[string(root)] = true
	}
	for root := range now {
		if !before[root] {
			c.uses[root]++
		}
	}
	changed := len(c.uses) != known
	for root := range before {
		if now[root] {
			continue
		}
		if c.uses[root]--; c.uses[root] == 0 {
			delete(c.uses, root)
			changed = true
		}
	}
	c.channels[channelID] = now
	if !changed {
		return
	}
	all := append([][]byte{}, c.own...)
	for root := range c.uses {
		all = append(all, []byte(root))
	}
	if err := c.server.SetClientRoots(all); err != nil {
		c.log.Warnf("Failed to update trusted roots for orderer from latest config block. This orderer may not be able to communicate with members of channel %s (%s)", channelID, err)
	}
}

// rootsOf are the TLS authorities of all organizations of a config.
func rootsOf(b *chanconfig.Bundle) [][]byte {
	var out [][]byte
	add := func(m msp.MSP) {
		out = append(append(out, m.TLSRootCerts()...), m.TLSIntermediateCerts()...)
	}
	if g, ok := b.Application(); ok {
		for _, o := range g.Orgs {
			add(o.MSP)
		}
	}
	if g, ok := b.Orderer(); ok {
		for _, o := range g.Orgs {
			add(o.MSP)
		}
	}
	if g, ok := b.Consortiums(); ok {
		for _, c := range g.Consortiums {
			for _, o := range c.Orgs {
				add(o.MSP)
			}
		}
	}
	return out
}
