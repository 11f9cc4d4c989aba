// Package csp owns private keys: the crypto provider configuration, the key store on disk, signing, and
// the check of an ECDSA signature as the reference makes it (IDENTITY-CONFIG §1).
//
// A Provider keeps no state but its configuration (with PKCS11 also the session pool of the library). The
// package starts no goroutine. msp and the command line tools import it.
package csp

import (
	"crypto"
	"fmt"
	"os"
	"path/filepath"
)

// Config is the BCCSP section of core.yaml or orderer.yaml (IDENTITY-CONFIG §1.1). The zero value stands
// for an absent section: software keys in <mspdir>/keystore.
type Config struct {
	// Default is SW, PKCS11 or PLUGIN. Empty with SW set: software keys, but without <mspdir>/keystore.
	Default string
	SW      *SWConfig
	PKCS11  *PKCS11Config
}

// SWConfig is BCCSP.SW. Hash and Security must both be set; WithDefaults does it for the orderer.
type SWConfig struct {
	Hash     string
	Security int
	// KeyStore is FileKeyStore.KeyStore; empty means <mspdir>/keystore.
	KeyStore string
}

// PKCS11Config is BCCSP.PKCS11.
type PKCS11Config struct {
	Library, Label, Pin string
	Hash                string
	Security            int
	SoftVerify          bool
	Immutable           bool
	AltID               string
	KeyStore            string
}

// The defaults of BCCSP.SW.
const (
	DefaultHash     = "SHA2"
	DefaultSecurity = 256
)

// WithDefaults fills absent fields as the orderer does; the peer does not (IDENTITY-CONFIG §1.1).
func (c Config) WithDefaults() Config {
	if c.Default == "" {
		c.Default = "SW"
	}
	sw := SWConfig{}
	if c.SW != nil {
		sw = *c.SW
	}
	if sw.Hash == "" {
		sw.Hash = DefaultHash
	}
	if sw.Security == 0 {
		sw.Security = DefaultSecurity
	}
	c.SW = &sw
	return c
}

// Provider finds private keys.
type Provider interface {
	// Signer returns the private key with that subject key identifier.
	Signer(ski []byte) (crypto.Signer, error)
}

// Open checks the configuration and opens the key store, creating its directory if needed. mspDir is the
// directory of the local MSP.
func Open(c Config, mspDir string) (Provider, error) {
	p, err := open(c, mspDir)
	if err != nil {
		return nil, fmt.Errorf("could not initialize BCCSP Factories: %w", err)
	}
	return p, nil
}

func open(c Config, mspDir string) (Provider, error) {
	name, inMSPDir := c.Default, true
	if name == "" {
		name = "SW"
		inMSPDir = c.SW == nil
	}
	switch {
	case name == "SW":
		sw := SWConfig{Hash: DefaultHash, Security: DefaultSecurity}
		if c.SW != nil {
			sw = *c.SW
		}
		if sw.KeyStore == "" && inMSPDir {
			sw.KeyStore = filepath.Join(mspDir, "keystore")
		}
		return openSW(sw)
	case name == "PKCS11" && c.PKCS11 != nil && pkcs11Built:
		return openPKCS11(*c.PKCS11)
	default:
		// PLUGIN is never compiled in: Go plugins must be built by the very toolchain that built the node.
		return nil, fmt.Errorf("Could not find default `%s` BCCSP", name)
	}
}

func openSW(c SWConfig) (Provider, error) {
	if err := checkLevel(c.Hash, c.Security); err != nil {
		return nil, fmt.Errorf("Failed initializing BCCSP: Could not initialize BCCSP SW [Failed initializing configuration at [%d,%s]: %w]",
			c.Security, c.Hash, err)
	}
	if c.KeyStore == "" {
		return noKeys{}, nil
	}
	if err := os.MkdirAll(c.KeyStore, 0o755); err != nil {
		return nil, fmt.Errorf("Failed initializing BCCSP: Failed to initialize software key store: %w", err)
	}
	return KeyStore{Dir: c.KeyStore}, nil
}

// checkLevel refuses hash families and security levels the reference does not have; neither influences
// what identities sign with (IDENTITY-CONFIG §1.3).
func checkLevel(hash string, security int) error {
	if hash != "SHA2" && hash != "SHA3" {
		return fmt.Errorf("Hash Family not supported [%s]", hash)
	}
	if security != 256 && security != 384 {
		return fmt.Errorf("Security level not supported [%d]", security)
	}
	return nil
}

// noKeys is the provider of a configuration without a key store.
type noKeys struct{}

func (noKeys) Signer(ski []byte) (crypto.Signer, error) {
	return nil, fmt.Errorf("Key with SKI %x not found", ski)
}
