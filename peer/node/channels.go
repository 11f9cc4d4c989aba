package node

import (
	"context"
	"errors"
	"fmt"

	"github.com/heddle-ledger/heddle/chaincode/stream"
	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/ledger"
	"github.com/heddle-ledger/heddle/msp"
	"github.com/heddle-ledger/heddle/peer/channel"
	"github.com/heddle-ledger/heddle/peer/endorser"
	"github.com/heddle-ledger/heddle/peer/events"
	"github.com/heddle-ledger/heddle/peer/syscc/qscc"
)

// isSystemName tells whether a name belongs to a system chaincode, also a
// retired one (ENDORSE-VALIDATE §2.7).
func isSystemName(name string) bool {
	switch name {
	case "lscc", "cscc", "qscc", newLifecycle, "escc", "vscc":
		return true
	}
	return false
}

// identities judges the creators of proposals: the MSPs of the channel, or the
// local MSP where there is no channel.
func (n *Node) identities(channelID string) (msp.Deserializer, bool) {
	if channelID == "" {
		return n.cfg.Local, true
	}
	b, ok := n.parts.channels.Bundle(channelID)
	if !ok {
		return nil, false
	}
	return b.MSPManager(), true
}

func (n *Node) endorserLedger(channelID string) (endorser.Ledger, bool) {
	c, ok := n.parts.channels.Channel(channelID)
	if !ok {
		return nil, false
	}
	return endorser.OnLedger(c.Ledger()), true
}

func (n *Node) queryLedger(channelID string, simulating bool) (qscc.Ledger, bool) {
	c, ok := n.parts.channels.Channel(channelID)
	if !ok {
		return nil, false
	}
	if simulating {
		return c.Ledger().Committed(), true
	}
	return c.Ledger(), true
}

func (n *Node) eventChannel(channelID string) (events.Channel, bool) {
	c, ok := n.parts.channels.Channel(channelID)
	if !ok {
		return events.Channel{}, false
	}
	return events.Channel{Ledger: published{c.Ledger(), c}, Sequence: func() uint64 { return c.Bundle().Sequence() }}, true
}

// published is a ledger whose height grows once a block has been handed to the
// event service, so that its readers find the block there.
type published struct {
	*ledger.Ledger
	channel *channel.Channel
}

// Height implements events.Ledger.
func (p published) Height() uint64 { return p.channel.Published() }

// WaitHeight implements events.Ledger.
func (p published) WaitHeight(ctx context.Context, n uint64) error {
	return p.channel.WaitPublished(ctx, n)
}

// channelAccess gives chaincode calls what they need of channels; it implements
// support.Channels.
type channelAccess struct{ n *Node }

// nester opens the further simulators of a transaction; *ledger.Simulator is one.
type nester interface {
	Nested(on *ledger.Ledger, txid string) (*ledger.Simulator, error)
}

// Simulator opens another channel for a read-only call.
func (a channelAccess) Simulator(channelID, txID string, caller stream.Simulator) (stream.Simulator, stream.HistoryReader, func(), error) {
	c, ok := a.n.parts.channels.Channel(channelID)
	if !ok {
		return nil, nil, nil, fmt.Errorf("failed to find ledger for channel: %s", channelID)
	}
	history, done := endorser.OnLedger(c.Ledger()).History()
	var sim *ledger.Simulator
	var err error
	if first, ok := caller.(nester); ok {
		sim, err = first.Nested(c.Ledger(), txID)
	} else {
		sim, err = c.Ledger().NewNestedSimulator(txID)
	}
	if err != nil {
		done()
		return nil, nil, nil, err
	}
	return sim, history, func() {
		done()
		sim.Done()
	}, nil
}

// KeyLevelEndorsement checks the capability of the channel (CHAINCODE §3.5).
func (a channelAccess) KeyLevelEndorsement(channelID string) error {
	b, ok := a.n.parts.channels.Bundle(channelID)
	if ok {
		var app *chanconfig.ApplicationGroup
		if app, ok = b.Application(); ok && app.Capabilities.KeyLevelEndorsement() {
			return nil
		}
	}
	if !ok {
		return fmt.Errorf("application config does not exist for %s", channelID)
	}
	return errors.New("key level endorsement is not enabled, channel application capability of V1_3 or later is required")
}

// followClientRoots lets the certificate authorities of TLS clients follow the
// channels' configuration (SURFACE §2.2).
func (n *Node) followClientRoots(ctx context.Context) error {
	w := n.parts.channels.Watch()
	defer w.Close()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.C:
		}
		if err := n.updateClientRoots(w.Take()); err != nil {
			n.log.Errorf("Failed to update trusted roots for peer from latest config block: %s", err)
		}
	}
}

// updateClientRoots sets the roots from the configuration file and from all
// channels; changed holds configurations that have just come into force.
func (n *Node) updateClientRoots(changed map[string]*chanconfig.Bundle) error {
	c := n.cfg.Core.Peer.TLS
	if !c.Enabled || !c.ClientAuthRequired {
		return nil
	}
	roots := append([][]byte{}, n.parts.tls.clientRoots...)
	for _, id := range n.parts.channels.List() {
		b := changed[id]
		if b == nil {
			var ok bool
			if b, ok = n.parts.channels.Bundle(id); !ok {
				continue
			}
		}
		roots = append(roots, tlsRoots(b)...)
	}
	servers := n.parts.server.SetClientRoots(roots)
	if n.parts.adminServer != nil {
		servers = errors.Join(servers, n.parts.adminServer.SetClientRoots(roots))
	}
	return servers
}

// tlsRoots are the TLS authorities of a channel's application and orderer
// organisations.
func tlsRoots(b *chanconfig.Bundle) [][]byte {
	var out [][]byte
	add := func(m msp.MSP) {
		out = append(out, m.TLSRootCerts()...)
		out = append(out, m.TLSIntermediateCerts()...)
	}
	if app, ok := b.Application(); ok {
		for _, o := range app.Orgs {
			add(o.MSP)
		}
	}
	if ord, ok := b.Orderer(); ok {
		for _, o := range ord.Orgs {
			add(o.MSP)
		}
	}
	return out
}
