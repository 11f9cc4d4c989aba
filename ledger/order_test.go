package ledger

import (
	"path"
	"strings"
	"sync"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"

	"github.com/heddle-ledger/heddle/internal/failpoint"
	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/internal/vfs/errorfs"
)

// durability watches the order in which stores write and sync. Stores are block
// files and the journals of databases; what a database writes beside its journal
// it syncs by itself.
type durability struct {
	t *testing.T

	mu     sync.Mutex // guards what follows
	dirty  map[string]bool
	writes map[string]int
	phase  string // the last crash point that was passed
}

const closing = "the end"

// storeOf is the name under which a file is watched, "" if it is not.
func storeOf(file string) string {
	switch dir := path.Base(path.Dir(file)); {
	case strings.HasPrefix(path.Base(file), "blockfile_"):
		return "block file"
	case path.Ext(file) == ".log":
		return dir
	}
	return ""
}

func (d *durability) hook(op errorfs.Op, file string) error {
	store := storeOf(file)
	if store == "" {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch op {
	case errorfs.OpWrite:
		if d.phase == closing { // goleveldb ends its journals with empty writes
			return nil
		}
		d.written(store)
		// The removal of processed schedule entries may become durable at any time.
		d.dirty[store] = store != dirBookkeeper || d.phase != PointAfterState
		d.writes[store]++
	case errorfs.OpSync:
		d.dirty[store] = false
	}
	return nil
}

// written checks the letters of LEDGER §15.3 at the moment of a write.
func (d *durability) written(store string) {
	clean := func(letter string, stores ...string) {
		for _, s := range stores {
			if d.dirty[s] {
				d.t.Errorf("§15.3 %s: %s is written while writes of %s are not durable (behind %s)", letter, store, s, d.phase)
			}
		}
	}
	switch store {
	case "block file":
		// What the private store knows of the block, eligibility events (c.) too.
		clean("a", dirPrivate, dirConfHistory)
	case "index":
		clean("b", "block file")
	case dirHistory:
		clean("b", "block file")
	case dirState:
		clean("b", "block file")
		clean("c", dirBookkeeper, dirConfHistory)
	case dirBookkeeper:
		if d.phase == PointAfterState {
			clean("d", dirState)
		}
	case dirPrivate:
		if d.phase == PointAfterOldState {
			clean("e", dirState)
		}
	}
}

// TestOrderOfDurability takes the recorded chain, with all its private data,
// reconciliations and expiries, through the ledger, then once more through its
// replay, and looks at every write.
func TestOrderOfDurability(t *testing.T) {
	script := readScript(t)
	d := &durability{t: t, dirty: map[string]bool{}, writes: map[string]int{}}
	mem := vfs.NewMem()
	cfg := vectorConfig(t, errorfs.New(mem, d.hook))
	cfg.Points = &failpoint.Points{}
	for _, point := range []string{
		PointBeforePrepare, PointAfterBlock, PointAfterBookkeeping, PointAfterState, PointAfterPurge,
		PointAfterOldPrivate, PointAfterOldBookkeeping, PointAfterOldState,
	} {
		cfg.Points.Arm(point, func(int) error {
			d.mu.Lock()
			defer d.mu.Unlock()
			d.phase = point
			return nil
		})
	}
	p := openProvider(t, cfg)
	must(t, script.run(t, p, map[int]bool{}))
	d.phase = closing
	must(t, p.Close())
	for _, store := range []string{"block file", "index", dirState, dirHistory, dirBookkeeper, dirConfHistory, dirPrivate} {
		if d.writes[store] == 0 {
			t.Errorf("no write of %s was seen", store)
		}
	}

	for _, dir := range []string{dirState, dirBookkeeper, dirConfHistory, dirHistory} {
		must(t, mem.RemoveAll(path.Join(testDir, dir)))
		d.dirty[dir] = false
	}
	d.writes, d.phase = map[string]int{}, ""
	p = openProvider(t, cfg)
	openLedger(t, p, "vecch")
	d.phase = closing
	must(t, p.Close())
	if d.writes[dirState] == 0 || d.writes["block file"] > 0 {
		t.Errorf("writes of the replay: %v", d.writes)
	}
}

// TestSyncsOfAPlainBlock: a block without private data and metadata costs one
// sync of the block file and one of the private store, at most; nothing else is
// waited for (LEDGER §15.3).
func TestSyncsOfAPlainBlock(t *testing.T) {
	syncs := map[string]int{}
	var mu sync.Mutex
	fs := errorfs.New(vfs.NewMem(), func(op errorfs.Op, file string) error {
		if store := storeOf(file); op == errorfs.OpSync && store != "" {
			mu.Lock()
			defer mu.Unlock()
			syncs[store]++
		}
		return nil
	})
	p := openProvider(t, Config{Dir: testDir, FS: fs, History: true, manual: true})
	genesis := genesisOf("ch")
	create(t, p, genesis)
	l := openLedger(t, p, "ch")
	clear(syncs)
	prev := genesis
	for range 5 {
		b := stampBlock(t, prev)
		must(t, l.CommitWithPrivateData(b, &PrivateData{Sets: map[uint64]*rwset.TxPvtReadWriteSet{}}))
		prev = &common.Block{Header: b.Proto().Header}
	}
	if syncs["block file"] != 5 || syncs[dirPrivate] != 5 || len(syncs) != 2 {
		t.Errorf("5 blocks took %v syncs", syncs)
	}
}
