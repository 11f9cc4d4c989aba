package chanconfig

import (
	"bytes"
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/policy"
	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// VerifyBlockBytes unmarshals a block as received from another node and
// verifies it (ENDORSE-VALIDATE §4.4).
func VerifyBlockBytes(b *Bundle, channelID string, seq *uint64, raw []byte) (*common.Block, error) {
	block := &common.Block{}
	if err := proto.Unmarshal(raw, block); err != nil {
		return nil, fmt.Errorf("Failed unmarshalling block bytes on channel [%s]: [error unmarshaling block: %w]", channelID, err)
	}
	if err := VerifyBlock(b, channelID, seq, block); err != nil {
		return nil, err
	}
	return block, nil
}

// VerifyBlock checks that a block belongs to a channel, has the number that its
// sender claimed (if seq is given), that its header covers its data and that it
// is signed as the channel's configuration demands (ENDORSE-VALIDATE §4.4). The
// hash of the previous block is the ledger's business. A nil Bundle stands for
// a channel without configuration.
func VerifyBlock(b *Bundle, channelID string, seq *uint64, block *common.Block) error {
	return verifyBlock(b, claim{channelID, seq}, block, func() (string, error) {
		return protoutil.ChannelIDOfBlock(block)
	})
}

// VerifyParsedBlock is VerifyBlock for a block whose decoded parts are shared
// with later stages.
func VerifyParsedBlock(b *Bundle, channelID string, seq *uint64, block *protoutil.Block) error {
	return verifyBlock(b, claim{channelID, seq}, block.Proto(), func() (string, error) {
		if block.Len() == 0 {
			return "", protoutil.ErrEmptyBlock
		}
		header, err := block.Tx(0).ChannelHeader()
		return header.GetChannelId(), err
	})
}

// claim is what the sender of a block says of it.
type claim struct {
	channelID string
	seq       *uint64
}

func verifyBlock(b *Bundle, c claim, block *common.Block, channelOf func() (string, error)) error {
	if block.GetHeader() == nil {
		return fmt.Errorf("Invalid Block on channel [%s]. Header must be different from nil.", c.channelID)
	}
	number := block.Header.Number
	if c.seq != nil && *c.seq != number {
		return fmt.Errorf("Claimed seqNum is [%d] but actual seqNum inside block is [%d]", *c.seq, number)
	}
	given, err := channelOf()
	if err != nil {
		return fmt.Errorf("Failed getting channel id from block with id [%d] on channel [%s]: [%w]", number, c.channelID, err)
	}
	if given != c.channelID {
		return fmt.Errorf("Invalid block's channel id. Expected [%s]. Given [%s]", c.channelID, given)
	}
	slots := block.GetMetadata().GetMetadata()
	if len(slots) == 0 {
		return fmt.Errorf("Block with id [%d] on channel [%s] does not have metadata. Block not valid.", number, c.channelID)
	}
	metadata := &common.Metadata{}
	if err := proto.Unmarshal(slots[common.BlockMetadataIndex_SIGNATURES], metadata); err != nil {
		return fmt.Errorf("Failed unmarshalling medatata for signatures [error unmarshaling metadata from block at index [SIGNATURES]: %w]", err)
	}
	if !bytes.Equal(block.Header.DataHash, protoutil.DataHash(block.Data.GetData())) {
		return fmt.Errorf("Header.DataHash is different from Hash(block.Data) for block with id [%d] on channel [%s]", number, c.channelID)
	}
	if b == nil {
		return fmt.Errorf("Could not acquire policy manager for channel %s", c.channelID)
	}
	return b.VerifySignatures(block.Header, metadata)
}

// VerifySignatures checks the signatures in a block's SIGNATURES slot by the
// policy for blocks, and nothing else of the block.
func (b *Bundle) VerifySignatures(header *common.BlockHeader, metadata *common.Metadata) error {
	set, err := signedDataOfBlock(header, metadata)
	if err != nil {
		return err
	}
	p, _ := b.policies.Policy(PolicyBlockValidation) // a missing one never holds
	return p.Evaluate(set)
}

// signedDataOfBlock returns the block's signatures in the form that policies
// evaluate (ENDORSE-VALIDATE §4.3).
func signedDataOfBlock(header *common.BlockHeader, metadata *common.Metadata) ([]policy.SignedData, error) {
	headerBytes := protoutil.BlockHeaderBytes(header)
	set := make([]policy.SignedData, 0, len(metadata.Signatures))
	for _, s := range metadata.Signatures {
		sigHeader := &common.SignatureHeader{}
		if err := proto.Unmarshal(s.GetSignatureHeader(), sigHeader); err != nil {
			return nil, fmt.Errorf("Failed unmarshalling signature header for block with id [%d]: [%w]", header.Number, err)
		}
		data := make([]byte, 0, len(metadata.Value)+len(s.SignatureHeader)+len(headerBytes))
		data = append(append(append(data, metadata.Value...), s.SignatureHeader...), headerBytes...)
		set = append(set, policy.SignedData{Data: data, Identity: sigHeader.Creator, Signature: s.Signature})
	}
	return set, nil
}
