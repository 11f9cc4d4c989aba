package csp

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
)

// ErrSignatureInvalid tells that a signature is well formed but not of that key over that digest.
var ErrSignatureInvalid = errors.New("The signature is invalid")

// p256HalfOrder is half the order of P-256: the largest S of a low-S signature.
const p256HalfOrder = "\x7f\xff\xff\xff\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff" +
	"\xde\x73\x7d\x56\xd3\x8b\xcf\x42\x79\xdc\xe5\x61\x7e\x31\x92\xa8"

type signature struct{ R, S *big.Int }

// VerifyECDSA checks a DER signature over a digest as the reference does (IDENTITY-CONFIG §1.3): bytes
// after the SEQUENCE do not matter, a high S is refused.
func VerifyECDSA(pub *ecdsa.PublicKey, digest, sig []byte) error {
	if pub.Curve == elliptic.P256() {
		if n, ok := plainLowS(sig); ok {
			if !ecdsa.VerifyASN1(pub, digest, sig[:n]) {
				return ErrSignatureInvalid
			}
			return nil
		}
	}
	return verifySlow(pub, digest, sig)
}

// plainLowS recognises, without allocating, what nearly every P-256 signature looks like: a SEQUENCE of
// exactly two positive INTEGERs of which S is low. n is the length of the SEQUENCE with its header. Anything
// else, good or bad, is left to verifySlow.
func plainLowS(sig []byte) (n int, ok bool) {
	if len(sig) < 8 || sig[0] != 0x30 || sig[1] >= 0x80 || int(sig[1])+2 > len(sig) {
		return 0, false
	}
	n = int(sig[1]) + 2
	r, rest, ok := positiveInt(sig[2:n])
	if !ok || len(r) > 33 {
		return 0, false
	}
	s, rest, ok := positiveInt(rest)
	if !ok || len(rest) != 0 {
		return 0, false
	}
	if len(s) > 32 || len(s) == 32 && string(s) > p256HalfOrder {
		return 0, false
	}
	return n, true
}

// positiveInt cuts a minimally encoded INTEGER greater than zero off der.
func positiveInt(der []byte) (v, rest []byte, ok bool) {
	if len(der) < 3 || der[0] != 0x02 || der[1] == 0 || der[1] >= 0x80 || int(der[1])+2 > len(der) {
		return nil, nil, false
	}
	v, rest = der[2:2+der[1]], der[2+der[1]:]
	switch {
	case v[0] >= 0x80:
		return nil, nil, false // negative
	case v[0] == 0 && (len(v) == 1 || v[1] < 0x80):
		return nil, nil, false // zero, or not minimal
	}
	return v, rest, true
}

func verifySlow(pub *ecdsa.PublicKey, digest, sig []byte) error {
	if len(sig) == 0 {
		return errors.New("could not determine the validity of the signature: Invalid signature. Cannot be empty.")
	}
	rs, err := parseSignature(sig)
	if err != nil {
		return fmt.Errorf("could not determine the validity of the signature: Failed verifing with opts [<nil>]: Failed unmashalling signature [%w]", err)
	}
	if half := halfOrder(pub.Curve); rs.S.Cmp(half) > 0 {
		return fmt.Errorf("could not determine the validity of the signature: Failed verifing with opts [<nil>]: "+
			"Invalid S. Must be smaller than half the order [%s][%s].", rs.S, half)
	}
	if rs.R.Cmp(pub.Curve.Params().N) >= 0 {
		return ErrSignatureInvalid // and too big to be worth encoding
	}
	canonical, err := asn1.Marshal(rs)
	if err != nil || !ecdsa.VerifyASN1(pub, digest, canonical) {
		return ErrSignatureInvalid
	}
	return nil
}

func parseSignature(sig []byte) (signature, error) {
	type ECDSASignature signature // asn1 names the type in its error texts
	var parsed ECDSASignature
	if _, err := asn1.Unmarshal(sig, &parsed); err != nil {
		return signature{}, fmt.Errorf("failed unmashalling signature [%w]", err)
	}
	rs := signature(parsed)
	if rs.R.Sign() <= 0 {
		return rs, errors.New("invalid signature, R must be larger than zero")
	}
	if rs.S.Sign() <= 0 {
		return rs, errors.New("invalid signature, S must be larger than zero")
	}
	return rs, nil
}

func halfOrder(c elliptic.Curve) *big.Int { return new(big.Int).Rsh(c.Params().N, 1) }

// LowS returns sig itself when its S is low already, else the same signature with S replaced by N-S.
// changed tells which.
func LowS(pub *ecdsa.PublicKey, sig []byte) (low []byte, changed bool, err error) {
	rs, err := parseSignature(sig)
	if err != nil {
		return nil, false, err
	}
	if rs.S.Cmp(halfOrder(pub.Curve)) <= 0 {
		return sig, false, nil
	}
	rs.S = new(big.Int).Sub(pub.Curve.Params().N, rs.S)
	if rs.S.Sign() <= 0 {
		return nil, false, errors.New("invalid signature, S must be smaller than the order")
	}
	low, err = asn1.Marshal(rs)
	return low, true, err
}

// CanonicalDER tells whether an ECDSA signature is its own DER re-encoding (IDENTITY-CONFIG §2.3). S may be high.
func CanonicalDER(sig []byte) (bool, error) {
	rs, err := parseSignature(sig)
	if err != nil {
		return false, err
	}
	again, err := asn1.Marshal(rs)
	return err == nil && string(again) == string(sig), err
}

// Sign signs a digest; S is always low (IDENTITY-CONFIG §1.3).
func Sign(key crypto.Signer, digest []byte) ([]byte, error) {
	pub, ok := key.Public().(*ecdsa.PublicKey)
	if !ok {
		return nil, errors.New("only ECDSA keys sign")
	}
	sig, err := key.Sign(rand.Reader, digest, crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("sign: %w", err)
	}
	low, _, err := LowS(pub, sig)
	return low, err
}
