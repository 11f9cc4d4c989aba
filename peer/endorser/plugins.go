package endorser

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/msp"
	"github.com/heddle-ledger/heddle/peer/proposal"
)

// Filter may refuse a proposal before it is looked at; its error goes to the
// client as it is (ENDORSE-VALIDATE §2.1).
type Filter func(ctx context.Context, v *proposal.View) error

// Decorator may change what a chaincode is given.
type Decorator func(p *peer.Proposal, input *peer.ChaincodeInput) *peer.ChaincodeInput

// Plugin signs the payload of a proposal response. It may replace the payload.
type Plugin interface {
	Endorse(payload []byte, sp *peer.SignedProposal) (*peer.Endorsement, []byte, error)
}

// Names of handlers in core.yaml.
const (
	DefaultAuth        = "DefaultAuth"
	ExpirationCheck    = "ExpirationCheck"
	DefaultDecorator   = "DefaultDecorator"
	DefaultEndorsement = "DefaultEndorsement"
)

func unknownHandler(name string) error {
	return fmt.Errorf("Method %s isn't a method of HandlerLibrary", name)
}

// NewFilter makes the filter that core.yaml calls name. expiresAt is the end of
// validity of a creator's certificate.
func NewFilter(name string, expiresAt func(creator []byte) time.Time) (Filter, error) {
	switch name {
	case DefaultAuth:
		return func(context.Context, *proposal.View) error { return nil }, nil
	case ExpirationCheck:
		return expirationFilter(expiresAt), nil
	}
	return nil, unknownHandler(name)
}

// NewDecorator makes the decorator that core.yaml calls name.
func NewDecorator(name string) (Decorator, error) {
	if name != DefaultDecorator {
		return nil, unknownHandler(name)
	}
	return func(_ *peer.Proposal, input *peer.ChaincodeInput) *peer.ChaincodeInput { return input }, nil
}

// NewPlugin makes the endorsement plugin that core.yaml calls name.
func NewPlugin(name string, signer msp.SigningIdentity) (Plugin, error) {
	if name != DefaultEndorsement {
		return nil, unknownHandler(name)
	}
	if signer == nil {
		return nil, errors.New("could not find SigningIdentityFetcher in dependencies")
	}
	return &signingPlugin{signer}, nil
}

// BlockWhile refuses all proposals while ledgers are being rebuilt.
func BlockWhile(rebuilding func() bool) Filter {
	return func(context.Context, *proposal.View) error {
		if rebuilding() {
			return errors.New("endorse requests are blocked while ledgers are being rebuilt")
		}
		return nil
	}
}

// signingPlugin is the default endorsement: a signature over payload and
// endorser (ENDORSE-VALIDATE §2.5).
type signingPlugin struct{ signer msp.SigningIdentity }

func (p *signingPlugin) Endorse(payload []byte, _ *peer.SignedProposal) (*peer.Endorsement, []byte, error) {
	me := p.signer.Serialize()
	msg := make([]byte, 0, len(payload)+len(me))
	msg = append(append(msg, payload...), me...)
	sig, err := p.signer.Sign(msg)
	if err != nil {
		return nil, nil, fmt.Errorf("could not sign the proposal response payload: %w", err)
	}
	return &peer.Endorsement{Endorser: me, Signature: sig}, payload, nil
}

// expirationFilter refuses creators whose certificate has expired.
func expirationFilter(expiresAt func([]byte) time.Time) Filter {
	known := &expiryCache{expiresAt: expiresAt}
	return func(_ context.Context, v *proposal.View) error {
		if _, err := v.Proposal(); err != nil {
			return fmt.Errorf("failed parsing proposal: %w", err)
		}
		if _, err := v.Header(); err != nil {
			return fmt.Errorf("failed parsing header: %w", err)
		}
		sh, err := v.SignatureHeader()
		if err != nil {
			return fmt.Errorf("failed parsing signature header: %w", err)
		}
		if at := known.get(sh.Creator); !at.IsZero() && at.Before(time.Now()) {
			return errors.New("identity expired")
		}
		return nil
	}
}

// Bounds of the expiry cache: creators longer than the limit are not kept, and
// it starts anew when it is full.
const (
	maxExpiries     = 1000
	maxCreatorBytes = 8 << 10
)

// expiryCache remembers the end of validity of creators' certificates, so that
// no certificate is parsed for every proposal.
type expiryCache struct {
	expiresAt func([]byte) time.Time

	mu    sync.RWMutex // guards known
	known map[string]time.Time
}

func (c *expiryCache) get(creator []byte) time.Time {
	c.mu.RLock()
	at, ok := c.known[string(creator)]
	c.mu.RUnlock()
	if ok {
		return at
	}
	at = c.expiresAt(creator)
	if len(creator) > maxCreatorBytes {
		return at
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || len(c.known) >= maxExpiries {
		c.known = make(map[string]time.Time)
	}
	c.known[string(creator)] = at
	return at
}
