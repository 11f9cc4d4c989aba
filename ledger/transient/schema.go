package transient

import (
	"bytes"
	"errors"

	"github.com/heddle-ledger/heddle/ledger/kv"
)

// Keys of one channel (LEDGER §10.1); u is a random UUID in text form. A part
// may not hold a 00 byte, except the height, which is last or follows its
// separator at a known length.
const (
	prefixSet    = 'P' // 00 txid 00 u 00 OPV(height) -> write set
	prefixHeight = 'H' // 00 OPV(height) 00 txid 00 u -> empty
	prefixTx     = 'T' // 00 txid 00 u 00 OPV(height) -> empty
)

// newFormat begins a value of the present format; without it the value is a
// plain TxPvtReadWriteSet.
const newFormat = 0x00

// entry names one stored write set.
type entry struct {
	txid, uuid string
	height     uint64
}

func txPrefix(kind byte, txid string) []byte {
	k := append([]byte{kind, 0}, txid...)
	return append(k, 0)
}

func (e entry) byTx(kind byte) []byte {
	k := append(txPrefix(kind, e.txid), e.uuid...)
	return kv.AppendOPV(append(k, 0), e.height)
}

func (e entry) byHeight() []byte {
	k := append(kv.AppendOPV([]byte{prefixHeight, 0}, e.height), 0)
	k = append(append(k, e.txid...), 0)
	return append(k, e.uuid...)
}

var errMalformed = errors.New("malformed key of the transient store")

// parseByTx takes apart a key of kind P or T.
func parseByTx(key []byte) (e entry, err error) {
	if len(key) < 2 || key[1] != 0 {
		return e, errMalformed
	}
	txid, rest, ok := bytes.Cut(key[2:], []byte{0})
	uuid, height, ok2 := bytes.Cut(rest, []byte{0})
	if !ok || !ok2 {
		return e, errMalformed
	}
	n, rest, err := kv.ReadOPV(height)
	if err != nil || len(rest) != 0 {
		return e, errMalformed
	}
	return entry{string(txid), string(uuid), n}, nil
}

func parseByHeight(key []byte) (e entry, err error) {
	if len(key) < 2 || key[1] != 0 {
		return e, errMalformed
	}
	n, rest, err := kv.ReadOPV(key[2:])
	if err != nil || len(rest) == 0 || rest[0] != 0 {
		return e, errMalformed
	}
	txid, uuid, ok := bytes.Cut(rest[1:], []byte{0})
	if !ok {
		return e, errMalformed
	}
	return entry{string(txid), string(uuid), n}, nil
}
