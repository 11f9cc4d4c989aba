//go:build pkcs11

package csp

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"fmt"
	"io"

	"github.com/hyperledger/fabric-lib-go/bccsp"
	"github.com/hyperledger/fabric-lib-go/bccsp/pkcs11"
	"github.com/hyperledger/fabric-lib-go/bccsp/sw"
)

// pkcs11Built tells whether this binary can talk to an HSM.
const pkcs11Built = true

// hsm finds keys in a PKCS#11 token, by their CKA_ID; what the token lacks, in files.
type hsm struct {
	token *pkcs11.Provider
	files Provider
}

func openPKCS11(c PKCS11Config) (Provider, error) {
	var opts []pkcs11.Option
	if c.AltID != "" {
		// For tokens that give keys identifiers of their own.
		opts = append(opts, pkcs11.WithKeyMapper(func([]byte) []byte { return []byte(c.AltID) }))
	}
	token, err := pkcs11.New(pkcs11.PKCS11Opts{
		Security: c.Security, Hash: c.Hash,
		Library: c.Library, Label: c.Label, Pin: c.Pin,
		SoftwareVerify: c.SoftVerify, Immutable: c.Immutable, AltID: c.AltID,
	}, sw.NewDummyKeyStore(), opts...)
	if err != nil {
		return nil, fmt.Errorf("Failed initializing BCCSP: Could not initialize BCCSP PKCS11 [%w]", err)
	}
	h := hsm{token: token, files: noKeys{}}
	if c.KeyStore != "" {
		h.files = KeyStore{Dir: c.KeyStore}
	}
	return h, nil
}

// Signer implements Provider.
func (h hsm) Signer(ski []byte) (crypto.Signer, error) {
	s, err := h.inToken(ski)
	if err == nil {
		return s, nil
	}
	if s, err := h.files.Signer(ski); err == nil {
		return s, nil
	}
	return nil, err
}

func (h hsm) inToken(ski []byte) (crypto.Signer, error) {
	key, err := h.token.GetKey(ski)
	if err != nil {
		return nil, fmt.Errorf("Key with SKI %x not found: %w", ski, err)
	}
	if !key.Private() {
		return nil, fmt.Errorf("Key with SKI %x not found: the token has its public key only", ski)
	}
	pub, err := key.PublicKey()
	if err != nil {
		return nil, fmt.Errorf("read public key: %w", err)
	}
	der, err := pub.Bytes()
	if err != nil {
		return nil, fmt.Errorf("read public key: %w", err)
	}
	parsed, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("read public key: %w", err)
	}
	if got, err := SKI(parsed); err != nil || !bytes.Equal(got, ski) {
		return nil, fmt.Errorf("Key with SKI %x not found: the token has another key under that identifier", ski)
	}
	return hsmSigner{h.token, key, parsed}, nil
}

// hsmSigner is a private key that stays in the token.
type hsmSigner struct {
	token *pkcs11.Provider
	key   bccsp.Key
	pub   crypto.PublicKey
}

func (s hsmSigner) Public() crypto.PublicKey { return s.pub }

func (s hsmSigner) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return s.token.Sign(s.key, digest, opts)
}
