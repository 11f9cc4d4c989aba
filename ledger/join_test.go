package ledger

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/failpoint"
	"github.com/heddle-ledger/heddle/internal/vfs"
	sets "github.com/heddle-ledger/heddle/ledger/rwset"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb/couchtest"
)

// TestJoinAgain: a channel whose creation failed, wherever, can be created by
// another attempt of the same process, with the same block.
func TestJoinAgain(t *testing.T) {
	for call, attempts := range map[string]int{"open": 3, "savepoint": 3, "apply": 3, "applied": 1} {
		synctest.Test(t, func(t *testing.T) {
			f := newFarLedger(t)
			other := proto.CloneOf(genesisOf("new"))
			other.Header.DataHash = []byte("of another block")
			for range attempts {
				f.state.set(always(errAway, call))
				l, err := f.p.Create(genesisOf("new"))
				if l != nil || !errors.Is(err, errAway) {
					t.Fatalf("%s: got %v, %v", call, l, err)
				}
			}
			f.state.set(nil)
			if call == "apply" || call == "applied" { // the block is stored
				if _, err := f.p.Create(other); err == nil {
					t.Errorf("%s: another block in its place", call)
				}
			}
			l, err := f.p.Create(genesisOf("new"))
			must(t, err)
			if again, err := f.p.Open("new"); err != nil || again != l {
				t.Errorf("%s: opened: %v, %v", call, again, err)
			}
			genesis, err := l.BlockByNumber(0)
			must(t, err)
			r := sets.NewBuilder()
			r.Write("cc", "k", []byte("v"))
			b, _ := blockOf(t, genesis, r)
			must(t, l.Commit(b))
			must(t, f.p.Close())
			p, err := OpenProvider(f.cfg)
			must(t, err)
			ids, err := p.List()
			if err != nil || len(ids) != 2 || openLedger(t, p, "new").Height() != 2 {
				t.Errorf("%s: %v, %v", call, ids, err)
			}
			must(t, p.Close())
		})
	}
}

// TestJoinAgainAfterEachPoint: so it is after an attempt that was cut short, and
// after a start that did not get to its end.
func TestJoinAgainAfterEachPoint(t *testing.T) {
	t.Parallel()
	stop := errors.New("stop")
	for _, point := range []string{
		PointAfterConstructionFlag, PointBeforePrepare, PointAfterPrepare, PointAfterBlock, PointAfterPrivate, PointAfterState, PointAfterHistory, PointAfterGenesisCommit,
	} {
		points := &failpoint.Points{}
		points.Arm(point, func(int) error { return stop })
		p := openProvider(t, Config{Dir: testDir, FS: vfs.NewMem(), History: true, Points: points, manual: true})
		if l, err := p.Create(genesisOf("ch")); !errors.Is(err, stop) || l != nil {
			t.Fatalf("%s: got %v, %v", point, l, err)
		}
		points.Disarm(point)
		l, err := p.Create(genesisOf("ch"))
		if err != nil {
			t.Fatalf("%s: %v", point, err)
		}
		if l.Height() != 1 {
			t.Errorf("%s: height %d", point, l.Height())
		}
		must(t, p.Close())
	}
}

// TestConstructionIsFinishedOrInterrupted: a start that has a creation to finish
// waits for the state database, but not when it is told to end.
func TestConstructionIsFinishedOrInterrupted(t *testing.T) {
	for _, ends := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f := newFarLedger(t)
			must(t, f.p.list.Put([]byte(keyUnderConstruction), []byte("new"), true))
			must(t, f.p.Close())
			f.state.set(until(time.Now().Add(20*time.Second), errAway, "savepoint"))
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if ends {
				time.AfterFunc(5*time.Second, cancel)
			}
			begun := time.Now()
			p, err := OpenProviderContext(ctx, f.cfg)
			switch {
			case ends:
				if !errors.Is(err, context.Canceled) || time.Since(begun) != 5*time.Second {
					t.Errorf("got %v after %s", err, time.Since(begun))
				}
			case err != nil:
				t.Error(err)
			default:
				must(t, p.Close())
			}
		})
	}
}

// TestLeftoversOfDrops: what an interrupted command left under another name goes
// with the next start.
func TestLeftoversOfDrops(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	cfg := Config{Dir: testDir, FS: disk, manual: true}
	p := openProvider(t, cfg)
	_, err := p.Create(genesisOf("ch"))
	must(t, err)
	must(t, p.Close())
	names := append(dropped(), dirIndex)
	for _, name := range names {
		dir := path.Join(testDir, name)
		must(t, disk.Rename(dir, dir+".dropped"))
	}
	must(t, disk.MkdirAll(path.Join(testDir, "chains/chains/ch.dropped"), 0o755)) // not ours
	p = openProvider(t, cfg)
	for _, name := range names {
		if _, err := disk.Stat(path.Join(testDir, name+".dropped")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := disk.Stat(path.Join(testDir, "chains/chains/ch.dropped")); err != nil {
		t.Error(err)
	}
	var genesis *common.Block
	if genesis, err = openLedger(t, p, "ch").BlockByNumber(0); err != nil || genesis.Header.Number != 0 {
		t.Error(err)
	}
}

// TestJoinOfAChainThatIsThere: the list of channels was lost, or is older than the
// blocks. To join the channel is refused, and the peer starts all the same.
func TestJoinOfAChainThatIsThere(t *testing.T) {
	t.Parallel()
	disk := vfs.NewMem()
	cfg := Config{Dir: testDir, FS: disk, manual: true}
	p := openProvider(t, cfg)
	l, err := p.Create(genesisOf("ch"))
	must(t, err)
	for _, b := range smallChain(genesisOf("ch"), 2, noPrivateData) {
		must(t, l.Commit(b))
	}
	must(t, p.Close())
	must(t, disk.RemoveAll(path.Join(testDir, dirProvider)))
	p = openProvider(t, cfg)
	for range 2 {
		if _, err := p.Create(genesisOf("ch")); err == nil || !strings.Contains(err.Error(), "does not know channel [ch]") {
			t.Errorf("got %v", err)
		}
	}
	_, err = p.Create(genesisOf("other"))
	must(t, err)
	must(t, p.Close())
	p = openProvider(t, cfg)
	if ids, err := p.List(); err != nil || len(ids) != 1 {
		t.Error(ids, err)
	}
}

// TestJoinAgainOverCouchDB: the server fails from any of its requests on, and is
// there again for the next attempt.
func TestJoinAgainOverCouchDB(t *testing.T) {
	t.Parallel()
	for n := int64(1); ; n++ {
		var requests atomic.Int64
		fails := atomic.Bool{}
		server := couchtest.New()
		address := couchtest.Start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if fails.Load() && requests.Add(1) >= n {
				http.Error(w, `{"error":"internal_server_error","reason":"test"}`, http.StatusInternalServerError)
				return
			}
			server.ServeHTTP(w, r)
		}))
		cfg := Config{Dir: testDir, FS: vfs.NewMem(), History: true, manual: true}
		onCouchDB(t, &cfg, couchdb.Config{Address: address})
		p := openProvider(t, cfg)
		fails.Store(true)
		l, err := p.Create(genesisOf("ch"))
		fails.Store(false)
		whole := err == nil
		if !whole {
			if l, err = p.Create(genesisOf("ch")); err != nil {
				t.Fatalf("request %d: %v", n, err)
			}
		}
		b, err := l.BlockByNumber(0)
		must(t, err)
		q, err := l.NewQueryExecutor()
		if err != nil {
			t.Fatalf("request %d: %v", n, err)
		}
		q.Done()
		r := sets.NewBuilder()
		r.Write("cc", "k", []byte("v"))
		next, _ := blockOf(t, b, r)
		must(t, l.Commit(next))
		if sp, err := l.state.Savepoint(); err != nil || sp == nil || sp.Block != 1 {
			t.Errorf("request %d: savepoint %v, %v", n, sp, err)
		}
		must(t, p.Close())
		if whole {
			if n < 5 {
				t.Errorf("%d requests", n-1)
			}
			return
		}
	}
}
