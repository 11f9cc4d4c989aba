package chanconfig_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/policy"
	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// newOrg is the group of an application organization with a CA of its own.
func newOrg(t testing.TB, mspID string) *common.ConfigGroup {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := func() []byte {
		cert := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca." + mspID},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IsCA: true, BasicConstraintsValid: true, SubjectKeyId: []byte(mspID), KeyUsage: x509.KeyUsageCertSign,
		}
		der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	ou := func(name string) *mspproto.FabricOUIdentifier {
		return &mspproto.FabricOUIdentifier{OrganizationalUnitIdentifier: name}
	}
	conf := &mspproto.FabricMSPConfig{
		Name: mspID, RootCerts: [][]byte{ca()}, TlsRootCerts: [][]byte{ca()},
		FabricNodeOus: &mspproto.FabricNodeOUs{
			Enable: true, ClientOuIdentifier: ou("client"), PeerOuIdentifier: ou("peer"),
			AdminOuIdentifier: ou("admin"), OrdererOuIdentifier: ou("orderer"),
		},
	}
	g := &common.ConfigGroup{
		ModPolicy: "Admins",
		Values:    make(map[string]*common.ConfigValue),
		Policies:  make(map[string]*common.ConfigPolicy),
	}
	setValue(g, "MSP", &mspproto.MSPConfig{Config: protoutil.Marshal(conf)})
	for name, p := range map[string]*common.SignaturePolicyEnvelope{
		"Readers": policy.SignedByMSPMember(mspID), "Writers": policy.SignedByMSPMember(mspID), "Admins": policy.SignedByMSPAdmin(mspID),
	} {
		g.Policies[name] = &common.ConfigPolicy{ModPolicy: "Admins", Policy: &common.Policy{Type: int32(common.Policy_SIGNATURE), Value: protoutil.Marshal(p)}}
	}
	return g
}

// BenchmarkNewBundle loads configurations of 2 and of 100 organizations.
func BenchmarkNewBundle(b *testing.B) {
	for _, orgs := range []int{2, 100} {
		b.Run(fmt.Sprintf("orgs=%d", orgs), func(b *testing.B) {
			cfg := proto.CloneOf(standalone(b).Config())
			application := cfg.ChannelGroup.Groups["Application"]
			for i := len(application.Groups); i < orgs; i++ {
				application.Groups[fmt.Sprintf("Org%d", i+1)] = newOrg(b, fmt.Sprintf("Org%dMSP", i+1))
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := chanconfig.NewBundle("standalone", cfg, chanconfig.Options{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkProposeUpdate authorises and applies an update signed by one
// administrator, which the signature cache has seen before.
func BenchmarkProposeUpdate(b *testing.B) {
	var v updateVectors
	loadVectors(b, "apply_update.json.gz", &v)
	current := mustBundle(b, v.ChannelID, unmarshal(b, v.CurrentConfig, &common.Config{}))
	env := unmarshal(b, v.Cases[0].Envelope, &common.Envelope{})
	b.ReportAllocs()
	for b.Loop() {
		if _, err := current.ProposeUpdate(env); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkVerifyBlock verifies a block of one transaction: "cached" with the
// signature known, "fresh" with a new channel configuration each time.
func BenchmarkVerifyBlock(b *testing.B) {
	var v struct {
		Cases []struct {
			Block []byte `json:"block_b64"`
		}
	}
	loadVectors(b, "verify_block.json.gz", &v)
	block := unmarshal(b, v.Cases[0].Block, &common.Block{})
	bundle := standalone(b)
	b.Run("cached", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := chanconfig.VerifyBlock(bundle, "standalone", nil, block); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("fresh", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			b.StopTimer()
			bundle := mustBundle(b, "standalone", bundle.Config())
			b.StartTimer()
			if err := chanconfig.VerifyBlock(bundle, "standalone", nil, block); err != nil {
				b.Fatal(err)
			}
		}
	})
}
