package csp

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

const (
	// maxScannedKey is the largest file that a search by content reads.
	maxScannedKey = 1 << 16
	// maxKeyFile bounds what is read of any one file, even through a symbolic link.
	maxKeyFile = 1 << 20
)

// KeyStore is a directory of private keys (IDENTITY-CONFIG §1.2); it implements Provider.
type KeyStore struct{ Dir string }

// Signer implements Provider: by file name first, else by the content of every file.
func (s KeyStore) Signer(ski []byte) (crypto.Signer, error) {
	entries, err := os.ReadDir(s.Dir)
	if err != nil {
		return nil, fmt.Errorf("Key with SKI %x not found in %s", ski, s.Dir)
	}
	name := hex.EncodeToString(ski)
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), name) {
			continue
		}
		switch {
		case strings.HasSuffix(e.Name(), "sk"):
			return s.byName(name)
		case strings.HasSuffix(e.Name(), "pk"):
			return nil, fmt.Errorf("Failed loading public key [%s] [it hides the private key]", name)
		case strings.HasSuffix(e.Name(), "key"):
			return nil, fmt.Errorf("Failed loading key [%s] [it hides the private key]", name)
		}
		break // only the first name with the prefix counts
	}
	return s.byContent(ski, entries)
}

func (s KeyStore) byName(ski string) (crypto.Signer, error) {
	raw, err := readKeyFile(filepath.Join(s.Dir, ski+"_sk"))
	if err != nil {
		return nil, fmt.Errorf("Failed loading secret key [%s] [%w]", ski, err)
	}
	key, err := ParsePrivateKey(raw)
	if err != nil {
		return nil, fmt.Errorf("Failed loading secret key [%s] [%w]", ski, err)
	}
	return key, nil
}

func (s KeyStore) byContent(ski []byte, entries []os.DirEntry) (crypto.Signer, error) {
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.IsDir() || info.Size() > maxScannedKey {
			continue
		}
		raw, err := readKeyFile(filepath.Join(s.Dir, e.Name()))
		if err != nil {
			continue
		}
		key, err := ParsePrivateKey(raw)
		if err != nil {
			continue
		}
		if got, err := SKI(key.Public()); err == nil && bytes.Equal(got, ski) {
			return key, nil
		}
	}
	return nil, fmt.Errorf("Key with SKI %x not found in %s", ski, s.Dir)
}

func readKeyFile(path string) ([]byte, error) {
	// A pipe or device would block or never end.
	if info, err := os.Stat(path); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, errors.New("not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxKeyFile))
}

// Store writes a private key as <ski>_sk and returns the path.
func (s KeyStore) Store(key *ecdsa.PrivateKey) (string, error) {
	ski, err := SKI(&key.PublicKey)
	if err != nil {
		return "", err
	}
	raw, err := MarshalPrivateKey(key)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(s.Dir, 0o755); err != nil {
		return "", fmt.Errorf("create key store: %w", err)
	}
	path := filepath.Join(s.Dir, hex.EncodeToString(ski)+"_sk")
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		return "", fmt.Errorf("store private key: %w", err)
	}
	return path, nil
}

// SKI is the subject key identifier of a public key: SHA-256 over the uncompressed point, or over the DER
// of modulus and exponent (IDENTITY-CONFIG §1.2, SURFACE §6.4).
func SKI(pub crypto.PublicKey) ([]byte, error) {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		point, err := k.Bytes()
		if err != nil {
			return nil, fmt.Errorf("encode public key: %w", err)
		}
		sum := sha256.Sum256(point)
		return sum[:], nil
	case *rsa.PublicKey:
		der, err := asn1.Marshal(struct {
			N any
			E int
		}{k.N, k.E})
		if err != nil {
			return nil, fmt.Errorf("encode public key: %w", err)
		}
		sum := sha256.Sum256(der)
		return sum[:], nil
	default:
		return nil, fmt.Errorf("no key identifier for keys of type %T", pub)
	}
}
