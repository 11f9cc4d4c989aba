package protoutil

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"
)

// MetadataSlots is the number of metadata entries of a block
// (ENDORSE-VALIDATE §4.2).
const MetadataSlots = 5

// CommitHashSlot is the metadata slot of the commit hash (LEDGER §13), which
// the enumeration of the protocol module calls COMMIT_HASH too.
const CommitHashSlot = 4

// NewBlock returns a block with the given number and previous hash, no data and
// MetadataSlots empty metadata entries.
func NewBlock(number uint64, previousHash []byte) *common.Block {
	b := &common.Block{
		Header:   &common.BlockHeader{Number: number, PreviousHash: previousHash},
		Data:     &common.BlockData{},
		Metadata: &common.BlockMetadata{},
	}
	PadMetadata(b)
	return b
}

// PadMetadata gives a block that has fewer than MetadataSlots metadata entries
// the missing empty ones.
func PadMetadata(b *common.Block) {
	if b.Metadata == nil {
		b.Metadata = &common.BlockMetadata{}
	}
	for len(b.Metadata.Metadata) < MetadataSlots {
		b.Metadata.Metadata = append(b.Metadata.Metadata, []byte{})
	}
}

// BlockHeaderBytes is the DER form of a block header that is hashed and signed
// (ENDORSE-VALIDATE §4.1): SEQUENCE { INTEGER number, OCTET STRING
// previous_hash, OCTET STRING data_hash }.
func BlockHeaderBytes(h *common.BlockHeader) []byte {
	var num [9]byte
	n := h.GetNumber()
	i := len(num)
	for {
		i--
		num[i] = byte(n)
		n >>= 8
		if n == 0 {
			break
		}
	}
	if num[i]&0x80 != 0 { // keep the INTEGER positive
		i--
		num[i] = 0
	}
	integer := num[i:]
	size := derSize(len(integer)) + derSize(len(h.GetPreviousHash())) + derSize(len(h.GetDataHash()))
	out := make([]byte, 0, derSize(size))
	out = appendDERHead(out, 0x30, size)
	out = append(appendDERHead(out, 0x02, len(integer)), integer...)
	out = append(appendDERHead(out, 0x04, len(h.GetPreviousHash())), h.GetPreviousHash()...)
	return append(appendDERHead(out, 0x04, len(h.GetDataHash())), h.GetDataHash()...)
}

func derSize(n int) int { return len(appendDERHead(nil, 0, n)) + n }

func appendDERHead(out []byte, tag byte, n int) []byte {
	out = append(out, tag)
	if n < 0x80 {
		return append(out, byte(n))
	}
	count := 0
	for m := n; m > 0; m >>= 8 {
		count++
	}
	out = append(out, 0x80|byte(count))
	for count--; count >= 0; count-- {
		out = append(out, byte(n>>(8*count)))
	}
	return out
}

// BlockHash is the hash by which the next block refers to this one.
func BlockHash(h *common.BlockHeader) []byte {
	sum := sha256.Sum256(BlockHeaderBytes(h))
	return sum[:]
}

// DataHash is the flat hash over the transactions of a block.
func DataHash(data [][]byte) []byte {
	h := sha256.New()
	for _, d := range data {
		h.Write(d)
	}
	return h.Sum(nil)
}

// ErrEmptyBlock is returned where a block without any transaction is no use.
var ErrEmptyBlock = errors.New("failed to retrieve channel id - block is empty")

// FirstEnvelope decodes the first transaction of a block.
func FirstEnvelope(b *common.Block) (*common.Envelope, error) {
	if len(b.GetData().GetData()) == 0 {
		return nil, ErrEmptyBlock
	}
	env := &common.Envelope{}
	if err := proto.Unmarshal(b.Data.Data[0], env); err != nil {
		return nil, fmt.Errorf("error unmarshaling Envelope: %w", err)
	}
	return env, nil
}

// ChannelIDOfBlock is the channel id in the header of the first transaction.
func ChannelIDOfBlock(b *common.Block) (string, error) {
	env, err := FirstEnvelope(b)
	if err != nil {
		return "", err
	}
	ch, err := ChannelHeaderOf(env)
	if err != nil {
		return "", err
	}
	return ch.ChannelId, nil
}

// IsConfigBlock tells whether the first transaction of a block changes a
// channel's configuration or, on the orderer system channel, creates a channel.
func IsConfigBlock(b *common.Block) bool {
	env, err := FirstEnvelope(b)
	if err != nil {
		return false
	}
	ch, err := ChannelHeaderOf(env)
	if err != nil {
		return false
	}
	return ch.Type == int32(common.HeaderType_CONFIG) || ch.Type == int32(common.HeaderType_ORDERER_TRANSACTION)
}

// Metadata decodes one metadata slot. A slot that the block does not have reads
// as an empty message.
func Metadata(b *common.Block, slot common.BlockMetadataIndex) (*common.Metadata, error) {
	md := &common.Metadata{}
	slots := b.GetMetadata().GetMetadata()
	if int(slot) >= len(slots) {
		return md, nil
	}
	if err := proto.Unmarshal(slots[slot], md); err != nil {
		return nil, fmt.Errorf("error unmarshaling metadata at index [%s]: %w", slot, err)
	}
	return md, nil
}

// LastConfigIndex is the number of the last config block, as recorded in the
// LAST_CONFIG slot of a block.
func LastConfigIndex(b *common.Block) (uint64, error) {
	md, err := Metadata(b, common.BlockMetadataIndex_LAST_CONFIG)
	if err != nil {
		return 0, err
	}
	lc := &common.LastConfig{}
	if err := proto.Unmarshal(md.Value, lc); err != nil {
		return 0, fmt.Errorf("error unmarshaling LastConfig: %w", err)
	}
	return lc.Index, nil
}
