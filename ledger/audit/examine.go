package audit

import (
	"bytes"
	"crypto/x509"
	"errors"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/blockfile"
	"github.com/heddle-ledger/heddle/ledger/history"
	"github.com/heddle-ledger/heddle/ledger/mvcc"
	"github.com/heddle-ledger/heddle/ledger/state"
)

// job is a block on its way through Verify.
type job struct {
	*record
	parsed *protoutil.Block
	flags  []byte // nil if they cannot be used
	sigs   *common.Metadata
	isConf bool // a configuration that took effect
	stored []byte
	before []byte // the commit hash of the block before, nil if unknown or none

	result      *mvcc.Result
	needsValues bool // of keys in the state: the commit hash is computed in order

	signing *signing      // how the signatures are to be judged
	weight  int64         // of memory
	done    chan struct{} // closed when examined
}

// examiner looks at blocks one by one, whatever their order; each belongs to one
// goroutine.
type examiner struct {
	v       *verifier
	sum     summer
	index   setSum // entries that the index should hold
	history setSum
	spaces  spaceSet // nil if nobody wants to know
	counts  counts
}

// counts are what was looked at.
type counts struct {
	blocks, txs, hashes, unhashed, unknown uint64
}

func (c *counts) join(o counts) {
	c.blocks += o.blocks
	c.txs += o.txs
	c.hashes += o.hashes
	c.unhashed += o.unhashed
	c.unknown += o.unknown
}

func (e *examiner) examine(j *job) {
	j.parsed = protoutil.ParseBlock(j.block)
	if e.v.hashOnly {
		e.metadata(j)
		if j.flags != nil {
			e.replay(j)
		}
		return
	}
	e.counts.blocks++
	e.counts.txs += uint64(j.parsed.Len())
	e.chain(j)
	e.data(j)
	e.metadata(j)
	e.entries(j)
	if e.v.d.Kind == Peer && j.flags != nil {
		e.replay(j)
	}
	if e.spaces != nil {
		e.spaces.add(j.parsed, j.flags)
	}
}

// chain checks that the block follows the one before it (LEDGER §3.4).
func (e *examiner) chain(j *job) {
	h := j.block.GetHeader()
	switch {
	case j.prev != nil:
		want := protoutil.BlockHash(j.prev.GetHeader())
		if !bytes.Equal(want, h.GetPreviousHash()) {
			f := j.finding(Damage, checkChain, "the block names [%x] as the hash of the block before it, which is [%x]", h.GetPreviousHash(), want)
			f.Consequence = "header of this block or of the one before was changed; the node does not start, or other nodes refuse the block"
			f.Remedy = remedyCopy
			e.v.addTorn(f)
		}
	case h.GetNumber() == 0 && len(h.GetPreviousHash()) > 0:
		e.v.add(j.finding(Warning, checkChain, "the first block names a previous hash [%x]", h.GetPreviousHash()))
	}
}

// data checks that the header covers the data, and that the block belongs to the
// channel.
func (e *examiner) data(j *job) {
	want := protoutil.DataHash(j.block.GetData().GetData())
	if got := j.block.GetHeader().GetDataHash(); !bytes.Equal(want, got) {
		f := j.finding(Damage, checkData, "the data hash in the header is [%x], that of the transactions [%x]", got, want)
		f.Consequence = "transactions, or the header, are not what was ordered; other nodes refuse the block"
		f.Remedy = remedyCopy
		if j.number() == 0 {
			f.Severity, f.Consequence, f.Remedy = Warning, "a genesis block is taken as it is given", ""
		}
		if i, ok := changedTx(j.parsed); ok {
			f = f.atTx(i, j.parsed.Tx(i).ID()).at(j.path, blockfile.TxLocations(j.body, j.at, j.parsed.Len())[i].Offset)
			f.Problem += "; this transaction is the one that does not bear its creator's signature"
		}
		e.v.addTorn(f)
		return
	}
	if j.parsed.Len() == 0 {
		e.v.add(j.finding(Damage, checkData, "the block has no transactions"))
		return
	}
	header, err := j.parsed.Tx(0).ChannelHeader()
	if err != nil {
		f := j.finding(Damage, checkData, "the channel of the block cannot be told: %v", err)
		if e.v.d.Kind == Peer && j.number() > 0 { // a peer has judged it
			f.Severity = Warning
		}
		e.v.add(f)
		return
	}
	if got := header.GetChannelId(); got != e.v.id {
		f := j.finding(Damage, checkData, "the block belongs to channel [%s]", got)
		f.Consequence, f.Remedy = "the directory holds blocks of another channel", remedyCopy
		e.v.add(f)
	}
}

// changedTx finds the one transaction of a block whose creator's signature is not
// true; ok is false if there is none such, or more than one.
func changedTx(b *protoutil.Block) (at int, ok bool) {
	for i := range b.Len() {
		if bearsSignature(b.Tx(i)) {
			continue
		}
		if ok {
			return 0, false
		}
		at, ok = i, true
	}
	return at, ok
}

// bearsSignature tells whether the signature of a transaction is that of the
// certificate it names. One that was never signed passes, as does a kind of
// signature that is not known here.
func bearsSignature(tx *protoutil.Tx) bool {
	env, err := tx.Envelope()
	if err != nil {
		return false
	}
	header, err := tx.SignatureHeader()
	if err != nil {
		return false
	}
	if len(env.GetSignature()) == 0 {
		return true
	}
	cert := certificateOf(header.GetCreator())
	return cert == nil || cert.PublicKeyAlgorithm != x509.ECDSA ||
		cert.CheckSignature(x509.ECDSAWithSHA256, env.GetPayload(), env.GetSignature()) == nil
}

// metadata decodes the slots (LEDGER §21).
func (e *examiner) metadata(j *job) {
	var err error
	if j.sigs, err = protoutil.Metadata(j.block, common.BlockMetadataIndex_SIGNATURES); err != nil {
		f := j.finding(Damage, checkSignatures, "the signatures do not decode: %v", err)
		f.Consequence, f.Remedy = "other nodes refuse the block", remedyCopy
		e.v.add(f)
	}
	txs := j.parsed.Len()
	flags := j.parsed.Flags()
	j.isConf = isConfig(j) && (e.v.d.Kind == Orderer || len(flags) == 0 || flags[0] == byte(peer.TxValidationCode_VALID))
	if e.v.d.Kind == Orderer {
		return
	}
	if len(flags) != txs {
		f := j.finding(Damage, checkMetadata, "the block has %d transactions but %d validation codes", txs, len(flags))
		f.Consequence, f.Remedy = "the codes of its transactions are lost; state cannot be rebuilt", remedyCopy
		e.v.addTorn(f)
		return
	}
	for i, c := range flags {
		if _, known := peer.TxValidationCode_name[int32(c)]; !known || c == byte(peer.TxValidationCode_NOT_VALIDATED) {
			f := j.finding(Damage, checkMetadata, "the validation code is %d, which no peer gives", c)
			f.Consequence, f.Remedy = "the transaction counts as invalid", remedyCopy
			e.v.add(f.atTx(i, j.parsed.Tx(i).ID()))
		}
	}
	j.flags = flags
	e.commitSlot(j)
}

func isConfig(j *job) bool {
	if j.parsed.Len() == 0 {
		return false
	}
	h, err := j.parsed.Tx(0).ChannelHeader()
	return err == nil && h.GetType() == int32(common.HeaderType_CONFIG)
}

// commitSlot judges whether the block has a commit hash as it should (LEDGER
// §13.1).
func (e *examiner) commitSlot(j *job) {
	var err error
	if j.stored, err = commitHash(j.block); err != nil {
		f := j.finding(Damage, checkCommit, "the slot of the commit hash does not decode: %v", err)
		f.Remedy = remedyCopy
		e.v.add(f)
		return
	}
	if j.prev == nil {
		return
	}
	if j.before, err = commitHash(j.prev); err != nil {
		return
	}
	switch n := j.number(); {
	case n > 1 && len(j.before) > 0 && len(j.stored) == 0:
		f := j.finding(Damage, checkCommit, "the block has no commit hash although the block before it has one")
		f.Consequence, f.Remedy = "from here on nothing tells whether this peer applied the same changes as others", remedyCopy
		e.v.add(f)
	case n > 1 && len(j.before) == 0 && len(j.stored) > 0:
		f := j.finding(Note, checkCommit, "the block has a commit hash although the block before it has none")
		f.Consequence = "it came with the block from another peer and says nothing about this one"
		e.v.add(f)
	}
}

// commitHash is the commit hash in a block, nil if it has none.
func commitHash(b *common.Block) ([]byte, error) {
	raw := slot(b, protoutil.CommitHashSlot)
	if len(raw) == 0 {
		return nil, nil
	}
	m := &common.Metadata{}
	if err := unmarshal(raw, m); err != nil {
		return nil, err
	}
	return m.GetValue(), nil
}

// entries adds up what index and history should hold for the block.
func (e *examiner) entries(j *job) {
	if j.number() < e.v.indexed {
		codes := j.flags
		blockfile.IndexEntries(blockfile.IndexSpec{
			Block: j.parsed, Body: j.body, At: j.at, Items: e.v.items,
			First: func(tx int, _ string) bool {
				return tx >= len(codes) || codes[tx] != byte(peer.TxValidationCode_DUPLICATE_TXID)
			},
		}, func(key, value []byte) { e.sum.add(&e.index, key, value) })
	}
	if j.flags == nil || j.number() >= e.v.historyNext {
		return
	}
	err := eachHistoryEntry(j.parsed, j.flags, func(_ uint64, entry []byte) { e.sum.add(&e.history, entry, nil) })
	if err != nil {
		e.v.undecodable(j, err)
	}
}

// eachHistoryEntry visits the history's entries of a block. A key written twice
// in a row by one transaction, as hand-made ones may, comes once.
func eachHistoryEntry(b *protoutil.Block, flags []byte, visit func(tx uint64, entry []byte)) error {
	var last []byte
	return history.Entries(b, flags, func(tx uint64, _, _ string, entry []byte) {
		if bytes.Equal(last, entry) {
			return
		}
		last = append(last[:0], entry...)
		visit(tx, entry)
	})
}

// errNoValues says that replaying a block needs values from the state.
var errNoValues = errors.New("values of the state are needed")

// noValues is the state of a replay that needs none: only a write of metadata
// without a value looks into it.
type noValues struct{}

func (noValues) Get(string, string) (*state.Value, error)              { return nil, errNoValues }
func (noValues) GetMany(string, []string) ([]*state.Value, error)      { return nil, errNoValues }
func (noValues) Versions([]state.Lookup) error                         { return errNoValues }
func (noValues) Range(_, _, _ string, _ int32) (state.Iterator, error) { return nil, errNoValues }
func (noValues) Query(_ string, _ state.Query) (state.Iterator, error) { return nil, errNoValues }

func noMetadata(string) bool { return false }

// replay computes the updates of the block and checks its commit hash. Metadata
// that are carried over do not enter the hash, so none are looked for.
func (e *examiner) replay(j *job) {
	if !e.v.replays(j) {
		return
	}
	validator := mvcc.Validator{State: noValues{}, MetadataUsed: noMetadata}
	result, err := validator.Replay(j.parsed, j.flags)
	switch {
	case errors.Is(err, errNoValues):
		j.needsValues = true
		return
	case err != nil:
		e.v.undecodable(j, err)
		return
	}
	if e.v.values != nil {
		j.result = result
	}
	if e.hashable(j) {
		e.compareHash(j, result)
	}
}

// hashable tells whether the block's commit hash can be checked.
func (e *examiner) hashable(j *job) bool {
	n := j.number()
	if n == 0 || len(j.stored) == 0 || n > 1 && len(j.before) == 0 || e.v.hashOnly && !e.v.only[n] {
		return false
	}
	if j.prev == nil && n > 1 {
		e.counts.unhashed++
		return false
	}
	return true
}

func (e *examiner) compareHash(j *job, result *mvcc.Result) {
	e.counts.hashes++
	e.v.compareHash(j, result)
}

func (v *verifier) compareHash(j *job, result *mvcc.Result) {
	got := result.Updates.CommitHash(j.flags, j.before)
	if bytes.Equal(got, j.stored) {
		return
	}
	f := j.finding(Damage, checkCommit, "the commit hash in the block is [%x], that of its codes and writes on top of the block before is [%x]", j.stored, got)
	f.Consequence = "validation codes, the hash itself or the one before were changed, or this peer applied other changes than this implementation would"
	f.Remedy = "compare with another peer (`peer ledger compare`); " + remedyCopy
	v.add(f)
}

// undecodable reports a transaction that counts as valid and cannot be decoded.
func (v *verifier) undecodable(j *job, err error) {
	v.once(j.number(), func() {
		f := j.finding(Damage, checkData, "a transaction that counts as valid does not decode: %v", err)
		f.Consequence, f.Remedy = "state and history cannot be rebuilt: the channel does not open", remedyCopy
		v.add(f)
	})
}
