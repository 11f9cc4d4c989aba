// Package consensustest is the suite that every consensus engine passes, and the
// channel in memory on which it runs. Only tests import it.
package consensustest

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"

	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/metrics"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/orderer/consensus"
	"github.com/heddle-ledger/heddle/orderer/cutter"
)

// Block is a block that an engine wrote.
type Block struct {
	Number   uint64
	Messages []string
	Config   bool
	At       time.Time
}

// Support is a channel in memory. Its config has a sequence and nothing else; a
// config block raises it by one.
type Support struct {
	cutter *cutter.Cutter[*consensus.Message]
	tip    *common.BlockHeader // belongs to the engine

	mu         sync.Mutex // guards what follows
	group      chanconfig.OrdererGroup
	invalid    map[string]bool
	failWrites bool
	seq        uint64
	blocks     []Block
}

// NewSupport returns a channel with height 1.
func NewSupport(count uint32, timeout time.Duration) *Support {
	s := &Support{
		group: chanconfig.OrdererGroup{
			BatchSize:    chanconfig.BatchSize{MaxMessageCount: count, AbsoluteMaxBytes: 1 << 20, PreferredMaxBytes: 1 << 20},
			BatchTimeout: timeout,
		},
		invalid: make(map[string]bool),
		tip:     &common.BlockHeader{},
	}
	s.cutter = cutter.New[*consensus.Message](func() cutter.Limits {
		size := s.Orderer().BatchSize
		return cutter.Limits{MaxMessageCount: size.MaxMessageCount, PreferredMaxBytes: size.PreferredMaxBytes}
	}, metrics.Disabled().NewHistogram(metrics.HistogramOpts{}))
	return s
}

// Blocks returns what has been written.
func (s *Support) Blocks() []Block {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Block(nil), s.blocks...)
}

// SetSequence changes the config sequence.
func (s *Support) SetSequence(seq uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seq = seq
}

// SetPreferredMaxBytes changes the size of batches.
func (s *Support) SetPreferredMaxBytes(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.group.BatchSize.PreferredMaxBytes = uint32(n)
}

// Invalidate makes messages fail that are validated again.
func (s *Support) Invalidate(names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range names {
		s.invalid[n] = true
	}
}

// FailWrites makes writing fail.
func (s *Support) FailWrites() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failWrites = true
}

func (s *Support) validate(m *consensus.Message) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.invalid[Name(m)] {
		return errors.New("not valid any more")
	}
	return nil
}

// ChannelID implements consensus.Support, as all that follow.
func (s *Support) ChannelID() string { return "ch" }

func (s *Support) Height() uint64 { return s.tip.Number + 1 }

func (s *Support) Sequence() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seq
}

func (s *Support) Orderer() *chanconfig.OrdererGroup {
	s.mu.Lock()
	defer s.mu.Unlock()
	g := s.group
	return &g
}

func (s *Support) ProcessNormal(m *consensus.Message) (uint64, error) {
	return s.Sequence(), s.validate(m)
}

func (s *Support) ProcessConfig(m *consensus.Message) (*consensus.Message, uint64, error) {
	if err := s.validate(m); err != nil {
		return nil, 0, err
	}
	return NewMessage(Name(m)+" again", common.HeaderType_CONFIG), s.Sequence(), nil
}

func (s *Support) Cutter() *cutter.Cutter[*consensus.Message] { return s.cutter }

func (s *Support) NextBlock(batch []*consensus.Message) *common.Block {
	b := protoutil.NewBlock(s.tip.Number+1, protoutil.BlockHash(s.tip))
	for _, m := range batch {
		b.Data.Data = append(b.Data.Data, m.Bytes())
	}
	b.Header.DataHash = protoutil.DataHash(b.Data.Data)
	return b
}

func (s *Support) WriteBlock(b *common.Block, _ []byte) error { return s.write(b, false) }

func (s *Support) WriteConfigBlock(b *common.Block, _ []byte) error {
	s.SetSequence(s.Sequence() + 1)
	return s.write(b, true)
}

func (s *Support) Flush() error { return nil }

func (s *Support) write(b *common.Block, config bool) error {
	if b.Header.Number != s.tip.Number+1 {
		return fmt.Errorf("block %d after block %d", b.Header.Number, s.tip.Number)
	}
	s.tip = b.Header
	out := Block{Number: b.Header.Number, Config: config, At: time.Now()}
	for _, raw := range b.Data.Data {
		m, err := consensus.ParseMessage(raw)
		if err != nil {
			return err
		}
		out.Messages = append(out.Messages, Name(m))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failWrites {
		return errors.New("disk is full")
	}
	s.blocks = append(s.blocks, out)
	return nil
}

// NewMessage makes a message with a name.
func NewMessage(name string, kind common.HeaderType) *consensus.Message {
	m, err := consensus.NewMessage(&common.Envelope{Payload: protoutil.Marshal(&common.Payload{
		Header: &common.Header{ChannelHeader: protoutil.Marshal(&common.ChannelHeader{Type: int32(kind), ChannelId: "ch"})},
		Data:   []byte(name),
	})})
	if err != nil {
		panic(err) // it was made three lines above
	}
	return m
}

// Name is the name of a message.
func Name(m *consensus.Message) string { return string(m.Payload().Data) }
