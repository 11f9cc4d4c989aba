package endorser_test

import (
	"context"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/peer/endorser"
)

// The yardstick beside the other benchmarks: one verification of a P-256
// signature.
func BenchmarkVerifyP256(b *testing.B) {
	w := newWorld(b)
	local, _ := w.config.Identities("")
	id, err := local.DeserializeIdentity(w.user.Serialize())
	must(b, err)
	msgs, sigs := make([][]byte, b.N), make([][]byte, b.N)
	for i := range msgs { // distinct, so that nothing is answered from a cache
		msgs[i] = []byte{byte(i), byte(i >> 8), byte(i >> 16)}
		sigs[i] = w.user.MustSign(msgs[i])
	}
	b.ResetTimer()
	for i := range msgs {
		if err := id.Verify(msgs[i], sigs[i]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEndorseFakeChaincode(b *testing.B) {
	w := newWorld(b)
	e := endorser.New(w.config)
	benchmark(b, e, func() *peer.SignedProposal { return w.sign(b, "ch", spec("cc", "f")) })
}

func BenchmarkEndorsePut(b *testing.B) {
	n := newNetwork(b)
	n.install(b, "go_vec_1.0.cds")
	n.commit(b, peer.TxValidationCode_VALID)
	in := args("put", "key", string(make([]byte, 100)))
	benchmark(b, n.Endorser, func() *peer.SignedProposal {
		return n.proposal(b, call{who: "user1", channel: channelID, chaincode: "vec", args: in})
	})
}

func benchmark(b *testing.B, e *endorser.Endorser, next func() *peer.SignedProposal) {
	proposals := make([]*peer.SignedProposal, b.N)
	for i := range proposals {
		proposals[i] = next()
	}
	b.ReportAllocs()
	b.ResetTimer()
	for _, sp := range proposals {
		resp, err := e.ProcessProposal(context.Background(), sp)
		if err != nil || resp.Endorsement == nil {
			b.Fatal(resp, err)
		}
	}
}
