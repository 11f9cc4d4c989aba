package msp_test

import (
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/testpki"
	"github.com/heddle-ledger/heddle/msp"
	"github.com/heddle-ledger/heddle/msp/x509msp"
)

func newMSP(t testing.TB, org *testpki.Org) *x509msp.MSP {
	t.Helper()
	m, err := x509msp.New(org.MSPConfig(), msp.V1_4_3)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func role(id string, r mspproto.MSPRole_MSPRoleType) *mspproto.MSPPrincipal {
	return &mspproto.MSPPrincipal{Principal: protoutil.Marshal(&mspproto.MSPRole{MspIdentifier: id, Role: r})}
}

func TestManager(t *testing.T) {
	t.Parallel()
	org1, org2 := testpki.NewOrg(t, "Org1MSP"), testpki.NewOrg(t, "Org2MSP")
	m := msp.NewManager([]msp.MSP{newMSP(t, org1), newMSP(t, org2)})
	if len(m.MSPs()) != 2 {
		t.Errorf("%d MSPs", len(m.MSPs()))
	}
	if _, ok := m.MSP("Org2MSP"); !ok {
		t.Error("Org2MSP is missing")
	}
	if _, ok := m.MSP("Org3MSP"); ok {
		t.Error("Org3MSP is there")
	}
	peer := org2.Peer("p")
	for range 2 {
		id, err := m.DeserializeIdentity(peer.Serialize())
		if err != nil {
			t.Fatal(err)
		}
		if id.MSPID() != "Org2MSP" || string(id.Serialize()) != string(peer.Serialize()) || !id.ExpiresAt().Equal(peer.Cert.NotAfter) {
			t.Error("not the identity that was given")
		}
		if err := id.Validate(); err != nil {
			t.Error(err)
		}
		if err := id.SatisfiesPrincipal(role("Org2MSP", mspproto.MSPRole_PEER)); err != nil {
			t.Error(err)
		}
		if err := id.SatisfiesPrincipal(role("Org2MSP", mspproto.MSPRole_CLIENT)); err == nil {
			t.Error("a peer is a client")
		}
		if err := m.IsWellFormed(peer.Serialize()); err != nil {
			t.Error(err)
		}
	}
	stranger := testpki.NewOrg(t, "Org3MSP").Peer("p")
	for _, tc := range []struct {
		b    []byte
		want string
	}{
		{stranger.Serialize(), "MSP Org3MSP is unknown"},
		{[]byte{1}, "could not deserialize a SerializedIdentity: "},
	} {
		if _, err := m.DeserializeIdentity(tc.b); err == nil || !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("got %v, want %s", err, tc.want)
		}
	}
	if err := m.IsWellFormed(stranger.Serialize()); err != nil {
		t.Errorf("form does not depend on the MSP: %v", err)
	}
	bad := protoutil.Marshal(&mspproto.SerializedIdentity{Mspid: "Org1MSP", IdBytes: []byte("x")})
	if err := m.IsWellFormed(bad); err == nil || err.Error() != "no MSP provider recognizes the identity" {
		t.Errorf("got %v", err)
	}
}

// counting is an identity that counts what it is asked.
type counting struct {
	msp.Identity
	validations, principals, verifications *atomic.Int32
}

func (c counting) Validate() error { c.validations.Add(1); return errors.New("not valid") }

func (c counting) SatisfiesPrincipal(p *mspproto.MSPPrincipal) error {
	c.principals.Add(1)
	return c.Identity.SatisfiesPrincipal(p)
}

func (c counting) VerifyKey() *[32]byte                { return &[32]byte{7} }
func (c counting) Digest(msg []byte) ([32]byte, error) { return [32]byte{byte(len(msg))}, nil }
func (c counting) VerifyDigest(d [32]byte, sig []byte) error {
	c.verifications.Add(1)
	if string(sig) != "good" {
		return errors.New("The signature is invalid")
	}
	return nil
}

type one struct {
	id    msp.Identity
	calls atomic.Int32
}

func (o *one) DeserializeIdentity([]byte) (msp.Identity, error) { o.calls.Add(1); return o.id, nil }
func (o *one) IsWellFormed([]byte) error                        { return nil }

func TestEverythingIsAskedOnce(t *testing.T) {
	t.Parallel()
	org := testpki.NewOrg(t, "Org1MSP")
	inner, err := newMSP(t, org).DeserializeIdentity(org.Peer("p").Serialize())
	if err != nil {
		t.Fatal(err)
	}
	id := counting{inner, new(atomic.Int32), new(atomic.Int32), new(atomic.Int32)}
	behind := &one{id: id}
	shared := msp.NewSignatureCache(1 << 20)
	for range 2 { // the second is the channel after a config update: it asks again, but for signatures
		d := msp.NewCachedDeserializer(behind, msp.WithSignatureCache(shared), msp.WithIdentityCacheBytes(1<<20))
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 10 {
					got, err := d.DeserializeIdentity([]byte("p"))
					if err != nil {
						t.Error(err)
						return
					}
					if got.Validate() == nil {
						t.Error("valid")
					}
					if got.SatisfiesPrincipal(role("Org1MSP", mspproto.MSPRole_PEER)) != nil || got.SatisfiesPrincipal(role("Org1MSP", mspproto.MSPRole_ADMIN)) == nil {
						t.Error("wrong principals")
					}
					if got.Verify([]byte("m"), []byte("good")) != nil {
						t.Error("not verified")
					}
				}
			})
			wg.Wait() // one after the other: only repetition is counted here
		}
	}
	if n := behind.calls.Load(); n != 2 {
		t.Errorf("%d deserialisations", n)
	}
	if n := id.validations.Load(); n != 2 {
		t.Errorf("%d validations", n)
	}
	if n := id.principals.Load(); n != 4 {
		t.Errorf("%d principals", n)
	}
	if n := id.verifications.Load(); n != 1 {
		t.Errorf("%d verifications", n)
	}
	d := msp.NewCachedDeserializer(behind, msp.WithSignatureCache(shared))
	got, err := d.DeserializeIdentity([]byte("p"))
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if got.Verify([]byte("m"), []byte("bad")) == nil || got.Verify([]byte("longer"), []byte("evil")) == nil || got.Verify([]byte("m"), make([]byte, 200)) == nil {
			t.Error("verified")
		}
	}
	if n := id.verifications.Load(); n != 1+9 {
		t.Errorf("%d verifications: bad ones are not remembered", n)
	}
}

func TestPrincipalMemoryIsBounded(t *testing.T) {
	t.Parallel()
	org := testpki.NewOrg(t, "Org1MSP")
	m := msp.NewManager([]msp.MSP{newMSP(t, org)})
	id, err := m.DeserializeIdentity(org.Peer("p").Serialize())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		p := role("Org1MSP", mspproto.MSPRole_MSPRoleType(i%5))
		p.Principal = append(p.Principal, make([]byte, i)...) // mostly no message
		first, second := id.SatisfiesPrincipal(p), id.SatisfiesPrincipal(p)
		if (first == nil) != (second == nil) {
			t.Errorf("%d: %v then %v", i, first, second)
		}
	}
}

// brokenSigner has a key that does not belong to its certificate.
type brokenSigner struct{ counting }

func (brokenSigner) Sign([]byte) ([]byte, error) { return []byte("not mine"), nil }

type goodSigner struct{ counting }

func (goodSigner) Sign([]byte) ([]byte, error) { return []byte("good"), nil }

func TestMadeSignatures(t *testing.T) {
	t.Parallel()
	org := testpki.NewOrg(t, "Org1MSP")
	inner, err := newMSP(t, org).DeserializeIdentity(org.Peer("p").Serialize())
	if err != nil {
		t.Fatal(err)
	}
	id := counting{inner, new(atomic.Int32), new(atomic.Int32), new(atomic.Int32)}
	d := msp.NewCachedDeserializer(&one{id: id})
	good := d.Signer(goodSigner{id})
	for _, msg := range []string{"a", "bb", "ccc"} {
		sig, err := good.Sign([]byte(msg))
		if err != nil {
			t.Fatal(err)
		}
		if err := good.Verify([]byte(msg), sig); err != nil {
			t.Error(err)
		}
	}
	if n := id.verifications.Load(); n != 1 {
		t.Errorf("%d verifications of own signatures, want the probe only", n)
	}
	broken := d.Signer(brokenSigner{id})
	sig, err := broken.Sign([]byte("dddd"))
	if err != nil {
		t.Fatal(err)
	}
	if broken.Verify([]byte("dddd"), sig) == nil {
		t.Error("a signature by a foreign key was taken for good")
	}
}

func FuzzDeserialize(f *testing.F) {
	org := testpki.NewOrg(f, "Org1MSP")
	m := msp.NewManager([]msp.MSP{newMSP(f, org)})
	f.Add(org.Peer("p").Serialize(), []byte{})
	f.Add(org.Admin("a").Serialize(), []byte{8, 1})
	f.Add([]byte("\n\aOrg1MSP\x12\x01x"), []byte{8, 4, 18, 0})
	f.Fuzz(func(t *testing.T, b, principal []byte) {
		_ = m.IsWellFormed(b)
		if !x509msp.ExpiresAtOf(b).IsZero() {
			_ = time.Until(x509msp.ExpiresAtOf(b))
		}
		id, err := m.DeserializeIdentity(b)
		if err != nil {
			return
		}
		again, err := m.DeserializeIdentity(id.Serialize())
		if err != nil || again.Identifier() != id.Identifier() {
			t.Errorf("re-serialized it is %v (%v), was %v", again, err, id.Identifier())
		}
		_ = id.Validate()
		_ = id.Verify(b, principal)
		p := &mspproto.MSPPrincipal{}
		if proto.Unmarshal(principal, p) == nil {
			_ = id.SatisfiesPrincipal(p)
		}
	})
}

func benchmarkIdentity(b *testing.B) (*msp.Manager, *testpki.Identity, msp.Identity) {
	b.Helper()
	org := testpki.NewOrg(b, "Org1MSP")
	m := msp.NewManager([]msp.MSP{newMSP(b, org)})
	peer := org.Peer("p")
	id, err := m.DeserializeIdentity(peer.Serialize())
	if err != nil {
		b.Fatal(err)
	}
	return m, peer, id
}

func BenchmarkDeserializeHit(b *testing.B) {
	m, peer, _ := benchmarkIdentity(b)
	raw := peer.Serialize()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := m.DeserializeIdentity(raw); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkDeserializeMiss(b *testing.B) {
	org := testpki.NewOrg(b, "Org1MSP")
	m, raw := newMSP(b, org), org.Peer("p").Serialize()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.DeserializeIdentity(raw); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPrincipalHit(b *testing.B) {
	_, _, id := benchmarkIdentity(b)
	p := role("Org1MSP", mspproto.MSPRole_PEER)
	b.ReportAllocs()
	for b.Loop() {
		if err := id.SatisfiesPrincipal(p); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyFirst(b *testing.B) {
	org := testpki.NewOrg(b, "Org1MSP")
	peer := org.Peer("p")
	id, err := newMSP(b, org).DeserializeIdentity(peer.Serialize())
	if err != nil {
		b.Fatal(err)
	}
	msg := make([]byte, 3000)
	sig := peer.MustSign(msg)
	b.ReportAllocs()
	for b.Loop() {
		if err := id.Verify(msg, sig); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyHit(b *testing.B) {
	_, peer, id := benchmarkIdentity(b)
	msg := make([]byte, 3000)
	sig := peer.MustSign(msg)
	b.ReportAllocs()
	for b.Loop() {
		if err := id.Verify(msg, sig); err != nil {
			b.Fatal(err)
		}
	}
}
