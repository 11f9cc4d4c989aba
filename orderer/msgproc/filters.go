package msgproc

import (
	"errors"
	"fmt"
	"time"

	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/policy"
	"github.com/heddle-ledger/heddle/msp/cache"
	"github.com/heddle-ledger/heddle/msp/x509msp"
	"github.com/heddle-ledger/heddle/orderer/consensus"
)

// errIdentityExpired is the refusal of an expired creator.
var errIdentityExpired = errors.New("identity expired")

// applyFilters are the filters of ORDERER §5.2 that every channel has, in their
// order: empty, size, expiry, signature. All of them look at the same config.
func (p *Processor) applyFilters(b *chanconfig.Bundle, m *consensus.Message) error {
	orderer, ok := b.Orderer()
	if !ok {
		return errors.New("config does not contain orderer config")
	}
	if len(m.Envelope().GetPayload()) == 0 {
		return errors.New("Message was empty") //nolint:staticcheck // wire-visible text
	}
	if size, limit := uint64(m.Size()), uint64(orderer.BatchSize.AbsoluteMaxBytes); size > limit {
		return fmt.Errorf("message payload is %d bytes and exceeds maximum allowed %d bytes", size, limit)
	}
	signed, err := m.SignedData()
	if err != nil {
		return fmt.Errorf("could not convert message to signedData: %w", err)
	}
	if p.expiry != nil && orderer.Capabilities.ExpirationCheck() && p.expiry.expired(signed.Identity) {
		return errIdentityExpired
	}
	return checkWriter(b, orderer, signed)
}

// checkWriter is the signature filter.
func checkWriter(b *chanconfig.Bundle, orderer *chanconfig.OrdererGroup, signed policy.SignedData) error {
	name := chanconfig.PolicyChannelWriters
	if orderer.InMaintenance() {
		name = chanconfig.PolicyOrdererWriters
	}
	writers, ok := b.PolicyManager().Policy(name)
	if !ok {
		return fmt.Errorf("could not find policy %s", name)
	}
	if err := writers.Evaluate([]policy.SignedData{signed}); err != nil {
		return fmt.Errorf("%w: %w", err, ErrPermissionDenied)
	}
	return nil
}

// Expiry tells whether creators' certificates have expired, and remembers by
// the creator's bytes when they do. It is shared by all channels of a process.
type Expiry struct {
	ends *cache.Cache[time.Time]
}

// expiryCacheBytes bounds what Expiry remembers: a few thousand creators.
const expiryCacheBytes = 8 << 20

// NewExpiry returns an Expiry that remembers nothing yet.
func NewExpiry() *Expiry {
	return &Expiry{ends: cache.New[time.Time](expiryCacheBytes)}
}

// ExpiresAt is the end of validity of a creator; the zero time means never,
// which is also the answer for bytes that are no X.509 identity.
func (e *Expiry) ExpiresAt(creator []byte) time.Time {
	end, ok := e.ends.Get(creator)
	if !ok {
		end = x509msp.ExpiresAtOf(creator)
		e.ends.Put(creator, end, len(creator))
	}
	return end
}

func (e *Expiry) expired(creator []byte) bool {
	end := e.ExpiresAt(creator)
	return !end.IsZero() && time.Now().After(end)
}
