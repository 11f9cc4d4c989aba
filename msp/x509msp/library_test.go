package x509msp_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"testing"

	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"

	"github.com/heddle-ledger/heddle/internal/csp"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/testpki"
	"github.com/heddle-ledger/heddle/msp"
	"github.com/heddle-ledger/heddle/msp/x509msp"
)

var (
	ecdsaWithSHA1   = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 1}
	ecdsaWithSHA256 = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
)

// resign changes the signed part of a certificate and signs it anew; the library would not make such ones.
func resign(t *testing.T, ca *testpki.CA, c *x509.Certificate, hash func([]byte) []byte, algorithm asn1.ObjectIdentifier, change func(tbs []byte) []byte) []byte {
	t.Helper()
	var inner [2][]byte
	for i, oid := range []asn1.ObjectIdentifier{ecdsaWithSHA256, algorithm} {
		raw, err := asn1.Marshal(pkix.AlgorithmIdentifier{Algorithm: oid})
		if err != nil {
			t.Fatal(err)
		}
		inner[i] = raw
	}
	var tbs asn1.RawValue
	if _, err := asn1.Unmarshal(c.RawTBSCertificate, &tbs); err != nil {
		t.Fatal(err)
	}
	tbs.Bytes = change(bytes.Replace(tbs.Bytes, inner[0], inner[1], 1))
	tbs.FullBytes = nil
	raw, err := asn1.Marshal(tbs)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := ecdsa.SignASN1(rand.Reader, ca.Key, hash(raw))
	if err != nil {
		t.Fatal(err)
	}
	if sig, _, err = csp.LowS(&ca.Key.PublicKey, sig); err != nil {
		t.Fatal(err)
	}
	der, err := asn1.Marshal(struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: raw}, pkix.AlgorithmIdentifier{Algorithm: algorithm}, asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}})
	if err != nil {
		t.Fatal(err)
	}
	return protoutil.Marshal(&mspproto.SerializedIdentity{Mspid: "Org1MSP", IdBytes: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})})
}

// TestLibraryVerdicts pins the verdicts in which Go's certificate code has changed since the reference was built
// (docs/adr/0005-x509.md): negative serial numbers are still accepted, signatures with SHA-1 no longer.
func TestLibraryVerdicts(t *testing.T) {
	t.Parallel()
	org := testpki.NewOrg(t, "Org1MSP")
	m, err := x509msp.New(org.MSPConfig(), msp.V1_4_3)
	if err != nil {
		t.Fatal(err)
	}
	with256 := func(b []byte) []byte { s := sha256.Sum256(b); return s[:] }
	with1 := func(b []byte) []byte { s := sha1.Sum(b); return s[:] }
	leaf := org.CA.Issue("p", []string{"peer"}, func(c *x509.Certificate) { c.SerialNumber = big.NewInt(0x77) })
	negative := func(tbs []byte) []byte { return bytes.Replace(tbs, []byte{2, 1, 0x77}, []byte{2, 1, 0xf7}, 1) }
	same := func(tbs []byte) []byte { return tbs }
	for _, tc := range []struct {
		name     string
		identity []byte
		want     string
	}{
		{"as it was", resign(t, org.CA, leaf.Cert, with256, ecdsaWithSHA256, same), "OK"},
		{"negative serial number", resign(t, org.CA, leaf.Cert, with256, ecdsaWithSHA256, negative), "OK"},
		{
			"SHA-1", resign(t, org.CA, leaf.Cert, with1, ecdsaWithSHA1, same),
			"the supplied identity is not valid: x509: certificate signed by unknown authority (possibly because of \"x509: cannot verify signature: " +
				"insecure algorithm ECDSA-SHA1\" while trying to verify candidate authority certificate \"ca.Org1MSP\")",
		},
	} {
		id, err := m.DeserializeIdentity(tc.identity)
		if err == nil {
			err = id.Validate()
		}
		if text(err) != tc.want {
			t.Errorf("%s: got %s", tc.name, text(err))
		}
	}
}
