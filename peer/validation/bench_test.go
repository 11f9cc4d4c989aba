package validation

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"fmt"
	"testing"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"

	"github.com/heddle-ledger/heddle/chaincode/packaging"
	"github.com/heddle-ledger/heddle/internal/policy"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/testnet/testchain"
)

// verification measures what checking one P-256 signature costs here and now.
func verification(net *testchain.Net) time.Duration {
	digest := sha256.Sum256([]byte("x"))
	sig := net.User.MustSign([]byte("x"))
	key := &net.User.Key.PublicKey
	const n = 2000
	start := time.Now()
	for range n {
		if !ecdsa.VerifyASN1(key, digest[:], sig) {
			panic("the signature does not verify")
		}
	}
	return time.Since(start) / n
}

// deployed is a ledger with chaincode mycc, to be endorsed by any member.
func deployed(t testing.TB, net *testchain.Net) (genesis *common.Block, l *testchain.Ledger) {
	t.Helper()
	genesis = net.Genesis("ch")
	l, err := testchain.NewLedger(genesis)
	if err != nil {
		t.Fatal(err)
	}
	cc := &packaging.ChaincodeData{
		Name: "mycc", Version: "1.0", Escc: "escc", Vscc: "vscc", Policy: anyMember([]string{"Org1MSP", "Org2MSP"}),
		InstantiationPolicy: protoutil.Marshal(policy.SignedByAnyAdmin([]string{"Org1MSP", "Org2MSP"})),
	}
	b := net.Block(1, genesis.Header, 0, net.Deploy("ch", "deploy", cc))
	v := newValidator(t, "ch", 1)
	s, err := judge(t, v, b, View{Config: ConfigOf(bundleOf(t, genesis), noOtherChannel), State: l, Index: l})
	if err != nil {
		t.Fatal(err)
	}
	if b.Metadata.Metadata[2][0] != 0 {
		t.Fatalf("deploy is invalid: %v", s.Reason(0))
	}
	if err := l.Commit(s.Block()); err != nil {
		t.Fatal(err)
	}
	return genesis, l
}

func puts(net *testchain.Net, n int) [][]byte {
	var out [][]byte
	for i := range n {
		out = append(out, net.Tx(testchain.Tx{
			Channel: "ch", Chaincode: "mycc", Args: [][]byte{[]byte("put"), []byte("key"), make([]byte, 100)},
			Set: []*rwset.NsReadWriteSet{
				testchain.Namespace("lscc", &kvrwset.KVRWSet{Reads: []*kvrwset.KVRead{{Key: "mycc", Version: &kvrwset.Version{BlockNum: 1}}}}),
				testchain.Namespace("mycc", &kvrwset.KVRWSet{Writes: []*kvrwset.KVWrite{{Key: fmt.Sprintf("key%d", i), Value: make([]byte, 100)}}}),
			},
		}))
	}
	return out
}

// BenchmarkValidate500 validates blocks of 500 single-endorsement puts with one
// worker. "cold" pays for every signature; "warm" finds them all verified
// already, so it shows everything else.
func BenchmarkValidate500(b *testing.B) {
	net := testchain.New(b)
	genesis, ledger := deployed(b, net)
	bundle := bundleOf(b, genesis)
	envelopes := puts(net, 500)
	for _, warm := range []bool{false, true} {
		b.Run(map[bool]string{false: "cold", true: "warm"}[warm], func(b *testing.B) {
			v := newValidator(b, "ch", 1)
			config := ConfigOf(bundle, noOtherChannel)
			run := func() {
				block := net.Block(2, genesis.Header, 0, envelopes...)
				if _, err := judge(b, v, block, View{Config: config, State: ledger, Index: ledger}); err != nil {
					b.Fatal(err)
				}
			}
			if warm {
				run()
			}
			for b.Loop() {
				if !warm {
					b.StopTimer()
					config = ConfigOf(bundleOf(b, genesis), noOtherChannel)
					b.StartTimer()
				}
				run()
			}
			perTx := b.Elapsed() / time.Duration(500*b.N)
			one := verification(net)
			b.ReportMetric(float64(perTx.Nanoseconds())/1000, "µs/tx")
			b.ReportMetric(float64(one.Nanoseconds())/1000, "µs/verification")
			b.ReportMetric(float64(perTx)/float64(one), "verifications/tx")
		})
	}
}

// BenchmarkScan500 decodes blocks of 500 puts.
func BenchmarkScan500(b *testing.B) {
	net := testchain.New(b)
	block := net.Block(2, &common.BlockHeader{}, 0, puts(net, 500)...)
	v := newValidator(b, "ch", 1)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Scan(b.Context(), protoutil.ParseBlock(block)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(500_000*b.N), "µs/tx")
}
