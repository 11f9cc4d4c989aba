package node

import (
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"hash"
	"strings"

	"github.com/heddle-ledger/heddle/internal/csp"
	"github.com/heddle-ledger/heddle/internal/run"
)

// refuseUnsupported ends the start where the configuration asks for something
// that this version would have to ignore.
func (n *Node) refuseUnsupported() error {
	c := n.cfg.Core
	if len(c.Chaincode.SystemPlugins) > 0 {
		return run.Failed(run.Plain, "chaincode.systemPlugins enables %s, but this peer cannot load Go plugins",
			strings.Join(c.Chaincode.SystemPlugins, ", "))
	}
	return nil
}

// packageHash is the hash of chaincode package ids: the family of the BCCSP
// (CHAINCODE §6.4).
func packageHash(c csp.Config) func() hash.Hash {
	family, level := csp.DefaultHash, csp.DefaultSecurity
	switch {
	case c.Default == "PKCS11" && c.PKCS11 != nil:
		family, level = c.PKCS11.Hash, c.PKCS11.Security
	case c.SW != nil:
		family, level = c.SW.Hash, c.SW.Security
	}
	switch {
	case family == "SHA3" && level == 384:
		return func() hash.Hash { return sha3.New384() }
	case family == "SHA3":
		return func() hash.Hash { return sha3.New256() }
	case level == 384:
		return sha512.New384
	default:
		return sha256.New
	}
}
