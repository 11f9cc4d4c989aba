package channel

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/testnet/testchain"
	"github.com/heddle-ledger/heddle/ledger"
	"github.com/heddle-ledger/heddle/ledger/kv"
)

// grow joins a channel and adds a block that names a last config block, in the
// slots given.
func (p peerDir) grow(net *testchain.Net, id string, change func(slots [][]byte)) {
	p.t.Helper()
	ledgers, err := ledger.OpenProvider(ledger.Config{Dir: p.dir, Log: flog.Nop()})
	must(p.t, err)
	genesis := net.Genesis(id)
	l, err := ledgers.Create(genesis)
	must(p.t, err)
	b := net.Block(1, genesis.Header, 0, []byte("no transaction"))
	change(b.Metadata.Metadata)
	v := protoutil.ParseBlock(b)
	v.SetFlags([]byte{byte(peer.TxValidationCode_BAD_PAYLOAD)})
	must(p.t, l.Commit(v))
	must(p.t, ledgers.Close())
}

func lastConfig(n uint64) []byte {
	return protoutil.Marshal(&common.Metadata{Value: protoutil.Marshal(&common.LastConfig{Index: n})})
}

// TestLastConfigBlock: the block named in slot 1 of the last block, 0 if that is
// empty, must be there; what slot 0 says does not count (LEDGER §17.6).
func TestLastConfigBlock(t *testing.T) {
	t.Parallel()
	const gone = "Entry not found in index"
	for name, tc := range map[string]struct {
		change func(slots [][]byte)
		err    string // "" if the channel opens
	}{
		"empty":        {func(s [][]byte) { s[1] = nil }, ""},
		"itself":       {func(s [][]byte) { s[1] = lastConfig(1) }, ""},
		"not there":    {func(s [][]byte) { s[1] = lastConfig(2) }, gone},
		"slot 0 wrong": {func(s [][]byte) { s[0], s[1] = lastConfig(2), nil }, ""},
		"both":         {func(s [][]byte) { s[0], s[1] = lastConfig(0), lastConfig(2) }, gone},
		"garbage":      {func(s [][]byte) { s[1] = []byte{0xff} }, "error unmarshaling metadata at index [LAST_CONFIG]"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			net, log := testchain.New(t), &logCatcher{}
			dir := peerDir{t: t, dir: t.TempDir(), log: flog.ForTest(log)}
			dir.grow(net, "ch", tc.change)
			dir.grow(net, "ok", func([][]byte) {})
			r := dir.start(0)
			_, open := r.Channel("ch")
			if open != (tc.err == "") {
				t.Errorf("open: %v", open)
			}
			if !open {
				log.wait("Failed to find config block on ledger ch(" + tc.err)
				if err := r.Join(net.Genesis("ch")); err == nil || !strings.HasSuffix(err.Error(), ": LedgerID already exists") {
					t.Errorf("join again: %v", err)
				}
			}
			if _, ok := r.Channel("ok"); !ok {
				t.Error("the other channel is closed too")
			}
			must(t, r.stop())
		})
	}
}

// TestConfigurationMissingInState: data of 1.0 have none there; the config block
// takes its place (LEDGER §4.3). If the state has one, the block's is not used.
func TestConfigurationMissingInState(t *testing.T) {
	t.Parallel()
	net := testchain.New(t)
	dir := newPeerDir(t)
	dir.grow(net, "ch", func([][]byte) {})
	dir.grow(net, "two", func(s [][]byte) { s[1] = lastConfig(1) }) // no config block
	db, err := kv.Open(kv.Config{Dir: filepath.Join(dir.dir, "stateLeveldb")})
	must(t, err)
	must(t, db.Store("ch").Delete([]byte("\x00resourcesconfigtx.CHANNEL_CONFIG_KEY"), true))
	must(t, db.Close())
	r := dir.start(0)
	for _, id := range []string{"ch", "two"} {
		if got := r.channel(id).Bundle().ChannelID(); got != id {
			t.Errorf("configuration of %s", got)
		}
	}
	must(t, r.stop())
}

// TestUnreadableBlockStoreStopsTheProcess: what 1.4 panics at is not a channel
// left out (LEDGER §2.3).
func TestUnreadableBlockStoreStopsTheProcess(t *testing.T) {
	t.Parallel()
	net := testchain.New(t)
	for name, damage := range map[string]func(dir string) error{
		"name of a file": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "chains/chains/ch/blockfile_x"), nil, 0o600)
		},
		"checkpoint": func(dir string) error {
			db, err := kv.Open(kv.Config{Dir: filepath.Join(dir, "chains/index")})
			if err != nil {
				return err
			}
			if err := db.Store("ch").Put([]byte("blkMgrInfo"), []byte{0xff}, true); err != nil {
				return err
			}
			return db.Close()
		},
	} {
		dir := newPeerDir(t)
		dir.grow(net, "ch", func([][]byte) {})
		must(t, damage(dir.dir))
		if _, err := dir.reopen(); !ledger.IsFatal(err) || !strings.Contains(err.Error(), "open ledger [ch]: open block store: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
