package audit

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/history"
	"github.com/heddle-ledger/heddle/ledger/rwset"
	"github.com/heddle-ledger/heddle/ledger/state/leveldb"
)

// KeyView is a key of the state and what it was before.
type KeyView struct {
	Channel   string `json:"channel"`
	Namespace string `json:"namespace"`
	Key       string `json:"key"`
	// Found tells whether the key is there now.
	Found    bool              `json:"found"`
	Value    []byte            `json:"value,omitempty"`
	Text     string            `json:"text,omitempty"` // the value, if it is text
	Version  *KeyVersion       `json:"version,omitempty"`
	Metadata map[string][]byte `json:"metadata,omitempty"`
	// History is the writes of the key, oldest first; nil if no history is kept.
	History   []KeyWrite `json:"history,omitempty"`
	Truncated bool       `json:"history_truncated,omitempty"` // older ones are left out
}

// KeyVersion is the transaction that wrote a value.
type KeyVersion struct {
	Block uint64 `json:"block"`
	Tx    uint64 `json:"tx"`
}

// KeyWrite is one write of a key.
type KeyWrite struct {
	Block  uint64 `json:"block"`
	Tx     uint64 `json:"tx"`
	TxID   string `json:"txid"`
	Time   string `json:"time,omitempty"`
	Delete bool   `json:"delete,omitempty"`
	Value  []byte `json:"value,omitempty"`
	Text   string `json:"text,omitempty"`
}

// maxWrites bounds the history that is shown.
const maxWrites = 1000

// Key shows a key of the state, or what it was until it was deleted. The namespace of private data is
// <chaincode>$$p<collection>.
func Key(d *Dir, channel, ns, key string) (*KeyView, error) {
	if _, err := d.choose([]string{channel}); err != nil {
		return nil, err
	}
	if d.Kind != Peer {
		return nil, fmt.Errorf("an orderer has no state: %w", ErrNotFound)
	}
	db, err := d.database(dbState)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the directory has no state: it is in CouchDB, or the next start of the peer builds it: %w", err)
	}
	if err != nil {
		return nil, err
	}
	v := &KeyView{Channel: channel, Namespace: ns, Key: key}
	value, err := leveldb.OpenView(db, channel).Get(ns, key)
	if err != nil {
		return nil, err
	}
	if value != nil {
		v.Found, v.Value, v.Text, v.Version = true, value.Value, textOf(value.Value), &KeyVersion{value.Version.Block, value.Version.Tx}
		if v.Metadata, err = rwset.DecodeMetadata(value.Metadata); err != nil {
			return nil, fmt.Errorf("metadata: %w", err)
		}
	}
	if err := d.pastWrites(v); err != nil {
		return nil, err
	}
	if !v.Found && len(v.History) == 0 {
		return nil, fmt.Errorf("key %q of namespace [%s] in channel [%s]: %w", key, ns, channel, ErrNotFound)
	}
	return v, nil
}

// pastWrites adds the history of a key.
func (d *Dir) pastWrites(v *KeyView) error {
	db, err := d.database(dbHistory)
	index := d.index(v.Channel)
	if err != nil || index == nil {
		return nil //nolint:nilerr // there is none
	}
	files := d.files(v.Channel)
	defer files.Close()
	heights := history.Open(db, v.Channel).Heights(v.Namespace, v.Key)
	defer heights.Close()
	for {
		h, ok, err := heights.Next()
		if err != nil || !ok {
			return err
		}
		at, err := index.TxAt(h.Block, h.Tx)
		if err != nil {
			continue // an entry that only looks like one of this key
		}
		raw, err := files.Tx(at)
		if err != nil {
			return err
		}
		if w := writeOf(protoutil.ParseTx(raw), v.Namespace, v.Key); w != nil {
			w.Block, w.Tx = h.Block, h.Tx
			v.History = append(v.History, *w)
		}
		if len(v.History) > maxWrites {
			v.History, v.Truncated = v.History[1:], true
		}
	}
}

// writeOf is what a transaction writes to a key; nil if nothing.
func writeOf(tx *protoutil.Tx, ns, key string) *KeyWrite {
	set, err := tx.RWSet()
	if err != nil {
		return nil
	}
	var found *kvrwset.KVWrite
	for i := range set.Namespaces {
		if set.Namespaces[i].Namespace != ns {
			continue
		}
		for _, w := range set.Namespaces[i].KV.GetWrites() {
			if w.GetKey() == key && found == nil {
				found = w
			}
		}
	}
	if found == nil {
		return nil
	}
	out := &KeyWrite{TxID: tx.ID(), Delete: found.GetIsDelete() || len(found.GetValue()) == 0}
	if !out.Delete {
		out.Value, out.Text = found.GetValue(), textOf(found.GetValue())
	}
	if header, err := tx.ChannelHeader(); err == nil && header.GetTimestamp().CheckValid() == nil {
		out.Time = header.GetTimestamp().AsTime().Format(time.RFC3339Nano)
	}
	return out
}

// ParseKey takes `namespace/key` apart. In the key, \xNN stands for a byte, as
// in composite keys.
func ParseKey(text string) (ns, key string, err error) {
	ns, key, ok := strings.Cut(text, "/")
	if !ok || ns == "" {
		return "", "", fmt.Errorf("[%s] is not of the form namespace/key", text)
	}
	if !strings.Contains(key, `\`) {
		return ns, key, nil
	}
	key, err = strconv.Unquote(`"` + strings.ReplaceAll(key, `"`, `\"`) + `"`)
	if err != nil {
		return "", "", fmt.Errorf("key [%s]: %w", text, err)
	}
	return ns, key, nil
}
