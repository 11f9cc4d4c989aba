package testchain

import (
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/chaincode/packaging"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/testpki"
)

// Tx says what an endorsed transaction carries. Zero fields get values that make
// it valid.
type Tx struct {
	Channel, Chaincode, Version string
	Creator                     *testpki.Identity   // default Net.User
	Endorsers                   []*testpki.Identity // default Net.Peer1
	Nonce                       []byte
	Args                        [][]byte
	Set                         []*rwset.NsReadWriteSet
}

// Tx makes the transaction's envelope.
func (n *Net) Tx(t Tx) []byte {
	if t.Version == "" {
		t.Version = "1.0"
	}
	if t.Creator == nil {
		t.Creator = n.User
	}
	if t.Endorsers == nil {
		t.Endorsers = []*testpki.Identity{n.Peer1}
	}
	if t.Nonce == nil {
		t.Nonce = n.nonce()
	}
	spec := envelopeSpec{
		kind: common.HeaderType_ENDORSER_TRANSACTION, channel: t.Channel, creator: t.Creator, nonce: t.Nonce,
		txid: protoutil.TxID(t.Nonce, t.Creator.Serialize()),
		ext:  protoutil.Marshal(&peer.ChaincodeHeaderExtension{ChaincodeId: &peer.ChaincodeID{Name: t.Chaincode}}),
	}
	header := n.headers(&spec)
	input := protoutil.Marshal(&peer.ChaincodeProposalPayload{Input: protoutil.Marshal(&peer.ChaincodeInvocationSpec{
		ChaincodeSpec: &peer.ChaincodeSpec{ChaincodeId: &peer.ChaincodeID{Name: t.Chaincode}, Input: &peer.ChaincodeInput{Args: t.Args}},
	})})
	prp := protoutil.Marshal(&peer.ProposalResponsePayload{
		ProposalHash: protoutil.ProposalHash(header.ChannelHeader, header.SignatureHeader, input),
		Extension: protoutil.Marshal(&peer.ChaincodeAction{
			Results:     protoutil.Marshal(&rwset.TxReadWriteSet{NsRwset: t.Set}),
			Response:    &peer.Response{Status: 200},
			ChaincodeId: &peer.ChaincodeID{Name: t.Chaincode, Version: t.Version},
		}),
	})
	endorsed := &peer.ChaincodeEndorsedAction{ProposalResponsePayload: prp}
	for _, e := range t.Endorsers {
		id := e.Serialize()
		sig, err := e.Sign(append(append([]byte{}, prp...), id...))
		n.must(err)
		endorsed.Endorsements = append(endorsed.Endorsements, &peer.Endorsement{Endorser: id, Signature: sig})
	}
	data := protoutil.Marshal(&peer.Transaction{Actions: []*peer.TransactionAction{{
		Header:  header.SignatureHeader,
		Payload: protoutil.Marshal(&peer.ChaincodeActionPayload{ChaincodeProposalPayload: input, Action: endorsed}),
	}}})
	return n.sign(&common.Payload{Header: header, Data: data}, t.Creator)
}

// Deploy makes the lscc transaction that deploys, or upgrades, a chaincode with
// the endorsement policy.
func (n *Net) Deploy(channel, function string, cc *packaging.ChaincodeData, extra ...*kvrwset.KVWrite) []byte {
	cds := protoutil.Marshal(&peer.ChaincodeDeploymentSpec{ChaincodeSpec: &peer.ChaincodeSpec{
		Type: peer.ChaincodeSpec_GOLANG, ChaincodeId: &peer.ChaincodeID{Name: cc.Name, Version: cc.Version},
	}})
	writes := append([]*kvrwset.KVWrite{{Key: cc.Name, Value: cc.Marshal()}}, extra...)
	args := [][]byte{[]byte(function), []byte(channel), cds}
	if len(extra) > 0 {
		args = append(args, nil, nil, nil, extra[0].Value)
	}
	return n.Tx(Tx{
		Channel: channel, Chaincode: "lscc", Creator: n.Admin1, Args: args,
		Set: []*rwset.NsReadWriteSet{Namespace("lscc", &kvrwset.KVRWSet{Writes: writes})},
	})
}

// Namespace is the read-write set of one namespace.
func Namespace(name string, kv *kvrwset.KVRWSet, colls ...*rwset.CollectionHashedReadWriteSet) *rwset.NsReadWriteSet {
	return &rwset.NsReadWriteSet{Namespace: name, Rwset: protoutil.Marshal(kv), CollectionHashedRwset: colls}
}

// Collection is the hashed read-write set of one collection.
func Collection(name string, h *kvrwset.HashedRWSet) *rwset.CollectionHashedReadWriteSet {
	return &rwset.CollectionHashedReadWriteSet{CollectionName: name, HashedRwset: protoutil.Marshal(h)}
}

// Parameter is a metadata write that sets a key's endorsement policy.
func Parameter(key string, policy []byte) *kvrwset.KVMetadataWrite {
	return &kvrwset.KVMetadataWrite{Key: key, Entries: []*kvrwset.KVMetadataEntry{{
		Name: peer.MetaDataKeys_VALIDATION_PARAMETER.String(), Value: policy,
	}}}
}
