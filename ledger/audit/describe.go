package audit

import (
	"bytes"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/protolator"
	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// BlockView is a block for people and their tools.
type BlockView struct {
	Channel      string `json:"channel"`
	Number       uint64 `json:"number"`
	Hash         string `json:"hash"`
	PreviousHash string `json:"previous_hash"`
	DataHash     string `json:"data_hash"`
	File         string `json:"file"`
	Offset       int64  `json:"offset"`
	Size         int64  `json:"size"` // of the record, in bytes

	Transactions []TxView   `json:"transactions"`
	Signers      []Identity `json:"signers"`
	LastConfig   uint64     `json:"last_config"`
	// OrdererMetadata is what the consenter has written, in hexadecimal.
	OrdererMetadata string `json:"orderer_metadata,omitempty"`
	CommitHash      string `json:"commit_hash,omitempty"`
	// Block is the block in the form of configtxlator proto_decode. If it does not
	// decode so far, there are the reason and the bytes instead.
	Block      json.RawMessage `json:"block,omitempty"`
	BlockError string          `json:"block_error,omitempty"`
	BlockBytes []byte          `json:"block_bytes,omitempty"`
}

// TxView is what a transaction is, without its content.
type TxView struct {
	Index      int       `json:"index"`
	ID         string    `json:"txid"`
	Type       string    `json:"type"`
	Time       string    `json:"time,omitempty"`
	Creator    *Identity `json:"creator,omitempty"`
	Chaincode  string    `json:"chaincode,omitempty"`
	Code       *int32    `json:"code,omitempty"` // of a peer's block
	Validation string    `json:"validation,omitempty"`
}

// TransactionView is one transaction with its content.
type TransactionView struct {
	Channel string `json:"channel"`
	Block   uint64 `json:"block"`
	TxView
	// Envelope is in the form of configtxlator proto_decode. If it does not decode
	// so far, there are the reason and the bytes instead.
	Envelope      json.RawMessage `json:"envelope,omitempty"`
	EnvelopeError string          `json:"envelope_error,omitempty"`
	EnvelopeBytes []byte          `json:"envelope_bytes,omitempty"`
}

// Identity is who signed something.
type Identity struct {
	MSPID   string `json:"mspid"`
	Subject string `json:"subject,omitempty"`
	Serial  string `json:"serial,omitempty"`
	Expires string `json:"expires,omitempty"`
}

func (i *Identity) String() string {
	if i == nil {
		return ""
	}
	return fmt.Sprintf("%s (%s)", i.MSPID, i.Subject)
}

func describeIdentity(raw []byte) *Identity {
	id := &mspproto.SerializedIdentity{}
	if len(raw) == 0 || unmarshal(raw, id) != nil {
		return nil
	}
	out := &Identity{MSPID: id.GetMspid()}
	if cert := certificateOf(raw); cert != nil {
		out.Subject, out.Serial = cert.Subject.String(), cert.SerialNumber.Text(16)
		out.Expires = cert.NotAfter.UTC().Format(time.RFC3339)
	}
	return out
}

// certificateOf is the certificate of an identity; nil if it has none.
func certificateOf(raw []byte) *x509.Certificate {
	id := &mspproto.SerializedIdentity{}
	if unmarshal(raw, id) != nil {
		return nil
	}
	block, _ := pem.Decode(id.GetIdBytes())
	if block == nil {
		return nil
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil
	}
	return cert
}

func describeBlock(channel string, r *record) *BlockView {
	h := r.block.GetHeader()
	b := protoutil.ParseBlock(r.block)
	v := &BlockView{
		Channel: channel, Number: h.GetNumber(), Hash: hex.EncodeToString(protoutil.BlockHash(h)),
		PreviousHash: hex.EncodeToString(h.GetPreviousHash()), DataHash: hex.EncodeToString(h.GetDataHash()),
		File: r.path, Offset: r.at.Offset, Size: r.at.End - r.at.Offset,
		Transactions: []TxView{}, Signers: []Identity{},
	}
	flags := b.Flags()
	for i := range b.Len() {
		v.Transactions = append(v.Transactions, describeTx(b.Tx(i), i, flags))
	}
	if md, err := protoutil.Metadata(r.block, common.BlockMetadataIndex_SIGNATURES); err == nil {
		for _, s := range md.GetSignatures() {
			sh := &common.SignatureHeader{}
			if unmarshal(s.GetSignatureHeader(), sh) != nil {
				continue
			}
			if id := describeIdentity(sh.GetCreator()); id != nil {
				v.Signers = append(v.Signers, *id)
			}
		}
	}
	v.LastConfig, _ = protoutil.LastConfigIndex(r.block) // 0 if it does not decode
	if md, err := protoutil.Metadata(r.block, common.BlockMetadataIndex_ORDERER); err == nil {
		v.OrdererMetadata = hex.EncodeToString(md.GetValue())
	}
	if hash, err := commitHash(r.block); err == nil {
		v.CommitHash = hex.EncodeToString(hash)
	}
	v.Block, v.BlockError, v.BlockBytes = jsonOf(r.block)
	return v
}

// jsonOf is a message as configtxlator shows it, or why that is not possible and
// the message's bytes.
func jsonOf(m proto.Message) (text json.RawMessage, problem string, raw []byte) {
	var buf bytes.Buffer
	if err := protolator.WriteJSON(&buf, m); err != nil {
		return nil, err.Error(), protoutil.Marshal(m)
	}
	return buf.Bytes(), "", nil
}

func describeTx(tx *protoutil.Tx, i int, flags []byte) TxView {
	v := TxView{Index: i, ID: tx.ID(), Type: "undecodable"}
	if i < len(flags) {
		code := int32(flags[i])
		v.Code, v.Validation = &code, peer.TxValidationCode(code).String()
	}
	header, err := tx.ChannelHeader()
	if err != nil {
		return v
	}
	v.Type = common.HeaderType(header.GetType()).String()
	if ts := header.GetTimestamp(); ts != nil && ts.CheckValid() == nil {
		v.Time = ts.AsTime().Format(time.RFC3339Nano)
	}
	if sh, err := tx.SignatureHeader(); err == nil {
		v.Creator = describeIdentity(sh.GetCreator())
	}
	if header.GetType() == int32(common.HeaderType_ENDORSER_TRANSACTION) {
		if ext, err := tx.Extension(); err == nil {
			v.Chaincode = ext.GetChaincodeId().GetName()
		}
	}
	return v
}

// textOf is bytes as text, if they are such.
func textOf(b []byte) string {
	if !utf8.Valid(b) || bytes.ContainsFunc(b, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' }) {
		return ""
	}
	return string(b)
}
