package node

import (
	"errors"
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/policy"
	"github.com/heddle-ledger/heddle/msp"
)

// isMember tells whether this peer may have the data of a collection: whether its
// own identity satisfies the collection's policy, as in the reference (LEDGER
// §8.7). While a channel is being opened it has no MSPs yet; the local MSP, which
// knows this peer's organization, decides then.
func (n *Node) isMember(channelID string, p *peer.CollectionPolicyConfig) (bool, error) {
	members := p.GetSignaturePolicy()
	if members == nil {
		return false, errors.New("the collection has no member policy")
	}
	var judges msp.Deserializer = n.cfg.Local
	if n.parts.channels != nil {
		if b, ok := n.parts.channels.Bundle(channelID); ok {
			judges = b.MSPManager()
		}
	}
	rule, err := policy.NewSignaturePolicy(members, judges, nil)
	if err != nil {
		return false, fmt.Errorf("member policy of a collection: %w", err)
	}
	me := n.cfg.Local.SigningIdentity()
	name := me.Serialize()
	signature, err := me.Sign(name)
	if err != nil {
		return false, fmt.Errorf("sign for the member policy of a collection: %w", err)
	}
	return rule.Evaluate([]policy.SignedData{{Data: name, Identity: name, Signature: signature}}) == nil, nil
}
