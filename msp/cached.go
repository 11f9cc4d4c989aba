package msp

import (
	"bytes"
	"crypto/sha256"
	"sync"
	"sync/atomic"

	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"

	"github.com/heddle-ledger/heddle/msp/cache"
)

const (
	// DefaultIdentityCacheBytes holds about seven hundred identities at worst.
	DefaultIdentityCacheBytes = 32 << 20
	// DefaultSignatureCacheBytes holds about a hundred thousand signatures: those of the few seconds from
	// endorsement to commit on a busy channel.
	DefaultSignatureCacheBytes = 16 << 20

	// identityCost is what an identity holds beside its bytes at worst: the parsed certificate, and the
	// remembered principals with their errors.
	identityCost = 8<<10 + maxPrincipals*(2*maxPrincipalBytes+64)
	// maxPrincipals bounds the principals remembered of one identity, maxPrincipalBytes the principal
	// and the text of its error.
	maxPrincipals     = 32
	maxPrincipalBytes = 512
)

// CachedDeserializer remembers the identities another Deserializer made, whether they are valid, which
// principals they satisfy, and which of their signatures were found good. Its results are those of the
// Deserializer behind it, which must be immutable: expiry and time do not matter to either.
type CachedDeserializer struct {
	behind     Deserializer
	identities *cache.Cache[*cachedIdentity]
	signatures *SignatureCache
}

// CacheOption changes the caches of a CachedDeserializer or Manager.
type CacheOption func(*CachedDeserializer)

// WithSignatureCache shares a SignatureCache, so that a signature made or verified under one
// Deserializer (the local MSP, the config before) is not verified again under another.
func WithSignatureCache(s *SignatureCache) CacheOption {
	return func(d *CachedDeserializer) { d.signatures = s }
}

// WithIdentityCacheBytes bounds the memory for identities.
func WithIdentityCacheBytes(n int) CacheOption {
	return func(d *CachedDeserializer) { d.identities = cache.New[*cachedIdentity](n) }
}

// NewCachedDeserializer puts caches in front of a Deserializer.
func NewCachedDeserializer(behind Deserializer, opts ...CacheOption) *CachedDeserializer {
	d := &CachedDeserializer{behind: behind}
	for _, o := range opts {
		o(d)
	}
	if d.identities == nil {
		d.identities = cache.New[*cachedIdentity](DefaultIdentityCacheBytes)
	}
	if d.signatures == nil {
		d.signatures = NewSignatureCache(DefaultSignatureCacheBytes)
	}
	return d
}

// DeserializeIdentity implements Deserializer.
func (d *CachedDeserializer) DeserializeIdentity(b []byte) (Identity, error) {
	if id, ok := d.identities.Get(b); ok {
		return id, nil
	}
	id, err := d.behind.DeserializeIdentity(b)
	if err != nil {
		return nil, err
	}
	c := newCachedIdentity(id, d.signatures)
	d.identities.Put(b, c, 2*len(b)+identityCost)
	return c, nil
}

// IsWellFormed implements Deserializer.
func (d *CachedDeserializer) IsWellFormed(b []byte) error { return d.behind.IsWellFormed(b) }

// Signer is id with its signatures remembered, so that this node does not verify what it made.
func (d *CachedDeserializer) Signer(id SigningIdentity) SigningIdentity {
	return &cachedSigner{cachedIdentity: newCachedIdentity(id, d.signatures), signer: id}
}

// digestVerifier is an Identity whose Verify falls into a digest and a check of it, so that the digest can
// serve to remember the signature by. VerifyKey names all that the outcome depends on beside digest and
// signature: public key and digest algorithm.
type digestVerifier interface {
	VerifyKey() *[32]byte
	Digest(msg []byte) ([32]byte, error)
	VerifyDigest(digest [32]byte, sig []byte) error
}

// cachedIdentity remembers what it found out about an identity.
type cachedIdentity struct {
	Identity
	verifier   digestVerifier // nil if the identity does not offer it
	signatures *SignatureCache

	validate      sync.Once
	validationErr error

	// mu is held while principals is replaced; readers take the slice as it is.
	mu         sync.Mutex
	principals atomic.Pointer[[]principalResult]
}

type principalResult struct {
	class     mspproto.MSPPrincipal_Classification
	principal []byte
	err       error
}

func newCachedIdentity(id Identity, s *SignatureCache) *cachedIdentity {
	v, _ := id.(digestVerifier)
	return &cachedIdentity{Identity: id, verifier: v, signatures: s}
}

// Validate implements Identity.
func (c *cachedIdentity) Validate() error {
	c.validate.Do(func() { c.validationErr = c.Identity.Validate() })
	return c.validationErr
}

// SatisfiesPrincipal implements Identity.
func (c *cachedIdentity) SatisfiesPrincipal(p *mspproto.MSPPrincipal) error {
	class, raw := p.GetPrincipalClassification(), p.GetPrincipal()
	var known []principalResult
	if l := c.principals.Load(); l != nil {
		known = *l
	}
	for i := range known {
		if known[i].class == class && bytes.Equal(known[i].principal, raw) {
			return known[i].err
		}
	}
	err := c.Identity.SatisfiesPrincipal(p)
	if len(raw) <= maxPrincipalBytes && (err == nil || len(err.Error()) <= maxPrincipalBytes) {
		c.remember(principalResult{class, bytes.Clone(raw), err})
	}
	return err
}

func (c *cachedIdentity) remember(r principalResult) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var known []principalResult
	if l := c.principals.Load(); l != nil {
		known = *l
	}
	if len(known) >= maxPrincipals {
		known = known[1:] // the oldest goes
	}
	next := append(append(make([]principalResult, 0, len(known)+1), known...), r)
	c.principals.Store(&next)
}

// Verify implements Identity.
func (c *cachedIdentity) Verify(msg, sig []byte) error {
	if c.verifier == nil || len(sig) == 0 {
		return c.Identity.Verify(msg, sig)
	}
	digest, err := c.verifier.Digest(msg)
	if err != nil {
		return err
	}
	key, ok := signatureKey(c.verifier.VerifyKey(), &digest, sig)
	if !ok {
		return c.verifier.VerifyDigest(digest, sig)
	}
	if c.signatures.has(&key) {
		return nil
	}
	if err := c.verifier.VerifyDigest(digest, sig); err != nil {
		return err
	}
	c.signatures.add(&key)
	return nil
}

// cachedSigner remembers the signatures it makes, once the first has shown that key and certificate
// belong together.
type cachedSigner struct {
	*cachedIdentity
	signer  SigningIdentity
	probe   sync.Once
	matches bool
}

// Sign implements SigningIdentity.
func (s *cachedSigner) Sign(msg []byte) ([]byte, error) {
	sig, err := s.signer.Sign(msg)
	if err != nil || s.verifier == nil {
		return sig, err
	}
	digest, err := s.verifier.Digest(msg)
	if err != nil {
		return nil, err
	}
	s.probe.Do(func() { s.matches = s.verifier.VerifyDigest(digest, sig) == nil })
	if key, ok := signatureKey(s.verifier.VerifyKey(), &digest, sig); ok && s.matches {
		s.signatures.add(&key)
	}
	return sig, nil
}

// SignatureCache remembers good signatures. It says nothing of who made them or of a channel, only that
// a signature over a digest is good under a public key; so one cache may serve a whole node.
type SignatureCache struct{ good *cache.Cache[struct{}] }

// NewSignatureCache returns a cache that holds at most about maxBytes.
func NewSignatureCache(maxBytes int) *SignatureCache {
	return &SignatureCache{cache.New[struct{}](maxBytes)}
}

// maxCachedSignature bounds the signatures remembered; DER of P-521 has 139 bytes.
const maxCachedSignature = 144

// signatureKey digests what a signature is remembered by. The first two parts are of fixed length, so no
// two triples run together.
func signatureKey(verifyKey, digest *[32]byte, sig []byte) (key [32]byte, ok bool) {
	if len(sig) > maxCachedSignature {
		return key, false
	}
	var buf [64 + maxCachedSignature]byte
	copy(buf[:], verifyKey[:])
	copy(buf[32:], digest[:])
	n := 64 + copy(buf[64:], sig)
	return sha256.Sum256(buf[:n]), true
}

func (s *SignatureCache) has(key *[32]byte) bool {
	_, ok := s.good.Get(key[:])
	return ok
}

func (s *SignatureCache) add(key *[32]byte) { s.good.Put(key[:], struct{}{}, 0) }

// Len is the number of signatures remembered.
func (s *SignatureCache) Len() int { return s.good.Len() }
