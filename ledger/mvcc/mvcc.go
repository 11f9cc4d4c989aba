// Package mvcc decides which transactions of a block take effect, and how
// (LEDGER §12): version checks of reads, phantom checks of range queries,
// in-block order, metadata rules, and the commit hash over the outcome.
//
// The package is pure: it reads the committed state through a state.Reader and
// returns codes and updates. It owns no state; a bulk look-up may use goroutines
// inside the Reader. It may be imported by the ledger room only.
package mvcc

import (
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/state"
)

// ConfigKey is the key, in the empty namespace, of the channel's configuration
// (LEDGER §4.3).
const ConfigKey = "resourcesconfigtx.CHANNEL_CONFIG_KEY"

const (
	codeValid        = byte(peer.TxValidationCode_VALID)
	codeReadConflict = byte(peer.TxValidationCode_MVCC_READ_CONFLICT)
	codePhantom      = byte(peer.TxValidationCode_PHANTOM_READ_CONFLICT)
	codeNilAction    = byte(peer.TxValidationCode_NIL_TXACTION)
	codeBadWriteSet  = byte(peer.TxValidationCode_INVALID_WRITESET)
	codeOther        = byte(peer.TxValidationCode_INVALID_OTHER_REASON)
)

// Validator judges blocks against one channel's state.
type Validator struct {
	// State is the committed state before the block.
	State state.Reader
	// MetadataUsed tells whether a namespace ever had metadata; where it did
	// not, none are carried over (LEDGER §9.2). Nil means always.
	MetadataUsed func(ns string) bool
	// CheckWrite applies the state database's rules to public writes; nil
	// means there are none.
	CheckWrite func(key string, value []byte) error
	// CheckKey tells whether the state database can hold a key of one of its
	// namespaces at all; nil means that it can hold any. The reference stops for
	// good where it cannot; here the transaction is invalid.
	CheckKey func(ns, key string) error
}

// Result is the outcome of a block.
type Result struct {
	Flags   []byte // final codes, one per transaction
	Updates *Updates
	// Refused are the private writes of valid transactions that the state
	// database cannot take; see ApplyPrivate.
	Refused []Refusal
	// RWSets has the read-write set of every transaction that is valid and has
	// one, by transaction number.
	RWSets []*protoutil.TxRWSet
}

// Validate judges the transactions that flags marks as valid, in block order.
// The flags given are not changed.
func (v *Validator) Validate(b *protoutil.Block, flags []byte) (*Result, error) {
	return v.run(b, flags, true)
}

// Replay applies a block whose final codes are known, without judging it again
// (LEDGER §17.3).
func (v *Validator) Replay(b *protoutil.Block, flags []byte) (*Result, error) {
	return v.run(b, flags, false)
}

func (v *Validator) run(b *protoutil.Block, flags []byte, check bool) (*Result, error) {
	if len(flags) != b.Len() {
		return nil, fmt.Errorf("block [%d] has %d transactions but %d validation codes", b.Number(), b.Len(), len(flags))
	}
	r := &Result{Flags: append([]byte(nil), flags...), RWSets: make([]*protoutil.TxRWSet, b.Len())}
	keys := 0
	for i := range r.Flags {
		if r.Flags[i] != codeValid {
			continue
		}
		set, code, err := v.prepare(b.Tx(i))
		if err != nil {
			return nil, fmt.Errorf("transaction [%d] of block [%d]: %w", i, b.Number(), err)
		}
		r.Flags[i], r.RWSets[i] = code, set
		if set != nil {
			keys++
		}
	}
	r.Updates = NewUpdates(keys)
	j := &judge{Validator: v, updates: r.Updates}
	defer j.close()
	if check {
		if err := j.preload(r.RWSets); err != nil {
			return nil, err
		}
	}
	for i, set := range r.RWSets {
		if set == nil {
			continue
		}
		if check {
			code, err := j.check(set)
			if err != nil {
				return nil, err
			}
			if code != codeValid {
				r.Flags[i], r.RWSets[i] = code, nil
				continue
			}
		}
		if err := j.apply(set, state.Version{Block: b.Number(), Tx: uint64(i)}); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// prepare extracts a transaction's read-write set (LEDGER §12.1). An error is
// one that makes the whole commit fail.
func (v *Validator) prepare(tx *protoutil.Tx) (*protoutil.TxRWSet, byte, error) {
	ch, err := tx.ChannelHeader()
	if err != nil {
		return nil, 0, err
	}
	var set *protoutil.TxRWSet
	switch common.HeaderType(ch.Type) {
	case common.HeaderType_ENDORSER_TRANSACTION:
		if !hasAction(tx) {
			return nil, codeNilAction, nil
		}
		if set, err = tx.RWSet(); err != nil {
			return nil, codeOther, nil
		}
	case common.HeaderType_CONFIG:
		if set, err = configWrites(tx); err != nil {
			return nil, 0, err
		}
	default:
		return nil, codeValid, nil
	}
	if !v.writesAllowed(set) {
		return nil, codeBadWriteSet, nil
	}
	return set, codeValid, nil
}

// hasAction tells whether a transaction has a chaincode action that decodes. One
// that is not there at all is another thing than an empty one.
func hasAction(tx *protoutil.Tx) bool {
	if _, err := tx.Action(); err != nil {
		return false
	}
	r, err := tx.ResponsePayload()
	return err == nil && r.Extension != nil
}

// writesAllowed applies the state database's rules to what is written in public,
// and looks whether it can hold all the rest.
func (v *Validator) writesAllowed(set *protoutil.TxRWSet) bool {
	if v.CheckWrite == nil && v.CheckKey == nil {
		return true
	}
	for i := range set.Namespaces {
		ns := &set.Namespaces[i]
		for _, w := range ns.KV.GetWrites() {
			if v.refuses(ns.Namespace, w.Key, w.Value) != nil {
				return false
			}
		}
		for k := range ns.Collections {
			if !v.hashesAllowed(ns.Namespace, &ns.Collections[k]) {
				return false
			}
		}
	}
	return true
}

// refuses is why the state database does not take a value in plain text.
func (v *Validator) refuses(ns, key string, value []byte) error {
	if v.CheckWrite != nil {
		if err := v.CheckWrite(key, value); err != nil {
			return err
		}
	}
	if v.CheckKey != nil {
		return v.CheckKey(ns, key)
	}
	return nil
}

func (v *Validator) hashesAllowed(ns string, c *protoutil.CollRWSet) bool {
	for _, w := range c.Hashed.GetHashedWrites() {
		key := hashKey(w.KeyHash)
		switch {
		case c.Name == "": // becomes a public write (LEDGER §12.5)
			if v.refuses(ns, key, w.ValueHash) != nil {
				return false
			}
		case v.CheckKey != nil && v.CheckKey(state.HashedNamespace(ns, c.Name), key) != nil:
			return false
		}
	}
	return true
}

// configWrites is the write set of a configuration transaction: the new
// configuration, under ConfigKey.
func configWrites(tx *protoutil.Tx) (*protoutil.TxRWSet, error) {
	payload, err := tx.Payload()
	if err != nil {
		return nil, err
	}
	env := &common.ConfigEnvelope{}
	if err := proto.Unmarshal(payload.Data, env); err != nil {
		return nil, fmt.Errorf("error unmarshaling ConfigEnvelope: %w", err)
	}
	if env.Config == nil {
		return nil, fmt.Errorf("channel config found nil")
	}
	return &protoutil.TxRWSet{Namespaces: []protoutil.NsRWSet{{
		KV: &kvrwset.KVRWSet{Writes: []*kvrwset.KVWrite{{Key: ConfigKey, Value: protoutil.Marshal(env.Config)}}},
	}}}, nil
}
