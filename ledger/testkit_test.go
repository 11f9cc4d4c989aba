package ledger

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger/kv"
	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb"
)

func gunzip(t testing.TB, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func readVector(t testing.TB, name string, into any) {
	t.Helper()
	if err := json.Unmarshal(gunzip(t, name), into); err != nil {
		t.Fatal(err)
	}
}

// untar puts an archive into a file system in memory, below /root.
func untar(t testing.TB, name string) *vfs.Mem {
	t.Helper()
	fs := smallDisk()
	r := tar.NewReader(bytes.NewReader(gunzip(t, name)))
	for {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return fs
		}
		if err != nil {
			t.Fatal(err)
		}
		to := path.Join("/root", h.Name)
		if h.Typeflag == tar.TypeDir {
			if err := fs.MkdirAll(to, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := vfs.WriteFile(fs, to, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

const testDir = "/root/ledgersData"

// vectorConfig is the configuration under which the vectors were recorded.
func vectorConfig(t testing.TB, fs vfs.FS) Config {
	return Config{
		Dir: testDir, FS: fs, History: true, PurgeInterval: 5, Log: testLog(t),
		CollElgBatchesEvery: 1, manual: true,
		Membership: func(_ string, p *peer.CollectionPolicyConfig) (bool, error) {
			for _, id := range p.GetSignaturePolicy().GetIdentities() {
				if string(id.Principal) == "org1" {
					return true, nil
				}
			}
			return false, nil
		},
	}
}

func testLog(t testing.TB) *flog.Logger {
	if testing.Verbose() {
		if _, isBench := t.(*testing.B); !isBench {
			return flog.ForTest(t)
		}
	}
	return flog.Nop()
}

func openProvider(t testing.TB, cfg Config) *Provider {
	t.Helper()
	p, err := OpenProvider(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func openLedger(t testing.TB, p *Provider, id string) *Ledger {
	t.Helper()
	l, err := p.Open(id)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// allBlocks reads the blocks of a channel from a recorded directory.
func allBlocks(t testing.TB, archive, id string) []*common.Block {
	t.Helper()
	p := openProvider(t, vectorConfig(t, untar(t, archive)))
	defer p.Close()
	l := openLedger(t, p, id)
	var out []*common.Block
	for n := range l.Height() {
		b, err := l.BlockByNumber(n)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, proto.Clone(b).(*common.Block))
	}
	return out
}

// databases are the leveldb directories compared with the vectors.
var databases = []string{"bookkeeper", "chains/index", "configHistory", "historyLeveldb", "ledgerProvider", "pvtdataStore", "stateLeveldb"}

// dump reads every key and value of the databases of a closed directory.
func dump(t testing.TB, fs vfs.FS) map[string]map[string]string {
	t.Helper()
	out := map[string]map[string]string{}
	for _, name := range databases {
		db, err := kv.Open(kv.Config{Dir: path.Join(testDir, name), FS: fs})
		if err != nil {
			t.Fatal(err)
		}
		m := map[string]string{}
		it := db.Raw().Scan(nil, nil)
		for it.Next() {
			m[hex.EncodeToString(it.Key())] = hex.EncodeToString(it.Value())
		}
		it.Close()
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		out[name] = m
	}
	return out
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func privateSet(t testing.TB, s string) *rwset.TxPvtReadWriteSet {
	t.Helper()
	set := &rwset.TxPvtReadWriteSet{}
	if err := proto.Unmarshal(unhex(t, s), set); err != nil {
		t.Fatal(err)
	}
	return set
}

// onCouchDB lets a configuration have its state on a CouchDB server.
func onCouchDB(t testing.TB, cfg *Config, couch couchdb.Config) {
	cfg.OpenState = func() (state.Provider, error) { return couchdb.OpenProvider(t.Context(), couch) }
	cfg.DropState = func(ctx context.Context, ids []string) error {
		p, err := couchdb.OpenProvider(ctx, couch)
		if err != nil {
			return err
		}
		return errors.Join(p.DropChannels(ctx, ids), p.Close())
	}
}
