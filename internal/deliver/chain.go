// Package deliver is the server side of Deliver, shared by the orderer
// (orderer.AtomicBroadcast/Deliver) and the peer (protos.Deliver/*): it reads
// seek requests from a stream, checks them and sends blocks (ORDERER §9,
// SURFACE §11.1, GOSSIP-DISCOVERY §19).
//
// The package knows neither ledgers nor channels: the daemon adapts what it has
// to Chain, and answers go out through a Responder, so that a peer can send
// filtered blocks. It owns no state besides its metrics, and starts one
// goroutine per streamed request, which ends with the request. L4 packages of
// both daemons import it.
package deliver

import (
	"context"
	"errors"
	"sync"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// ErrNotFound is what Chain.Iterator and Iterator.Next return for a block that
// is no longer kept, or lies beyond the height where nothing can be waited for.
var ErrNotFound = errors.New("block not found")

// Chain is one channel as Deliver sees it.
type Chain interface {
	// Sequence is the sequence of the config in force; access is evaluated anew
	// whenever it has grown.
	Sequence() uint64
	// Errored is closed while the chain cannot vouch for being up to date
	// (ORDERER §4.3). A nil channel means never.
	Errored() <-chan struct{}
	// Oldest is the lowest block number kept, Height the number of the next block.
	Oldest() uint64
	Height() uint64
	// Iterator returns the blocks from number on. A number beyond the height
	// gives ErrNotFound.
	Iterator(from uint64) (Iterator, error)
}

// Iterator walks a chain in block order.
type Iterator interface {
	// Next returns the next block and waits for it if it does not exist yet.
	Next(ctx context.Context) (*Block, error)
	Close()
}

// Chains finds the chain of a channel.
type Chains func(channelID string) (Chain, bool)

// Block is one block on its way to readers: encoded at most once for all of
// them. It is safe for concurrent use and must not be changed.
type Block struct {
	number uint64

	proto    func() (*common.Block, error)
	response func() []byte
}

// NewBlock wraps a block that is at hand in decoded form.
func NewBlock(b *common.Block) *Block {
	return &Block{
		number: b.GetHeader().GetNumber(),
		proto:  func() (*common.Block, error) { return b, nil },
		response: sync.OnceValue(func() []byte {
			size := proto.Size(b)
			out := appendResponseHead(make([]byte, 0, size+16), size)
			out, err := proto.MarshalOptions{UseCachedSize: true}.MarshalAppend(out, b)
			if err != nil { // impossible: a block holds bytes and numbers only
				return nil
			}
			return out
		}),
	}
}

// NewRawBlock wraps a marshalled common.Block.
func NewRawBlock(number uint64, raw []byte) *Block {
	response := append(appendResponseHead(make([]byte, 0, len(raw)+16), len(raw)), raw...)
	raw = response[len(response)-len(raw):] // one copy is enough
	return &Block{
		number:   number,
		response: func() []byte { return response },
		proto: sync.OnceValues(func() (*common.Block, error) {
			b := &common.Block{}
			if err := proto.Unmarshal(raw, b); err != nil {
				return nil, err
			}
			return b, nil
		}),
	}
}

// blockField is the number of the block in both orderer.DeliverResponse and
// protos.DeliverResponse.
const blockField = 2

func appendResponseHead(out []byte, size int) []byte {
	return protowire.AppendVarint(protowire.AppendTag(out, blockField, protowire.BytesType), uint64(size))
}

// Number is the block's number.
func (b *Block) Number() uint64 { return b.number }

// Proto is the decoded block.
func (b *Block) Proto() (*common.Block, error) { return b.proto() }

// EncodedResponse is a whole DeliverResponse that carries the block, the same
// bytes for the orderer's and the peer's message. They are shared by all readers.
func (b *Block) EncodedResponse() []byte { return b.response() }
