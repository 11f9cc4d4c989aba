package protoutil

import (
	"errors"
	"fmt"
	"sync"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"
)

// Block is a view of a block that decodes every part at most once. It is safe
// for concurrent use, except for SetFlags, which belongs to the one owner that
// validates the block. What the accessors return must not be changed.
type Block struct {
	block  *common.Block
	txs    []Tx
	config lazy[bool]
}

// ParseBlock wraps a block. Nothing is decoded yet, so it cannot fail; the block
// may lack any part.
func ParseBlock(b *common.Block) *Block {
	data := b.GetData().GetData()
	v := &Block{block: b, txs: make([]Tx, len(data))}
	for i := range data {
		v.txs[i].raw = data[i]
	}
	return v
}

// Proto is the block as received.
func (b *Block) Proto() *common.Block { return b.block }

// Number is the block's number, 0 if it has no header.
func (b *Block) Number() uint64 { return b.block.GetHeader().GetNumber() }

// Len is the number of transactions.
func (b *Block) Len() int { return len(b.txs) }

// Tx is transaction i, 0 <= i < Len().
func (b *Block) Tx(i int) *Tx { return &b.txs[i] }

// IsConfig tells whether the first transaction is of type CONFIG or
// ORDERER_TRANSACTION.
func (b *Block) IsConfig() bool {
	v, _ := b.config.get(func() (bool, error) {
		if len(b.txs) == 0 {
			return false, nil
		}
		ch, err := b.txs[0].ChannelHeader()
		if err != nil {
			return false, nil
		}
		return ch.Type == int32(common.HeaderType_CONFIG) || ch.Type == int32(common.HeaderType_ORDERER_TRANSACTION), nil
	})
	return v
}

// Flags is the TRANSACTIONS_FILTER slot: one validation code per transaction,
// nil as long as the block has not been validated.
func (b *Block) Flags() []byte {
	slots := b.block.GetMetadata().GetMetadata()
	if len(slots) <= int(common.BlockMetadataIndex_TRANSACTIONS_FILTER) {
		return nil
	}
	return slots[common.BlockMetadataIndex_TRANSACTIONS_FILTER]
}

// SetFlags writes the TRANSACTIONS_FILTER slot and pads the metadata.
func (b *Block) SetFlags(flags []byte) {
	PadMetadata(b.block)
	b.block.Metadata.Metadata[common.BlockMetadataIndex_TRANSACTIONS_FILTER] = flags
}

// lazy is a value that is computed at most once.
type lazy[T any] struct {
	once sync.Once
	v    T
	err  error
}

func (l *lazy[T]) get(f func() (T, error)) (T, error) {
	l.once.Do(func() { l.v, l.err = f() })
	return l.v, l.err
}

// Tx is a view of one transaction envelope; see Block.
type Tx struct {
	raw []byte

	envelope    lazy[*common.Envelope]
	payload     lazy[*common.Payload]
	channel     lazy[*common.ChannelHeader]
	signature   lazy[*common.SignatureHeader]
	extension   lazy[*peer.ChaincodeHeaderExtension]
	transaction lazy[*peer.Transaction]
	action      lazy[*peer.ChaincodeActionPayload]
	response    lazy[*peer.ProposalResponsePayload]
	result      lazy[*peer.ChaincodeAction]
	rwset       lazy[*TxRWSet]
	id          lazy[string]
}

// ParseTx wraps the bytes of one envelope.
func ParseTx(envelope []byte) *Tx { return &Tx{raw: envelope} }

func decode[M proto.Message](what string, raw []byte, m M) (M, error) {
	if err := proto.Unmarshal(raw, m); err != nil {
		var none M
		return none, fmt.Errorf("error unmarshaling %s: %w", what, err)
	}
	return m, nil
}

// Bytes is the envelope as received.
func (t *Tx) Bytes() []byte { return t.raw }

// Envelope decodes the envelope.
func (t *Tx) Envelope() (*common.Envelope, error) {
	return t.envelope.get(func() (*common.Envelope, error) {
		return decodeFast("Envelope", t.raw, newMessage[common.Envelope], fastEnvelope)
	})
}

// Payload decodes the envelope's payload.
func (t *Tx) Payload() (*common.Payload, error) {
	return t.payload.get(func() (*common.Payload, error) {
		env, err := t.Envelope()
		if err != nil {
			return nil, err
		}
		return decodeFast("Payload", env.Payload, newMessage[common.Payload], fastPayload)
	})
}

// ChannelHeader decodes the payload's channel header.
func (t *Tx) ChannelHeader() (*common.ChannelHeader, error) {
	return t.channel.get(func() (*common.ChannelHeader, error) {
		p, err := t.Payload()
		if err != nil {
			return nil, err
		}
		if p.Header == nil {
			return nil, ErrNoHeader
		}
		return decodeFast("ChannelHeader", p.Header.ChannelHeader, newMessage[common.ChannelHeader], fastChannelHeader)
	})
}

// SignatureHeader decodes the payload's signature header.
func (t *Tx) SignatureHeader() (*common.SignatureHeader, error) {
	return t.signature.get(func() (*common.SignatureHeader, error) {
		p, err := t.Payload()
		if err != nil {
			return nil, err
		}
		if p.Header == nil {
			return nil, ErrNoHeader
		}
		return decodeFast("SignatureHeader", p.Header.SignatureHeader, newMessage[common.SignatureHeader], fastSignatureHeader)
	})
}

// ID is the transaction id under which the ledger indexes the envelope
// (LEDGER §3.6): the header's, or that of nonce and creator if the header has
// none, or the empty string if the envelope cannot be decoded so far.
func (t *Tx) ID() string {
	id, _ := t.id.get(func() (string, error) {
		ch, err := t.ChannelHeader()
		if err != nil {
			return "", nil
		}
		if ch.TxId != "" {
			return ch.TxId, nil
		}
		sh, err := t.SignatureHeader()
		if err != nil {
			return "", nil
		}
		return TxID(sh.Nonce, sh.Creator), nil
	})
	return id
}

// Extension decodes the channel header's extension as that of a chaincode call.
func (t *Tx) Extension() (*peer.ChaincodeHeaderExtension, error) {
	return t.extension.get(func() (*peer.ChaincodeHeaderExtension, error) {
		ch, err := t.ChannelHeader()
		if err != nil {
			return nil, err
		}
		return decodeFast("ChaincodeHeaderExtension", ch.Extension, newMessage[peer.ChaincodeHeaderExtension], fastExtension)
	})
}

// Transaction decodes the payload's data as an endorser transaction.
func (t *Tx) Transaction() (*peer.Transaction, error) {
	return t.transaction.get(func() (*peer.Transaction, error) {
		p, err := t.Payload()
		if err != nil {
			return nil, err
		}
		return decodeFast("Transaction", p.Data, newMessage[peer.Transaction], fastTransaction)
	})
}

// ErrNoAction is returned for a transaction without any action.
var ErrNoAction = errors.New("at least one TransactionAction required")

// ActionPayload decodes the payload of the first action.
func (t *Tx) ActionPayload() (*peer.ChaincodeActionPayload, error) {
	return t.action.get(func() (*peer.ChaincodeActionPayload, error) {
		tx, err := t.Transaction()
		if err != nil {
			return nil, err
		}
		if len(tx.Actions) == 0 || tx.Actions[0] == nil {
			return nil, ErrNoAction
		}
		return decodeFast("ChaincodeActionPayload", tx.Actions[0].Payload, newMessage[peer.ChaincodeActionPayload], fastActionPayload)
	})
}

// ResponsePayload decodes what the endorsers of the first action signed.
func (t *Tx) ResponsePayload() (*peer.ProposalResponsePayload, error) {
	return t.response.get(func() (*peer.ProposalResponsePayload, error) {
		a, err := t.ActionPayload()
		if err != nil {
			return nil, err
		}
		if a.Action == nil {
			return nil, errors.New("nil action in ChaincodeActionPayload")
		}
		return decodeFast("ProposalResponsePayload", a.Action.ProposalResponsePayload, newMessage[peer.ProposalResponsePayload], fastResponsePayload)
	})
}

// Action decodes the chaincode action of the first action.
func (t *Tx) Action() (*peer.ChaincodeAction, error) {
	return t.result.get(func() (*peer.ChaincodeAction, error) {
		r, err := t.ResponsePayload()
		if err != nil {
			return nil, err
		}
		return decodeFast("ChaincodeAction", r.Extension, newMessage[peer.ChaincodeAction], fastChaincodeAction)
	})
}

// TxRWSet is a decoded read-write set (LEDGER §11).
type TxRWSet struct {
	Namespaces []NsRWSet
}

// NsRWSet is the part of a read-write set that concerns one namespace.
type NsRWSet struct {
	Namespace   string
	KV          *kvrwset.KVRWSet
	Collections []CollRWSet
}

// CollRWSet is the hashed read-write set of one private data collection.
type CollRWSet struct {
	Name    string
	Hashed  *kvrwset.HashedRWSet
	PvtHash []byte
}

// RWSet decodes the simulation results of the first action.
func (t *Tx) RWSet() (*TxRWSet, error) {
	return t.rwset.get(func() (*TxRWSet, error) {
		a, err := t.Action()
		if err != nil {
			return nil, err
		}
		return ParseRWSet(a.Results)
	})
}

// ParseRWSet decodes a marshalled rwset.TxReadWriteSet with everything nested in
// it.
func ParseRWSet(raw []byte) (*TxRWSet, error) {
	set, err := decodeFast("TxReadWriteSet", raw, newMessage[rwset.TxReadWriteSet], fastTxRWSet)
	if err != nil {
		return nil, err
	}
	out := &TxRWSet{Namespaces: make([]NsRWSet, 0, len(set.NsRwset))}
	for _, ns := range set.NsRwset {
		kv, err := decodeFast("KVRWSet", ns.GetRwset(), newMessage[kvrwset.KVRWSet], fastKVRWSet)
		if err != nil {
			return nil, err
		}
		n := NsRWSet{Namespace: ns.GetNamespace(), KV: kv}
		for _, c := range ns.GetCollectionHashedRwset() {
			h, err := decode("HashedRWSet", c.GetHashedRwset(), &kvrwset.HashedRWSet{})
			if err != nil {
				return nil, err
			}
			n.Collections = append(n.Collections, CollRWSet{Name: c.GetCollectionName(), Hashed: h, PvtHash: c.GetPvtRwsetHash()})
		}
		out.Namespaces = append(out.Namespaces, n)
	}
	return out, nil
}
