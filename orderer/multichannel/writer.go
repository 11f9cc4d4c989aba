package multichannel

import (
	"errors"
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/orderer/consensus"
	"github.com/heddle-ledger/heddle/orderer/cutter"
	"github.com/heddle-ledger/heddle/orderer/msgproc"
)

// support is what the engine of a channel uses; see consensus.Support. The
// writing methods belong to the engine's goroutine.
type support struct {
	*Channel
	cutter *cutter.Cutter[*consensus.Message]
	writer blockWriter
}

func (s *support) ChannelID() string { return s.id }

// Height is the number of the next block, which may be ahead of the ledger's.
func (s *support) Height() uint64 { return s.writer.tip.GetNumber() + 1 }

func (s *support) Orderer() *chanconfig.OrdererGroup { return s.orderer() }

func (s *support) Cutter() *cutter.Cutter[*consensus.Message] { return s.cutter }

// NextBlock makes the block that follows the newest one (ORDERER §7.1).
func (s *support) NextBlock(batch []*consensus.Message) *common.Block {
	tip := s.writer.tip
	b := protoutil.NewBlock(tip.GetNumber()+1, protoutil.BlockHash(tip))
	b.Data.Data = make([][]byte, len(batch))
	for i, m := range batch {
		b.Data.Data[i] = m.Bytes()
	}
	b.Header.DataHash = protoutil.DataHash(b.Data.Data)
	return b
}

func (s *support) WriteBlock(b *common.Block, metadata []byte) error {
	return s.writer.write(b, metadata)
}

func (s *support) Flush() error { return s.writer.wait() }

// WriteConfigBlock puts the block's config into force, or creates its channel,
// and writes it (ORDERER §7.4).
func (s *support) WriteConfigBlock(b *common.Block, metadata []byte) error {
	if len(b.GetData().GetData()) != 1 {
		return fmt.Errorf("config block %d of channel %s has %d messages", b.GetHeader().GetNumber(), s.id, len(b.GetData().GetData()))
	}
	m, err := consensus.ParseMessage(b.Data.Data[0])
	if err != nil {
		return fmt.Errorf("Told to write a config block, but could not get its message: %w", err)
	}
	switch m.Type() {
	case common.HeaderType_ORDERER_TRANSACTION:
		config := &common.Envelope{}
		if err := proto.Unmarshal(m.Payload().Data, config); err != nil {
			return fmt.Errorf("Told to write a config block with new channel, but could not get its config: %w", err)
		}
		if err := s.registrar.create(config); err != nil {
			return err
		}
		return s.writer.write(b, metadata)
	case common.HeaderType_CONFIG:
		typeBefore := s.orderer().ConsensusType
		if err := s.apply(m); err != nil {
			return err
		}
		// Another engine must not take this one's metadata for its own.
		if now := s.orderer().ConsensusType; now != typeBefore {
			metadata = nil
			if _, ok := s.registrar.cfg.Consenters[now]; !ok {
				s.registrar.log.Warnf("[channel: %s] This orderer has no consenter of type %s: it can serve until it is restarted, but not start again", s.id, now)
			}
		}
		return s.writer.write(b, metadata)
	default:
		return fmt.Errorf("Told to write a config block with unknown header type: %d", m.ChannelHeader().Type)
	}
}

// apply makes the config of a CONFIG message the one in force. The block before
// must be committed by then: it still belongs to the old config.
func (s *support) apply(m *consensus.Message) error {
	if err := s.writer.wait(); err != nil {
		return err
	}
	env := &common.ConfigEnvelope{}
	if err := proto.Unmarshal(m.Payload().Data, env); err != nil {
		return fmt.Errorf("Told to write a config block with new config, but could not get config: %w", err)
	}
	next, err := s.Bundle().Next(env)
	if err != nil {
		return fmt.Errorf("Told to write a config block with new config, but could not apply it: %w", err)
	}
	if err := next.CheckOrderer(); err != nil {
		return fmt.Errorf("[channel %s] %w", s.id, err)
	}
	s.bundle.Store(next)
	s.registrar.cfg.OnConfig(next)
	return nil
}

// blockWriter completes blocks and commits them in the background, at most one
// at a time (ORDERER §7.2, §7.3). It belongs to the engine's goroutine.
type blockWriter struct {
	channel *Channel
	signer  msgproc.Signer

	tip          *common.BlockHeader // newest block, committed or not
	lastConfig   uint64              // number of the newest config block
	lastSequence uint64              // config sequence at the newest block

	// pending receives the outcome of the commit under way; nil if there is none.
	pending chan error
	// failed is the outcome of a commit that failed; no further block is written.
	failed error
}

// wait waits for the commit under way.
func (w *blockWriter) wait() error {
	if w.pending != nil {
		w.failed, w.pending = <-w.pending, nil
	}
	return w.failed
}

func (w *blockWriter) write(b *common.Block, metadata []byte) error {
	if err := w.wait(); err != nil {
		return err
	}
	if b.GetHeader() == nil || b.GetMetadata() == nil {
		return errors.New("block without header or metadata")
	}
	if seq := w.channel.Sequence(); seq > w.lastSequence {
		w.lastConfig, w.lastSequence = b.Header.Number, seq
	}
	w.tip = b.Header
	pending := make(chan error, 1)
	w.pending = pending
	go func(lastConfig uint64) {
		err := w.commit(b, metadata, lastConfig)
		if err != nil {
			// The engine would notice at its next block only, if there is one.
			w.channel.registrar.fail(err)
		}
		pending <- err
	}(w.lastConfig)
	return nil
}

// commit fills in the metadata of the block and appends it: slot 3, slot 1, then
// the signature, which covers both.
func (w *blockWriter) commit(b *common.Block, metadata []byte, lastConfig uint64) error {
	protoutil.PadMetadata(b)
	slots := b.Metadata.Metadata
	if metadata != nil {
		slots[common.BlockMetadataIndex_ORDERER] = protoutil.Marshal(&common.Metadata{Value: metadata}) //nolint:staticcheck // the 1.4 wire format
	}
	index := &common.LastConfig{Index: lastConfig}
	slots[common.BlockMetadataIndex_LAST_CONFIG] = protoutil.Marshal(&common.Metadata{Value: protoutil.Marshal(index)}) //nolint:staticcheck // the 1.4 wire format
	signatures, err := w.sign(b, &common.OrdererBlockMetadata{
		LastConfig: index, ConsenterMetadata: slots[common.BlockMetadataIndex_ORDERER], //nolint:staticcheck // the 1.4 wire format
	})
	if err != nil {
		return fmt.Errorf("[channel: %s] Could not sign block: %w", w.channel.id, err)
	}
	slots[common.BlockMetadataIndex_SIGNATURES] = protoutil.Marshal(signatures)
	if err := w.channel.ledger.Append(b); err != nil {
		return fmt.Errorf("[channel: %s] Could not append block: %w", w.channel.id, err)
	}
	w.channel.registrar.log.Debugf("[channel: %s] Wrote block [%d]", w.channel.id, b.Header.Number)
	return nil
}

// sign makes slot 0 (ENDORSE-VALIDATE §4.3).
func (w *blockWriter) sign(b *common.Block, value *common.OrdererBlockMetadata) (*common.Metadata, error) {
	nonce, err := protoutil.Nonce()
	if err != nil {
		return nil, err
	}
	md := &common.Metadata{Value: protoutil.Marshal(value)}
	header := protoutil.Marshal(&common.SignatureHeader{Creator: w.signer.Serialize(), Nonce: nonce})
	signed := append(append(append([]byte{}, md.Value...), header...), protoutil.BlockHeaderBytes(b.Header)...)
	signature, err := w.signer.Sign(signed)
	if err != nil {
		return nil, err
	}
	md.Signatures = []*common.MetadataSignature{{SignatureHeader: header, Signature: signature}}
	return md, nil
}
