// Package policy evaluates policies over sets of signatures (IDENTITY-CONFIG §4): signature policies,
// implicit meta policies, the tree of policies of a channel, and the policy language.
//
// Policies are immutable once made and safe for concurrent use; the package starts no goroutine and keeps
// no other state. What is worth remembering between evaluations is remembered by the msp.Deserializer
// behind it. Channel configuration, the peer, the orderer and the command line tools import it.
package policy

import (
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/msp"
)

// SignedData is one signature with what it was made over and by whom.
type SignedData struct{ Data, Identity, Signature []byte }

// Policy judges a set of signatures.
type Policy interface {
	// Evaluate returns nil if the set satisfies the policy. The set must not change meanwhile.
	Evaluate(set []SignedData) error
}

// rule is a policy of this package: it can be asked with the identities deserialised already, so that an
// implicit meta policy does it once for all below.
type rule interface {
	Policy
	satisfied(c *candidates) bool
}

// candidates are the signatures left once those that cannot count are dropped (IDENTITY-CONFIG §4.2, 1.):
// identities that do not deserialise, and repetitions of an identity. The first occurrence stays, even if
// its signature is bad.
type candidates struct {
	list []candidate
	// trail lists the candidates in use, the latest last.
	trail []int32
	// room for the usual number of signatures
	buf      [4]candidate
	trailBuf [4]int32
}

type candidate struct {
	identity msp.Identity
	id       msp.Identifier
	data     *SignedData
	verdict  verdict
	used     bool
}

// verdict is what is known of a signature.
type verdict uint8

const (
	unknown verdict = iota
	good
	bad
)

// manySigners is where looking for repetitions turns from a scan to a map.
const manySigners = 16

func (c *candidates) fill(set []SignedData, d msp.Deserializer) {
	c.list, c.trail = c.buf[:0], c.trailBuf[:0]
	var seen map[msp.Identifier]bool
	for i := range set {
		id, err := d.DeserializeIdentity(set[i].Identity)
		if err != nil {
			continue
		}
		name := id.Identifier()
		if seen == nil && len(c.list) >= manySigners {
			seen = make(map[msp.Identifier]bool, len(set))
			for j := range c.list {
				seen[c.list[j].id] = true
			}
		}
		if seen != nil && seen[name] || seen == nil && c.has(name) {
			continue
		}
		if seen != nil {
			seen[name] = true
		}
		c.list = append(c.list, candidate{identity: id, id: name, data: &set[i]})
	}
}

func (c *candidates) has(id msp.Identifier) bool {
	for i := range c.list {
		if c.list[i].id == id {
			return true
		}
	}
	return false
}

// release gives back all candidates used since the trail was mark long.
func (c *candidates) release(mark int) {
	for _, i := range c.trail[mark:] {
		c.list[i].used = false
	}
	c.trail = c.trail[:mark]
}

func (c *candidates) use(i int) {
	c.list[i].used = true
	c.trail = append(c.trail, int32(i))
}

// verifies checks the signature of a candidate once per evaluation.
func (c *candidate) verifies() bool {
	if c.verdict == unknown {
		c.verdict = bad
		if c.identity.Verify(c.data.Data, c.data.Signature) == nil {
			c.verdict = good
		}
	}
	return c.verdict == good
}

// EnvelopeSignedData is the one signature on an envelope: the creator's, over the payload.
func EnvelopeSignedData(env *common.Envelope) ([]SignedData, error) {
	if env == nil {
		return nil, fmt.Errorf("No signatures for nil Envelope")
	}
	payload := &common.Payload{}
	if err := proto.Unmarshal(env.Payload, payload); err != nil {
		return nil, err
	}
	if payload.Header == nil {
		return nil, fmt.Errorf("Missing Header")
	}
	header := &common.SignatureHeader{}
	if err := proto.Unmarshal(payload.Header.SignatureHeader, header); err != nil {
		return nil, fmt.Errorf("GetSignatureHeaderFromBytes failed, err %w", err)
	}
	return []SignedData{{Data: env.Payload, Identity: header.Creator, Signature: env.Signature}}, nil
}
