package ledger

import (
	"context"
	"errors"
	"fmt"
	"path"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// Crash points of Create.
const (
	PointAfterConstructionFlag = "ledger/after-construction-flag"
	PointAfterGenesisCommit    = "ledger/after-genesis-commit"
)

// ConstructionError stops the process: the flag of a channel being created is
// set although the channel has grown (LEDGER §2.3).
type ConstructionError struct {
	Channel string
	Height  uint64
}

func (e *ConstructionError) Error() string {
	return fmt.Sprintf("data inconsistency: under construction flag is set for ledger [%s] while the height of the blockchain is [%d]", e.Channel, e.Height)
}

// Create makes the ledger of a new channel from its genesis block, in steps
// that OpenProvider can finish (LEDGER §2.3), or another Create with the same
// block. An empty filter is taken to say that the block is valid; the block given
// is not changed.
func (p *Provider) Create(genesis *common.Block) (*Ledger, error) {
	id, err := protoutil.ChannelIDOfBlock(genesis)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	exists, err := p.exists(id)
	if err != nil {
		return nil, err
	}
	if exists {
		return nil, ErrLedgerExists
	}
	if err := p.list.Put([]byte(keyUnderConstruction), []byte(id), true); err != nil {
		return nil, err
	}
	if err := p.cfg.Points.Hit(PointAfterConstructionFlag); err != nil {
		return nil, err
	}
	l, err := p.openLedger(context.Background(), id)
	if err != nil {
		// The flag would keep the peer from starting for as long as the channel can
		// not be opened. A block that is stored already is found without it, too.
		return nil, errors.Join(err, p.list.Delete([]byte(keyUnderConstruction), true))
	}
	b, err := l.storeGenesis(genesis)
	if err != nil {
		height := l.Height()
		p.discard(l) // nothing holds it yet, and only a new one can go on
		if height > 1 {
			// Nothing was begun, and with the flag the peer would not start again.
			err = fmt.Errorf("%w: the list of channels does not know channel [%s], of which there are blocks: take the directory %s from a backup, or move the ledgers away and join all channels again",
				err, id, path.Join(p.cfg.Dir, dirProvider))
			err = errors.Join(err, p.list.Delete([]byte(keyUnderConstruction), true))
		}
		return nil, err
	}
	if err := p.cfg.Points.Hit(PointAfterGenesisCommit); err != nil {
		return nil, err
	}
	return l, p.finishCreation(id, b)
}

// storeGenesis commits the first block of a channel that is created, unless an
// attempt before this one has stored it. It returns the block as it is stored.
func (l *Ledger) storeGenesis(genesis *common.Block) (*common.Block, error) {
	if l.Height() != 1 {
		b := withFilter(genesis)
		return b, l.Commit(protoutil.ParseBlock(b))
	}
	stored, err := l.BlockByNumber(0)
	if err != nil {
		return nil, err
	}
	if !proto.Equal(stored.GetHeader(), genesis.GetHeader()) || !proto.Equal(stored.GetData(), genesis.GetData()) {
		return nil, fmt.Errorf("the creation of ledger [%s] was begun with another genesis block; restart the peer to complete it with that one", l.id)
	}
	return stored, nil
}

// withFilter returns the genesis block with a validation code for each of its
// transactions. Other metadata stay as they are, their number too, unless there
// is no slot for the codes (LEDGER §2.3).
func withFilter(b *common.Block) *common.Block {
	c := proto.CloneOf(b)
	if len(protoutil.ParseBlock(c).Flags()) > 0 {
		return c
	}
	if len(c.GetMetadata().GetMetadata()) <= int(common.BlockMetadataIndex_TRANSACTIONS_FILTER) {
		protoutil.PadMetadata(c)
	}
	setFlags(c, make([]byte, len(c.GetData().GetData()))) // 0 is VALID
	return c
}

func (p *Provider) finishCreation(id string, genesis *common.Block) error {
	b := p.list.NewBatch()
	b.Put([]byte(keyLedgerPrefix+id), protoutil.Marshal(genesis))
	b.Delete([]byte(keyUnderConstruction))
	return p.list.Write(b, true)
}

// finishConstruction completes or forgets the creation of a channel that a
// crash interrupted.
func (p *Provider) finishConstruction(ctx context.Context) error {
	raw, err := p.list.Get([]byte(keyUnderConstruction))
	if err != nil || raw == nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	id := string(raw)
	l, err := p.openLedger(ctx, id)
	if err != nil {
		return fmt.Errorf("open ledger [%s] under construction: %w", id, err)
	}
	switch height := l.Height(); height {
	case 0:
		return p.list.Delete([]byte(keyUnderConstruction), true)
	case 1:
		genesis, err := l.BlockByNumber(0)
		if err != nil {
			return err
		}
		return p.finishCreation(id, genesis)
	default:
		return &ConstructionError{Channel: id, Height: height}
	}
}

// setFlags writes the filter without padding the metadata further than needed.
func setFlags(b *common.Block, flags []byte) {
	setMetadata(b, int(common.BlockMetadataIndex_TRANSACTIONS_FILTER), flags)
}

func setMetadata(b *common.Block, slot int, value []byte) {
	if b.Metadata == nil {
		b.Metadata = &common.BlockMetadata{}
	}
	for len(b.Metadata.Metadata) <= slot {
		b.Metadata.Metadata = append(b.Metadata.Metadata, []byte{})
	}
	b.Metadata.Metadata[slot] = value
}
