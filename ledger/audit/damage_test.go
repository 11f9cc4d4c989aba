package audit

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/testnet/testchain"
	"github.com/heddle-ledger/heddle/ledger/blockfile"
	"github.com/heddle-ledger/heddle/ledger/kv"
)

// damage is a way to damage a directory and what Verify must say of it.
type damage struct {
	name     string
	harm     func(t *testing.T, dir string)
	orderer  bool // the directory of the orderer
	options  Options
	severity Severity
	kind     string
	block    int    // -1: none
	tx       int    // -1: none
	problem  string // part of the text
	alone    bool   // nothing else is found
}

func flip(b []byte) { b[len(b)/2] ^= 1 }

// within changes the first occurrence of a part of a record.
func within(t *testing.T, body, part []byte, edit func([]byte)) {
	t.Helper()
	i := bytes.Index(body, part)
	if i < 0 || len(part) == 0 {
		t.Fatal("no such part")
	}
	edit(body[i : i+len(part)])
}

func blockFile(dir string, n string) string {
	return filepath.Join(dir, "ledgersData/chains/chains/ch/blockfile_00000"+n)
}

func (m *made) stored(t *testing.T, dir string, n uint64) *common.Block {
	t.Helper()
	b, err := blockfile.ParseBody(find(t, dir, n).body)
	must(t, err)
	return proto.CloneOf(b)
}

// inIndex changes an entry of the index.
func inIndex(t *testing.T, dir string, change func(*kv.Store)) {
	edit(t, dir, "ledgersData/chains/index", func(_, ch *kv.Store) { change(ch) })
}

func appendTo(t *testing.T, file string, data []byte) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
	must(t, err)
	_, err = f.Write(data)
	must(t, err)
	must(t, f.Close())
}

// lastFile is the file with the last block.
func lastFile(t *testing.T, dir string) string { return find(t, dir, chainLength-1).file }

func damages(m *made) []damage {
	const none = -1
	header := func(n uint64) *common.BlockHeader { return m.blocks[n].Header }
	txid := func(n uint64, i int) string { return protoutil.ParseBlock(m.blocks[n]).Tx(i).ID() }
	return []damage{
		{
			name: "number", kind: checkFiles, block: 7, tx: none, severity: Damage, problem: "says that it is block [6]",
			harm: func(t *testing.T, dir string) { change(t, dir, 7, func(b []byte) { b[0] ^= 1 }) },
		},
		{
			name: "previous hash", kind: checkChain, block: 7, tx: none, severity: Damage, problem: "as the hash of the block before it",
			harm: func(t *testing.T, dir string) {
				change(t, dir, 7, func(b []byte) { within(t, b, header(7).PreviousHash, flip) })
			},
		},
		{
			name: "data hash", kind: checkData, block: 7, tx: none, severity: Damage, problem: "the data hash in the header is",
			harm: func(t *testing.T, dir string) {
				change(t, dir, 7, func(b []byte) { within(t, b, header(7).DataHash, flip) })
			},
		},
		{
			name: "transaction", kind: checkData, block: 7, tx: 1, severity: Damage, problem: "does not bear its creator's signature",
			harm: func(t *testing.T, dir string) {
				change(t, dir, 7, func(b []byte) { within(t, b, m.blocks[7].Data.Data[1], flip) })
			},
		},
		{
			name: "transaction of an orderer", orderer: true, kind: checkData, block: 7, tx: 1, severity: Damage, problem: "does not bear its creator's signature",
			harm: func(t *testing.T, dir string) {
				change(t, dir, 7, func(b []byte) { within(t, b, m.blocks[7].Data.Data[1], flip) })
			},
		},
		{
			name: "signature", kind: checkSignatures, block: 9, tx: none, severity: Damage, problem: "do not satisfy the policy", alone: true,
			harm: func(t *testing.T, dir string) {
				change(t, dir, 9, func(b []byte) {
					md, err := protoutil.Metadata(m.blocks[9], common.BlockMetadataIndex_SIGNATURES)
					must(t, err)
					within(t, b, md.Signatures[0].Signature, flip)
				})
			},
		},
		{
			name: "signature of an orderer", orderer: true, kind: checkSignatures, block: 9, tx: none, severity: Damage, problem: "do not satisfy the policy", alone: true,
			harm: func(t *testing.T, dir string) {
				change(t, dir, 9, func(b []byte) {
					md, err := protoutil.Metadata(m.blocks[9], common.BlockMetadataIndex_SIGNATURES)
					must(t, err)
					within(t, b, md.Signatures[0].Signature, flip)
				})
			},
		},
		{
			name: "header with a forged chain", kind: checkSignatures, block: 13, tx: none, severity: Damage, problem: "do not satisfy the policy",
			harm: func(t *testing.T, dir string) { // transactions and data hash agree, nobody has signed them
				change(t, dir, 13, func(b []byte) {
					within(t, b, m.blocks[13].Data.Data[1], flip)
					forged := proto.CloneOf(m.blocks[13])
					flip(forged.Data.Data[1])
					copy(b[bytes.Index(b, header(13).DataHash):], protoutil.DataHash(forged.Data.Data))
				})
			},
		},
		{
			name: "validation code", kind: checkCommit, block: 7, tx: none, severity: Damage, problem: "the commit hash in the block is",
			harm: func(t *testing.T, dir string) { // slot 2 is before the commit hash
				change(t, dir, 7, func(b []byte) { b[bytes.LastIndex(b, []byte{3, 0, 0, 0})+2] = 11 })
			},
		},
		{
			name: "no such validation code", kind: checkMetadata, block: 7, tx: 1, severity: Damage, problem: "which no peer gives",
			harm: func(t *testing.T, dir string) {
				change(t, dir, 7, func(b []byte) { b[bytes.LastIndex(b, []byte{3, 0, 0, 0})+2] = 254 })
			},
		},
		{
			name: "commit hash", kind: checkCommit, block: 7, tx: none, severity: Damage, problem: "the commit hash in the block is",
			harm: func(t *testing.T, dir string) { change(t, dir, 7, func(b []byte) { b[len(b)-3] ^= 1 }) },
		},
		{
			name: "last config", kind: checkConfig, block: 9, tx: none, severity: Damage, problem: "LAST_CONFIG names block [4], the last configuration is in block [5]", alone: true,
			harm: func(t *testing.T, dir string) {
				change(t, dir, 9, func(b []byte) {
					slot := m.blocks[9].Metadata.Metadata[1]
					i := bytes.LastIndex(b, append([]byte{byte(len(slot))}, slot...))
					b[i+len(slot)] = 4
				})
			},
		},
		{
			name: "cut", kind: checkFiles, block: 13, tx: none, severity: Damage, problem: "block [13] cannot be read",
			harm: func(t *testing.T, dir string) { f := find(t, dir, 13); must(t, os.Truncate(f.file, f.at.End-5)) },
		},
		{
			name: "cut at a block", kind: checkFiles, block: 13, tx: none, severity: Damage, problem: "the index knows block [13]",
			harm: func(t *testing.T, dir string) { f := find(t, dir, 13); must(t, os.Truncate(f.file, f.at.Offset)) },
		},
		{
			name: "cut in a middle file", kind: checkFiles, block: 5, tx: none, severity: Damage, problem: "a later file exists",
			harm: func(t *testing.T, dir string) { f := find(t, dir, 5); must(t, os.Truncate(f.file, f.at.Offset+40)) },
		},
		{
			name: "cut, the index behind", kind: checkFiles, block: none, tx: none, severity: Damage, problem: "and ends with block [13]", alone: false,
			harm: func(t *testing.T, dir string) { // as Fabric may leave it: the checkpoint is written first
				f := find(t, dir, 13)
				inIndex(t, dir, func(s *kv.Store) {
					must(t, s.Delete(kv.AppendOPV([]byte("n"), 13), true))
					must(t, s.Put([]byte("indexCheckpointKey"), []byte{12}, true))
				})
				must(t, os.Truncate(f.file, f.at.End-5))
			},
		},
		{
			name: "torn block", kind: checkData, block: 14, tx: 0, severity: Repair, problem: "the data hash in the header is", alone: true,
			harm: func(t *testing.T, dir string) {
				b := m.net.Block(14, header(13), configBlock, m.blocks[7].Data.Data...)
				b.Data.Data[0] = append([]byte{}, b.Data.Data[0]...)
				flip(b.Data.Data[0])
				protoutil.ParseBlock(b).SetFlags(make([]byte, 3))
				appendTo(t, lastFile(t, dir), encodeRecord(b))
			},
		},
		{
			name: "torn tail", kind: checkFiles, block: 14, tx: none, severity: Repair, problem: "left over from a write that was cut short", alone: true,
			harm: func(t *testing.T, dir string) { appendTo(t, lastFile(t, dir), []byte{0xff, 1, 'a', 'b'}) },
		},
		{
			name: "zeros at the end", kind: checkFiles, block: 14, tx: none, severity: Repair, problem: "4096 bytes behind the last block", alone: true,
			harm: func(t *testing.T, dir string) { appendTo(t, lastFile(t, dir), make([]byte, 4096)) },
		},
		{
			name: "garbage in the middle", kind: checkFiles, block: 7, tx: none, severity: Damage, problem: "the file goes on with block [8]",
			harm: func(t *testing.T, dir string) {
				f := find(t, dir, 7)
				w, err := os.OpenFile(f.file, os.O_RDWR, 0)
				must(t, err)
				_, err = w.WriteAt(bytes.Repeat([]byte{0xff}, 300), f.at.Offset)
				must(t, err)
				must(t, w.Close())
			},
		},
		{
			name: "record that does not decode", kind: checkFiles, block: 7, tx: none, severity: Damage, problem: "(the record does not decode)",
			harm: func(t *testing.T, dir string) { change(t, dir, 7, func(b []byte) { b[1] = 0xfe }) },
		},
		{
			name: "swapped files", kind: checkFiles, block: none, tx: none, severity: Damage, problem: "the names of block files are mixed up",
			harm: func(t *testing.T, dir string) {
				a, b := blockFile(dir, "3"), blockFile(dir, "4")
				must(t, os.Rename(a, a+"x"))
				must(t, os.Rename(b, a))
				must(t, os.Rename(a+"x", b))
			},
		},
		{
			name: "missing file", kind: checkFiles, block: none, tx: none, severity: Damage, problem: "the file is missing, and with it block",
			harm: func(t *testing.T, dir string) { must(t, os.Remove(blockFile(dir, "3"))) },
		},
		{
			name: "missing first file", kind: checkFiles, block: 0, tx: none, severity: Damage, problem: "the file is missing, and with it block",
			harm: func(t *testing.T, dir string) { must(t, os.Remove(blockFile(dir, "0"))) },
		},
		{
			name: "missing last file", kind: checkFiles, block: 12, tx: none, severity: Damage, problem: "the file is missing, and with it blocks [12] to [13]",
			harm: func(t *testing.T, dir string) { must(t, os.Remove(lastFile(t, dir))) },
		},
		{
			name: "no block files", kind: checkFiles, block: 0, tx: none, severity: Damage, problem: "the file is missing, and with it blocks [0] to [13]",
			harm: func(t *testing.T, dir string) {
				must(t, os.RemoveAll(filepath.Dir(blockFile(dir, "0"))))
				must(t, os.Mkdir(filepath.Dir(blockFile(dir, "0")), 0o755))
			},
		},
		{
			name: "no directory of block files", kind: checkFiles, block: none, tx: none, severity: Damage, problem: "the directory of the channel's block files is missing", alone: true,
			harm: func(t *testing.T, dir string) { must(t, os.RemoveAll(filepath.Dir(blockFile(dir, "0")))) },
		},
		{
			name: "foreign genesis", kind: checkList, block: 0, tx: none, severity: Damage, problem: "is not block 0 of the block files", alone: true,
			harm: func(t *testing.T, dir string) {
				edit(t, dir, "ledgersData/ledgerProvider", func(raw, _ *kv.Store) {
					must(t, raw.Put([]byte("lch"), protoutil.Marshal(testchain.New(t).Genesis(channelID)), true))
				})
			},
		},
		{
			name: "blocks of another channel", kind: checkData, block: 0, tx: none, severity: Damage, problem: "the block belongs to channel [ch]",
			harm: func(t *testing.T, dir string) {
				must(t, os.Rename(filepath.Dir(blockFile(dir, "0")), filepath.Join(dir, "ledgersData/chains/chains/other")))
			},
		},
		{
			name: "not listed", kind: checkList, block: none, tx: none, severity: Damage, problem: "the peer does not list the channel", alone: true,
			harm: func(t *testing.T, dir string) {
				edit(t, dir, "ledgersData/ledgerProvider", func(raw, _ *kv.Store) { must(t, raw.Delete([]byte("lch"), true)) })
			},
		},
		{
			name: "index without an entry", kind: checkIndex, block: 7, tx: 1, severity: Damage, problem: "the entry is missing", alone: true,
			harm: func(t *testing.T, dir string) {
				inIndex(t, dir, func(s *kv.Store) { must(t, s.Delete([]byte("t"+txid(7, 1)), true)) })
			},
		},
		{
			name: "index with another code", kind: checkIndex, block: 7, tx: 1, severity: Damage, problem: "the entry is MVCC_READ_CONFLICT, it should be VALID", alone: true,
			harm: func(t *testing.T, dir string) {
				inIndex(t, dir, func(s *kv.Store) { must(t, s.Put([]byte("v"+txid(7, 1)), []byte{11}, true)) })
			},
		},
		{
			name: "index with another place", kind: checkIndex, block: 7, tx: none, severity: Damage, problem: "it should be file", alone: true,
			harm: func(t *testing.T, dir string) {
				inIndex(t, dir, func(s *kv.Store) { must(t, s.Put(kv.AppendOPV([]byte("n"), 7), []byte{0, 1, 0}, true)) })
			},
		},
		{
			name: "index of an orderer with another place", orderer: true, kind: checkIndex, block: 7, tx: none, severity: Damage, problem: "it should be file", alone: true,
			harm: func(t *testing.T, dir string) {
				edit(t, dir, "index", func(_, s *kv.Store) { must(t, s.Put(kv.AppendOPV([]byte("n"), 7), []byte{0, 1, 0}, true)) })
			},
		},
		{
			name: "index with a malformed entry", kind: checkIndex, block: 7, tx: 0, severity: Damage, problem: "which is malformed", alone: true,
			harm: func(t *testing.T, dir string) {
				inIndex(t, dir, func(s *kv.Store) { must(t, s.Put([]byte("t"+txid(7, 0)), []byte{0xff}, true)) })
			},
		},
		{
			name: "index with an entry too many", kind: checkIndex, block: none, tx: none, severity: Damage, problem: "there is nothing in the blocks that the entry", alone: true,
			harm: func(t *testing.T, dir string) {
				inIndex(t, dir, func(s *kv.Store) { must(t, s.Put([]byte("tnobody"), []byte{0, 1, 5}, true)) })
			},
		},
		{
			name: "checkpoint of garbage", kind: checkIndex, block: none, tx: none, severity: Repair, problem: "the checkpoint counts 200 blocks", alone: true,
			harm: func(t *testing.T, dir string) {
				inIndex(t, dir, func(s *kv.Store) {
					must(t, s.Put([]byte("blkMgrInfo"), append(binary.AppendUvarint([]byte{3, 9}, 199), 0), true))
				})
			},
		},
		{
			name: "no index", kind: checkIndex, block: none, tx: none, severity: Repair, problem: "the database is missing", alone: true,
			harm: func(t *testing.T, dir string) {
				must(t, os.RemoveAll(filepath.Join(dir, "ledgersData/chains/index")))
			},
		},
		{
			name: "table of the state", kind: checkState, block: none, tx: none, severity: Damage, problem: "the database cannot be read",
			harm: func(t *testing.T, dir string) { harmTable(t, dir, "stateLeveldb") },
		},
		{
			name: "table of the private data", kind: checkPrivate, block: none, tx: none, severity: Damage, problem: "the database cannot be read",
			harm: func(t *testing.T, dir string) { harmTable(t, dir, "pvtdataStore") },
		},
		{
			name: "table of the index", kind: checkIndex, block: none, tx: none, severity: Damage, problem: "the database cannot be read",
			harm: func(t *testing.T, dir string) { harmTable(t, dir, "chains/index") },
		},
		{
			name: "manifest of the history", kind: checkHistory, block: none, tx: none, severity: Damage, problem: "the database cannot be read",
			harm: func(t *testing.T, dir string) {
				all, err := filepath.Glob(filepath.Join(dir, "ledgersData/historyLeveldb/MANIFEST-*"))
				must(t, err)
				must(t, os.WriteFile(all[0], []byte("garbage"), 0o600))
			},
		},
		{
			name: "torn journal of the state", kind: checkState, block: none, tx: none, severity: Repair, problem: "at the end of the journal are no complete batch", alone: true,
			harm: func(t *testing.T, dir string) {
				all, err := filepath.Glob(filepath.Join(dir, "ledgersData/stateLeveldb/*.log"))
				must(t, err)
				appendTo(t, all[len(all)-1], []byte("torn"))
			},
		},
		{
			name: "value of the state that does not decode", kind: checkState, block: none, tx: none, severity: Damage, problem: "does not decode", alone: true,
			harm: func(t *testing.T, dir string) {
				edit(t, dir, "ledgersData/stateLeveldb", func(_, s *kv.Store) { must(t, s.Put([]byte("cc\x00k1"), []byte{0, 0xff}, true)) })
			},
		},
		{
			name: "value of the state", kind: checkState, block: none, tx: none, severity: Damage, problem: `the state has value "forged" of version`, alone: true,
			options: Options{State: true},
			harm: func(t *testing.T, dir string) {
				edit(t, dir, "ledgersData/stateLeveldb", func(_, s *kv.Store) {
					must(t, s.Put([]byte("cc\x00k1"), append([]byte{0, 10, 4, 1, 13, 1, 1, 18, 6}, "forged"...), true))
				})
			},
		},
		{
			name: "key of the state", kind: checkState, block: none, tx: none, severity: Damage, problem: `the state has no such key, a rebuild`, alone: true,
			options: Options{State: true},
			harm: func(t *testing.T, dir string) {
				edit(t, dir, "ledgersData/stateLeveldb", func(_, s *kv.Store) { must(t, s.Delete([]byte("cc\x00k1"), true)) })
			},
		},
		{
			name: "configuration in the state", kind: checkState, block: configBlock, tx: none, severity: Damage, problem: "is not that of the last configuration block", alone: true,
			harm: func(t *testing.T, dir string) {
				edit(t, dir, "ledgersData/stateLeveldb", func(_, s *kv.Store) {
					must(t, s.Put([]byte("\x00resourcesconfigtx.CHANNEL_CONFIG_KEY"), []byte{0, 10, 3, 1, 5, 0}, true))
				})
			},
		},
		{
			name: "state ahead", kind: checkState, block: none, tx: none, severity: Damage, problem: "the state database [height=21] is ahead of the block store [height=14]", alone: true,
			harm: func(t *testing.T, dir string) {
				edit(t, dir, "ledgersData/stateLeveldb", func(_, s *kv.Store) { must(t, s.Put([]byte{0}, []byte{1, 20, 0}, true)) })
			},
		},
		{
			name: "no state", kind: checkState, block: none, tx: none, severity: Repair, problem: "the database is missing", alone: true,
			harm: func(t *testing.T, dir string) { must(t, os.RemoveAll(filepath.Join(dir, "ledgersData/stateLeveldb"))) },
		},
		{
			name: "history without an entry", kind: checkHistory, block: 7, tx: 1, severity: Damage, problem: "the history does not have this write", alone: true,
			harm: func(t *testing.T, dir string) {
				edit(t, dir, "ledgersData/historyLeveldb", func(_, s *kv.Store) { must(t, s.Delete([]byte("cc\x00k1\x00\x01\x07\x01\x01"), true)) })
			},
		},
		{
			name: "history with an entry too many", kind: checkHistory, block: none, tx: none, severity: Damage, problem: "1 of 45 entries are of no write", alone: true,
			harm: func(t *testing.T, dir string) {
				edit(t, dir, "ledgersData/historyLeveldb", func(_, s *kv.Store) { must(t, s.Put([]byte("cc\x00zz\x00\x01\x07\x01\x01"), nil, true)) })
			},
		},
		{
			name: "private data", kind: checkPrivate, block: privateBlock, tx: 1, severity: Damage, problem: "the hash of the private write set is", alone: true,
			harm: func(t *testing.T, dir string) {
				edit(t, dir, "ledgersData/pvtdataStore", func(_, s *kv.Store) {
					key := []byte("\x02\x01\x03\x01\x01cc\x00stays")
					v, err := s.Get(key)
					must(t, err)
					flip(v)
					must(t, s.Put(key, v, true))
				})
			},
		},
		{
			name: "private data gone", kind: checkPrivate, block: privateBlock, tx: 1, severity: Warning, problem: "neither here nor listed as missing", alone: true,
			harm: func(t *testing.T, dir string) {
				edit(t, dir, "ledgersData/pvtdataStore", func(_, s *kv.Store) { must(t, s.Delete([]byte("\x02\x01\x03\x01\x01cc\x00stays"), true)) })
			},
		},
		{
			name: "private data of nothing", kind: checkPrivate, block: 7, tx: 9, severity: Damage, problem: "the block has no such transaction", alone: true,
			harm: func(t *testing.T, dir string) {
				edit(t, dir, "ledgersData/pvtdataStore", func(_, s *kv.Store) {
					must(t, s.Put([]byte("\x02\x01\x07\x01\x09cc\x00stays"), []byte{10, 5, 's', 't', 'a', 'y', 's'}, true))
				})
			},
		},
		{
			name: "private data behind", kind: checkPrivate, block: none, tx: none, severity: Damage, problem: "the private data store ends before block [10]", alone: true,
			harm: func(t *testing.T, dir string) {
				edit(t, dir, "ledgersData/pvtdataStore", func(_, s *kv.Store) { must(t, s.Put([]byte{1}, []byte{9}, true)) })
			},
		},
		{
			name: "private data prepared", kind: checkPrivate, block: none, tx: none, severity: Repair, problem: "the private data of block [14] are prepared", alone: true,
			harm: func(t *testing.T, dir string) {
				edit(t, dir, "ledgersData/pvtdataStore", func(_, s *kv.Store) { must(t, s.Put([]byte{0}, nil, true)) })
			},
		},
		{
			name: "no private data store", kind: checkPrivate, block: none, tx: none, severity: Damage, problem: "the database is missing", alone: true,
			harm: func(t *testing.T, dir string) { must(t, os.RemoveAll(filepath.Join(dir, "ledgersData/pvtdataStore"))) },
		},
		{
			name: "no bookkeeper", kind: checkBooks, block: none, tx: none, severity: Damage, problem: "the database is missing", alone: true,
			harm: func(t *testing.T, dir string) { must(t, os.RemoveAll(filepath.Join(dir, "ledgersData/bookkeeper"))) },
		},
		{
			name: "no hint", kind: checkBooks, block: none, tx: none, severity: Damage, problem: "it is not noted that the namespace has had metadata", alone: true,
			options: Options{State: true},
			harm: func(t *testing.T, dir string) {
				edit(t, dir, "ledgersData/bookkeeper", func(raw, _ *kv.Store) { must(t, raw.Delete([]byte("ch/1\x00cc"), true)) })
			},
		},
		{
			name: "no schedule", kind: checkBooks, block: none, tx: none, severity: Damage, problem: "the entry is missing", alone: true,
			options: Options{State: true},
			harm: func(t *testing.T, dir string) {
				edit(t, dir, "ledgersData/bookkeeper", func(raw, _ *kv.Store) {
					it := raw.Scan([]byte("ch/0\x00"), []byte("ch/0\x01"))
					for it.Next() {
						must(t, raw.Delete(bytes.Clone(it.Key()), true))
					}
					it.Close()
				})
			},
		},
		{
			name: "no entry in the configuration history", kind: checkBooks, block: none, tx: none, severity: Damage, problem: "the entry is missing", alone: true,
			options: Options{State: true},
			harm: func(t *testing.T, dir string) {
				edit(t, dir, "ledgersData/configHistory", func(_, s *kv.Store) {
					must(t, s.Delete([]byte("slscc\x00cc~collection\xff\xff\xff\xff\xff\xff\xff\xfe"), true))
				})
			},
		},
		{
			name: "stopped while creating", kind: checkList, block: none, tx: none, severity: Damage, problem: "under construction flag is set", alone: true,
			harm: func(t *testing.T, dir string) {
				edit(t, dir, "ledgersData/ledgerProvider", func(raw, _ *kv.Store) { must(t, raw.Put([]byte("underConstructionLedgerKey"), []byte("ch"), true)) })
			},
		},
		{
			name: "no list", kind: checkList, block: none, tx: none, severity: Damage, problem: "the database is missing", alone: true,
			harm: func(t *testing.T, dir string) {
				must(t, os.RemoveAll(filepath.Join(dir, "ledgersData/ledgerProvider")))
			},
		},
		{
			name: "rolled back", kind: checkFiles, block: none, tx: none, severity: Note, problem: "was rolled back or reset from height 20", alone: true,
			harm: func(t *testing.T, dir string) {
				must(t, os.WriteFile(filepath.Join(filepath.Dir(blockFile(dir, "0")), "__preResetHeight"), []byte("20"), 0o640))
			},
		},
	}
}

// encodeRecord is a block as it lies in a block file.
func encodeRecord(b *common.Block) []byte {
	field := func(to, f []byte) []byte { return append(binary.AppendUvarint(to, uint64(len(f))), f...) }
	body := binary.AppendUvarint(nil, b.Header.Number)
	body = field(field(body, b.Header.DataHash), b.Header.PreviousHash)
	for _, list := range [][][]byte{b.Data.Data, b.Metadata.Metadata} {
		body = binary.AppendUvarint(body, uint64(len(list)))
		for _, f := range list {
			body = field(body, f)
		}
	}
	return field(nil, body)
}

// harmTable turns a database into tables only, and flips a bit in one.
func harmTable(t *testing.T, dir, name string) {
	t.Helper()
	at := filepath.Join(dir, "ledgersData", name)
	db, err := kv.Open(kv.Config{Dir: at})
	must(t, err)
	must(t, db.Compact())
	must(t, db.Close())
	all, err := filepath.Glob(filepath.Join(at, "*.ldb"))
	must(t, err)
	for _, table := range all {
		raw, err := os.ReadFile(table)
		must(t, err)
		raw[len(raw)/4] ^= 4
		must(t, os.WriteFile(table, raw, 0o600))
	}
}

// TestDamage damages copies of a sound directory in one way each. What is found
// must name the place; nothing may change.
func TestDamage(t *testing.T) {
	m := madeChain(t)
	for _, c := range damages(m) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := copyDir(t, m.peer)
			if c.orderer {
				dir = copyDir(t, m.orderer)
			}
			c.harm(t, dir)
			r := verify(t, dir, c.options)
			if (c.severity == Damage) == r.Sound {
				t.Errorf("sound: %v", r.Sound)
			}
			all := append([]Finding{}, r.Findings...)
			for _, ch := range r.Channels {
				all = append(all, ch.Findings...)
			}
			c.compare(t, all)
		})
	}
}

func (c *damage) compare(t *testing.T, all []Finding) {
	t.Helper()
	if c.alone && len(all) != 1 {
		t.Errorf("%d findings", len(all))
	}
	for i := range all {
		f := &all[i]
		switch {
		case f.Severity != c.severity, f.Kind != c.kind, !strings.Contains(f.Problem, c.problem):
		case c.block >= 0 && (f.Block == nil || *f.Block != uint64(c.block)), c.tx >= 0 && (f.Tx == nil || *f.Tx != c.tx):
		case f.File == "" && f.Database == "":
			t.Errorf("no place: %s", show(f))
			return
		case f.Severity == Damage && f.Remedy == "":
			t.Errorf("no remedy: %s", show(f))
			return
		case c.orderer && strings.Contains(f.Remedy, "peer"):
			t.Errorf("a peer's remedy: %s", show(f))
			return
		default:
			t.Logf("%s: %s", f.Where(), f.Problem)
			return
		}
	}
	t.Errorf("not found among %s", show(all))
}
