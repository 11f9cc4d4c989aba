// Package csp owns private keys: the crypto provider configuration, the key store on disk, and signing
// (IDENTITY-CONFIG §1). Verification needs no provider and is done by msp/x509msp with the standard library.
//
// It starts no goroutine. msp and the command line tools import it.
package csp

// Config is the BCCSP section of core.yaml or orderer.yaml (IDENTITY-CONFIG §1.1). The zero value stands
// for an absent section: software keys in <mspdir>/keystore.
type Config struct {
	// Default is SW, PKCS11 or PLUGIN. Empty with SW set: software keys, but without <mspdir>/keystore.
	Default string
	SW      *SWConfig
	PKCS11  *PKCS11Config
}

// SWConfig is BCCSP.SW.
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
