//go:build !pkcs11

package csp

import "errors"

// pkcs11Built tells whether this binary can talk to an HSM.
const pkcs11Built = false

func openPKCS11(PKCS11Config) (Provider, error) {
	return nil, errors.New("built without PKCS11")
}
