package ledger

import (
	"bytes"
	"strings"
	"testing"

	"github.com/heddle-ledger/heddle/internal/flog"
)

// TestJoinWithoutList: when the list of channels is lost, a channel that has blocks
// cannot be joined, and the attempt does not keep the peer from starting.
func TestJoinWithoutList(t *testing.T) {
	t.Parallel()
	fsys := untar(t, "ledger_root.tar.gz")
	p := openProvider(t, vectorConfig(t, fsys))
	genesis, err := openLedger(t, p, "vecch").BlockByNumber(0)
	must(t, err)
	must(t, p.Close())
	must(t, fsys.RemoveAll(testDir+"/ledgerProvider"))
	var log bytes.Buffer
	logging, err := flog.New(&log, "%{message}", "warn")
	must(t, err)
	cfg := vectorConfig(t, fsys)
	cfg.Log = logging.Root()
	p = openProvider(t, cfg)
	for _, id := range []string{"vecch", "vecch.two"} {
		if want := "Channel [" + id + "] has block files, but is not in the list of channels " + testDir + "/ledgerProvider, so it is not opened\n"; !strings.Contains(log.String(), want) {
			t.Errorf("log: %s", log.String())
		}
	}
	want := "block number should have been 11 but was 0: the list of channels does not know channel [vecch], of which there are blocks: take the directory " + testDir + "/ledgerProvider from a backup"
	for range 2 {
		if _, err := p.Create(genesis); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v", err)
		}
	}
	must(t, p.Close())
	must(t, openProvider(t, vectorConfig(t, fsys)).Close())
}

// TestPrivateStoreLost: a start without the private store goes on as for an old
// channel, but not in silence.
func TestPrivateStoreLost(t *testing.T) {
	t.Parallel()
	fsys := untar(t, "ledger_root.tar.gz")
	must(t, fsys.RemoveAll(testDir+"/"+dirPrivate))
	var log bytes.Buffer
	logging, err := flog.New(&log, "%{message}", "warn")
	must(t, err)
	for _, want := range []string{"[vecch] The private data store is empty and begins behind block [10], as for a channel older than private data.", ""} {
		log.Reset()
		cfg := vectorConfig(t, fsys)
		cfg.Log = logging.Root()
		p := openProvider(t, cfg)
		openLedger(t, p, "vecch")
		must(t, p.Close())
		if !strings.HasPrefix(log.String(), want) || want == "" && log.Len() > 0 {
			t.Errorf("log: %q", log.String())
		}
	}
}

// TestSideStoreLost: the start goes on without it, as the reference does, and says
// what to do. After a drop of the state as well there is nothing to be said.
func TestSideStoreLost(t *testing.T) {
	t.Parallel()
	for _, alone := range []bool{true, false} {
		fsys := untar(t, "ledger_root.tar.gz")
		must(t, fsys.RemoveAll(testDir+"/"+dirBookkeeper))
		if !alone {
			must(t, fsys.RemoveAll(testDir+"/"+dirState))
		}
		var log bytes.Buffer
		logging, err := flog.New(&log, "%{message}", "warn")
		must(t, err)
		cfg := vectorConfig(t, fsys)
		cfg.Log = logging.Root()
		must(t, openProvider(t, cfg).Close())
		if alone != strings.HasPrefix(log.String(), "Database [bookkeeper] is missing, and the state [stateLeveldb] is not: ") || !alone && log.Len() > 0 {
			t.Errorf("log: %q", log.String())
		}
	}
}
