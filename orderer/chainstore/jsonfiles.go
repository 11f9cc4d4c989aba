package chainstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/deliver"
	"github.com/heddle-ledger/heddle/internal/protoutil"
)

const (
	jsonDirPrefix  = "chain_"
	jsonFileFormat = "block_%020d.json"
)

// jsonBackends keeps every block in a file of its own, in the JSON form of
// common.Block: <dir>/chain_<channel>/block_%020d.json.
type jsonBackends struct{ dir string }

func newJSONBackends(dir string) (backends, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("Error creating ledger directory: %w", err)
	}
	return jsonBackends{dir}, nil
}

func (j jsonBackends) list() ([]string, error) {
	entries, err := os.ReadDir(j.dir)
	if err != nil {
		return nil, fmt.Errorf("list channels: %w", err)
	}
	var ids []string
	for _, e := range entries {
		if id, ok := strings.CutPrefix(e.Name(), jsonDirPrefix); ok && e.IsDir() {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

func (j jsonBackends) close() error { return nil }

func (j jsonBackends) open(id string) (backend, error) {
	dir := filepath.Join(j.dir, jsonDirPrefix+id)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	b := &jsonBackend{dir: dir}
	entries, err := os.ReadDir(dir) // sorted by name, hence by number
	if err != nil {
		return nil, err
	}
	var next uint64
	for _, e := range entries {
		var n uint64
		if _, err := fmt.Sscanf(e.Name(), jsonFileFormat, &n); err != nil || e.Name() != fmt.Sprintf(jsonFileFormat, n) {
			continue
		}
		if n != next {
			return nil, fmt.Errorf("Missing block %d in the chain", next)
		}
		next++
	}
	if next > 0 {
		tip, err := b.read(next - 1)
		if err != nil {
			return nil, err
		}
		b.hash = protoutil.BlockHash(tip.Header)
	}
	b.next.Store(next)
	return b, nil
}

type jsonBackend struct {
	dir  string
	next atomic.Uint64
	hash []byte // of the newest block; belongs to the one who appends
}

func (j *jsonBackend) path(number uint64) string {
	return filepath.Join(j.dir, fmt.Sprintf(jsonFileFormat, number))
}

// append writes the file under another name, syncs and renames it, so that a
// crash leaves no half a block behind.
func (j *jsonBackend) append(b *common.Block) error {
	if err := checkNext(b, j.next.Load(), j.hash); err != nil {
		return err
	}
	raw, err := encodeBlock(b)
	if err != nil {
		return err
	}
	path := j.path(b.Header.Number)
	if err := writeSynced(path+".tmp", raw); err != nil {
		return err
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	if err := syncDir(j.dir); err != nil {
		return err
	}
	j.hash = protoutil.BlockHash(b.Header)
	j.next.Add(1)
	return nil
}

func writeSynced(path string, raw []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	return errors.Join(err, f.Sync(), f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (j *jsonBackend) height() uint64 { return j.next.Load() }
func (j *jsonBackend) oldest() uint64 { return 0 }

func (j *jsonBackend) inMemory() bool { return false }

func (j *jsonBackend) block(number uint64) (sized, error) {
	b, err := j.read(number)
	if errors.Is(err, fs.ErrNotExist) {
		return sized{}, deliver.ErrNotFound
	}
	if err != nil {
		return sized{}, err
	}
	return sized{deliver.NewBlock(b), 2 * proto.Size(b)}, nil
}

func (j *jsonBackend) read(number uint64) (*common.Block, error) {
	raw, err := os.ReadFile(j.path(number))
	if err != nil {
		return nil, err
	}
	return decodeBlock(raw)
}

// jsonBlock is the JSON form of common.Block as protobuf's JSON mapping has it.
// It is spelled out because the mapping's library varies its white space.
type (
	jsonBlock struct {
		Header   *jsonHeader   `json:"header,omitempty"`
		Data     *jsonData     `json:"data,omitempty"`
		Metadata *jsonMetadata `json:"metadata,omitempty"`
	}
	jsonHeader struct {
		Number       string `json:"number,omitempty"`
		PreviousHash []byte `json:"previousHash,omitempty"`
		DataHash     []byte `json:"dataHash,omitempty"`
	}
	jsonData struct {
		Data [][]byte `json:"data,omitempty"`
	}
	jsonMetadata struct {
		Metadata [][]byte `json:"metadata,omitempty"`
	}
)

func encodeBlock(b *common.Block) ([]byte, error) {
	var j jsonBlock
	if h := b.Header; h != nil {
		j.Header = &jsonHeader{PreviousHash: h.PreviousHash, DataHash: h.DataHash}
		if h.Number > 0 {
			j.Header.Number = strconv.FormatUint(h.Number, 10)
		}
	}
	if b.Data != nil {
		j.Data = &jsonData{notNil(b.Data.Data)}
	}
	if b.Metadata != nil {
		j.Metadata = &jsonMetadata{notNil(b.Metadata.Metadata)}
	}
	return json.MarshalIndent(&j, "", "  ")
}

// notNil makes sure that empty elements become "" rather than null.
func notNil(list [][]byte) [][]byte {
	out := make([][]byte, len(list))
	for i, e := range list {
		if out[i] = e; e == nil {
			out[i] = []byte{}
		}
	}
	return out
}

func decodeBlock(raw []byte) (*common.Block, error) {
	var j jsonBlock
	if err := json.Unmarshal(raw, &j); err != nil {
		return nil, fmt.Errorf("decode block: %w", err)
	}
	b := &common.Block{}
	if j.Header == nil {
		return nil, errors.New("decode block: no header")
	}
	b.Header = &common.BlockHeader{PreviousHash: j.Header.PreviousHash, DataHash: j.Header.DataHash}
	if j.Header.Number != "" {
		n, err := strconv.ParseUint(j.Header.Number, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("decode block: %w", err)
		}
		b.Header.Number = n
	}
	if j.Data != nil {
		b.Data = &common.BlockData{Data: j.Data.Data}
	}
	if j.Metadata != nil {
		b.Metadata = &common.BlockMetadata{Metadata: j.Metadata.Metadata}
	}
	return b, nil
}
