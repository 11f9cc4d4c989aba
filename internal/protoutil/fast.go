package protoutil

import (
	"fmt"
	"unicode/utf8"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// This file decodes the messages of a transaction without reflection and without
// copying: bytes fields share the memory of the block they came in. Each decoder
// takes only the form in which every Fabric client and peer writes the message
// (known fields, singular ones once, valid UTF-8) and otherwise gives up; decode
// then leaves the message to the protobuf library, so that verdicts and errors
// are the library's.

// fastDecoder decodes raw into a fresh m, or returns false.
type fastDecoder[M proto.Message] func(raw []byte, m M) bool

func newMessage[T any]() *T { return new(T) }

// decodeFast decodes a message with its fast decoder or with the library; fresh
// makes an empty message.
func decodeFast[M proto.Message](what string, raw []byte, fresh func() M, fast fastDecoder[M]) (M, error) {
	m := fresh()
	if fast(raw, m) {
		return m, nil
	}
	m = fresh()
	if err := proto.Unmarshal(raw, m); err != nil {
		var none M
		return none, fmt.Errorf("error unmarshaling %s: %w", what, err)
	}
	return m, nil
}

// field is one field of a message on the wire.
type field struct {
	num    protowire.Number
	bytes  []byte // of a length-delimited field
	varint uint64 // of a varint field
	isVar  bool
}

// reader walks over the fields of a message. seen marks the singular fields that
// have come already.
type reader struct {
	rest []byte
	seen uint32
	bad  bool
}

// next returns the next field; false at the end, and at anything that the fast
// form does not have (bad is set then).
func (r *reader) next() (f field, ok bool) {
	if len(r.rest) == 0 {
		return f, false
	}
	num, typ, n := protowire.ConsumeTag(r.rest)
	if n < 0 {
		r.bad = true
		return f, false
	}
	r.rest = r.rest[n:]
	f.num = num
	switch typ {
	case protowire.VarintType:
		f.isVar = true
		f.varint, n = protowire.ConsumeVarint(r.rest)
	case protowire.BytesType:
		f.bytes, n = protowire.ConsumeBytes(r.rest)
	default:
		n = -1
	}
	if n < 0 {
		r.bad = true
		return f, false
	}
	r.rest = r.rest[n:]
	return f, true
}

// once refuses a singular field that comes again.
func (r *reader) once(f field) bool {
	bit := uint32(1) << (f.num & 31)
	if r.seen&bit != 0 || f.num > 31 {
		return false
	}
	r.seen |= bit
	return true
}

// raw takes a singular bytes field.
func (r *reader) raw(f field, into *[]byte) bool {
	if f.isVar || !r.once(f) {
		return false
	}
	*into = f.bytes[:len(f.bytes):len(f.bytes)]
	return true
}

func (r *reader) text(f field, into *string) bool {
	if f.isVar || !r.once(f) || !utf8.Valid(f.bytes) {
		return false
	}
	*into = string(f.bytes)
	return true
}

// twoBytes decodes a message whose fields 1 and 2 are bytes, as many are.
func twoBytes(raw []byte, one, two *[]byte) bool {
	r := reader{rest: raw}
	for f, ok := r.next(); ok; f, ok = r.next() {
		switch f.num {
		case 1:
			ok = r.raw(f, one)
		case 2:
			ok = r.raw(f, two)
		default:
			ok = false
		}
		if !ok {
			return false
		}
	}
	return !r.bad
}

func fastEnvelope(raw []byte, m *common.Envelope) bool {
	return twoBytes(raw, &m.Payload, &m.Signature)
}

func fastPayload(raw []byte, m *common.Payload) bool {
	r := reader{rest: raw}
	for f, ok := r.next(); ok; f, ok = r.next() {
		switch f.num {
		case 1:
			m.Header = &common.Header{}
			ok = !f.isVar && r.once(f) && fastHeader(f.bytes, m.Header)
		case 2:
			ok = r.raw(f, &m.Data)
		default:
			ok = false
		}
		if !ok {
			return false
		}
	}
	return !r.bad
}

func fastHeader(raw []byte, m *common.Header) bool {
	return twoBytes(raw, &m.ChannelHeader, &m.SignatureHeader)
}

func fastChannelHeader(raw []byte, m *common.ChannelHeader) bool {
	r := reader{rest: raw}
	for f, ok := r.next(); ok; f, ok = r.next() {
		switch f.num {
		case 1:
			ok = f.isVar && r.once(f)
			m.Type = int32(f.varint)
		case 2:
			ok = f.isVar && r.once(f)
			m.Version = int32(f.varint)
		case 3:
			m.Timestamp = &timestamppb.Timestamp{}
			ok = !f.isVar && r.once(f) && fastTimestamp(f.bytes, m.Timestamp)
		case 4:
			ok = r.text(f, &m.ChannelId)
		case 5:
			ok = r.text(f, &m.TxId)
		case 6:
			ok = f.isVar && r.once(f)
			m.Epoch = f.varint
		case 7:
			ok = r.raw(f, &m.Extension)
		case 8:
			ok = r.raw(f, &m.TlsCertHash)
		default:
			ok = false
		}
		if !ok {
			return false
		}
	}
	return !r.bad
}

func fastTimestamp(raw []byte, m *timestamppb.Timestamp) bool {
	r := reader{rest: raw}
	for f, ok := r.next(); ok; f, ok = r.next() {
		if !f.isVar || !r.once(f) {
			return false
		}
		switch f.num {
		case 1:
			m.Seconds = int64(f.varint)
		case 2:
			m.Nanos = int32(f.varint)
		default:
			return false
		}
	}
	return !r.bad
}

func fastSignatureHeader(raw []byte, m *common.SignatureHeader) bool {
	return twoBytes(raw, &m.Creator, &m.Nonce)
}

func fastExtension(raw []byte, m *peer.ChaincodeHeaderExtension) bool {
	r := reader{rest: raw}
	for f, ok := r.next(); ok; f, ok = r.next() {
		if f.num != 2 || f.isVar || !r.once(f) {
			return false
		}
		m.ChaincodeId = &peer.ChaincodeID{}
		if !fastChaincodeID(f.bytes, m.ChaincodeId) {
			return false
		}
	}
	return !r.bad
}

func fastChaincodeID(raw []byte, m *peer.ChaincodeID) bool {
	r := reader{rest: raw}
	for f, ok := r.next(); ok; f, ok = r.next() {
		switch f.num {
		case 1:
			ok = r.text(f, &m.Path)
		case 2:
			ok = r.text(f, &m.Name)
		case 3:
			ok = r.text(f, &m.Version)
		default:
			ok = false
		}
		if !ok {
			return false
		}
	}
	return !r.bad
}

func fastTransaction(raw []byte, m *peer.Transaction) bool {
	r := reader{rest: raw}
	for f, ok := r.next(); ok; f, ok = r.next() {
		if f.num != 1 || f.isVar {
			return false
		}
		a := &peer.TransactionAction{}
		if !fastTransactionAction(f.bytes, a) {
			return false
		}
		m.Actions = append(m.Actions, a)
	}
	return !r.bad
}

func fastTransactionAction(raw []byte, m *peer.TransactionAction) bool {
	return twoBytes(raw, &m.Header, &m.Payload)
}

func fastActionPayload(raw []byte, m *peer.ChaincodeActionPayload) bool {
	r := reader{rest: raw}
	for f, ok := r.next(); ok; f, ok = r.next() {
		switch f.num {
		case 1:
			ok = r.raw(f, &m.ChaincodeProposalPayload)
		case 2:
			m.Action = &peer.ChaincodeEndorsedAction{}
			ok = !f.isVar && r.once(f) && fastEndorsedAction(f.bytes, m.Action)
		default:
			ok = false
		}
		if !ok {
			return false
		}
	}
	return !r.bad
}

func fastEndorsedAction(raw []byte, m *peer.ChaincodeEndorsedAction) bool {
	r := reader{rest: raw}
	for f, ok := r.next(); ok; f, ok = r.next() {
		switch f.num {
		case 1:
			ok = r.raw(f, &m.ProposalResponsePayload)
		case 2:
			e := &peer.Endorsement{}
			ok = !f.isVar && fastEndorsement(f.bytes, e)
			m.Endorsements = append(m.Endorsements, e)
		default:
			ok = false
		}
		if !ok {
			return false
		}
	}
	return !r.bad
}

func fastEndorsement(raw []byte, m *peer.Endorsement) bool {
	return twoBytes(raw, &m.Endorser, &m.Signature)
}

func fastResponsePayload(raw []byte, m *peer.ProposalResponsePayload) bool {
	return twoBytes(raw, &m.ProposalHash, &m.Extension)
}

func fastChaincodeAction(raw []byte, m *peer.ChaincodeAction) bool {
	r := reader{rest: raw}
	for f, ok := r.next(); ok; f, ok = r.next() {
		switch f.num {
		case 1:
			ok = r.raw(f, &m.Results)
		case 2:
			ok = r.raw(f, &m.Events)
		case 3:
			m.Response = &peer.Response{}
			ok = !f.isVar && r.once(f) && fastResponse(f.bytes, m.Response)
		case 4:
			m.ChaincodeId = &peer.ChaincodeID{}
			ok = !f.isVar && r.once(f) && fastChaincodeID(f.bytes, m.ChaincodeId)
		default:
			ok = false
		}
		if !ok {
			return false
		}
	}
	return !r.bad
}

func fastResponse(raw []byte, m *peer.Response) bool {
	r := reader{rest: raw}
	for f, ok := r.next(); ok; f, ok = r.next() {
		switch f.num {
		case 1:
			ok = f.isVar && r.once(f)
			m.Status = int32(f.varint)
		case 2:
			ok = r.text(f, &m.Message)
		case 3:
			ok = r.raw(f, &m.Payload)
		default:
			ok = false
		}
		if !ok {
			return false
		}
	}
	return !r.bad
}

func fastTxRWSet(raw []byte, m *rwset.TxReadWriteSet) bool {
	r := reader{rest: raw}
	for f, ok := r.next(); ok; f, ok = r.next() {
		switch f.num {
		case 1:
			ok = f.isVar && r.once(f)
			m.DataModel = rwset.TxReadWriteSet_DataModel(f.varint)
		case 2:
			ns := &rwset.NsReadWriteSet{}
			ok = !f.isVar && fastNsRWSet(f.bytes, ns)
			m.NsRwset = append(m.NsRwset, ns)
		default:
			ok = false
		}
		if !ok {
			return false
		}
	}
	return !r.bad
}

func fastNsRWSet(raw []byte, m *rwset.NsReadWriteSet) bool {
	r := reader{rest: raw}
	for f, ok := r.next(); ok; f, ok = r.next() {
		switch f.num {
		case 1:
			ok = r.text(f, &m.Namespace)
		case 2:
			ok = r.raw(f, &m.Rwset)
		default: // hashed collections are left to the library
			ok = false
		}
		if !ok {
			return false
		}
	}
	return !r.bad
}

func fastKVRWSet(raw []byte, m *kvrwset.KVRWSet) bool {
	r := reader{rest: raw}
	for f, ok := r.next(); ok; f, ok = r.next() {
		if f.isVar {
			return false
		}
		switch f.num {
		case 1:
			read := &kvrwset.KVRead{}
			ok = fastRead(f.bytes, read)
			m.Reads = append(m.Reads, read)
		case 3:
			write := &kvrwset.KVWrite{}
			ok = fastWrite(f.bytes, write)
			m.Writes = append(m.Writes, write)
		default: // ranges and metadata are left to the library
			ok = false
		}
		if !ok {
			return false
		}
	}
	return !r.bad
}

func fastRead(raw []byte, m *kvrwset.KVRead) bool {
	r := reader{rest: raw}
	for f, ok := r.next(); ok; f, ok = r.next() {
		switch f.num {
		case 1:
			ok = r.text(f, &m.Key)
		case 2:
			m.Version = &kvrwset.Version{}
			ok = !f.isVar && r.once(f) && fastVersion(f.bytes, m.Version)
		default:
			ok = false
		}
		if !ok {
			return false
		}
	}
	return !r.bad
}

func fastVersion(raw []byte, m *kvrwset.Version) bool {
	r := reader{rest: raw}
	for f, ok := r.next(); ok; f, ok = r.next() {
		if !f.isVar || !r.once(f) {
			return false
		}
		switch f.num {
		case 1:
			m.BlockNum = f.varint
		case 2:
			m.TxNum = f.varint
		default:
			return false
		}
	}
	return !r.bad
}

func fastWrite(raw []byte, m *kvrwset.KVWrite) bool {
	r := reader{rest: raw}
	for f, ok := r.next(); ok; f, ok = r.next() {
		switch f.num {
		case 1:
			ok = r.text(f, &m.Key)
		case 2:
			ok = f.isVar && r.once(f)
			m.IsDelete = protowire.DecodeBool(f.varint)
		case 3:
			ok = r.raw(f, &m.Value)
		default:
			ok = false
		}
		if !ok {
			return false
		}
	}
	return !r.bad
}
