package channel

import (
	"errors"
	"slices"

	"github.com/heddle-ledger/heddle/internal/blockpull"
	"github.com/heddle-ledger/heddle/internal/chanconfig"
)

// Errors of OrdererEndpoints, with the reference's texts.
var (
	ErrNoOrdererConfig = errors.New("no orderer config in bundle")
	ErrNoEndpoints     = errors.New("no ordering service endpoint provided in configuration block")
)

// OrdererEndpoints are the endpoints of a channel's ordering service: those of
// the orderer organisations, each trusted with its own TLS roots, or else the
// global ones with the roots of all (GOSSIP-DISCOVERY §15.1).
func OrdererEndpoints(b *chanconfig.Bundle) ([]blockpull.Endpoint, error) {
	ord, ok := b.Orderer()
	if !ok {
		return nil, ErrNoOrdererConfig
	}
	var own, global []blockpull.Endpoint
	var orgs []string
	var roots [][]byte
	for _, name := range sortedKeys(ord.Orgs) {
		org := ord.Orgs[name]
		r := slices.Concat(org.MSP.TLSRootCerts(), org.MSP.TLSIntermediateCerts())
		orgs, roots = append(orgs, org.MSPID), append(roots, r...)
		for _, a := range org.Endpoints {
			own = append(own, blockpull.Endpoint{Address: a, Orgs: []string{org.MSPID}, Roots: r})
		}
	}
	if len(own) > 0 {
		return own, nil
	}
	for _, a := range b.Channel().OrdererAddresses {
		global = append(global, blockpull.Endpoint{Address: a, Orgs: orgs, Roots: roots})
	}
	if len(global) == 0 {
		return nil, ErrNoEndpoints
	}
	return global, nil
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
