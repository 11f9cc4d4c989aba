package ledger

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-ledger/heddle/internal/vfs"
	sets "github.com/heddle-ledger/heddle/ledger/rwset"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb/couchtest"
)

// TestStateDroppedInPart after a rollback: values of later blocks would decide over
// transactions that are judged again. After a mere drop they do no harm.
func TestStateDroppedInPart(t *testing.T) {
	t.Parallel()
	server := couchtest.New()
	address := couchtest.Start(t, server)
	cfg := Config{Dir: testDir, FS: vfs.NewMem(), manual: true, History: true}
	onCouchDB(t, &cfg, couchdb.Config{Address: address, InternalQueryLimit: 2})
	p := openProvider(t, cfg)
	l, err := p.Create(genesisOf("ch"))
	must(t, err)
	for n := range 6 {
		prev, err := l.BlockByNumber(l.Height() - 1)
		must(t, err)
		r := sets.NewBuilder()
		for i := range 5 {
			r.Write("cc", fmt.Sprintf("k%d%d", n, i), []byte(`{"a":1}`))
		}
		r.Write("other", "k", fmt.Append(nil, n))
		b, _ := blockOf(t, prev, r)
		must(t, l.Commit(b))
	}
	whole := statesOf(server)
	reopen := func() error {
		t.Helper()
		p := openProvider(t, cfg)
		defer p.Close()
		_, err := p.Open("ch")
		return err
	}
	drop := func(names ...string) {
		for _, name := range names {
			server.Drop(name)
		}
	}
	must(t, p.Close())

	drop("ch_other")
	const gone = "the state database was dropped in part only: it has a savepoint, but database [ch_other] is gone, which blocks wrote to. Drop all databases of the channel, or use peer node rebuild-dbs"
	if err := reopen(); err == nil || err.Error() != gone || IsFatal(err) {
		t.Error(err)
	}
	drop("ch_", "ch_other")
	must(t, reopen())
	if d := cmp.Diff(whole, statesOf(server)); d != "" {
		t.Error(d)
	}

	must(t, Rollback(cfg, "ch", 3))
	if err := reopen(); err == nil || !strings.HasPrefix(err.Error(), "the state database [height=7] is ahead of the block store [height=4]. ") {
		t.Error(err)
	}
	drop("ch_", "ch_other")
	const want = "the state database was dropped in part only: it has no savepoint, but document [k30] of database [ch_cc] is of a block that the block store [height=4] does not have. Drop all databases of the channel, or use peer node rebuild-dbs"
	if err := reopen(); err == nil || err.Error() != want || IsFatal(err) {
		t.Error(err)
	}
	must(t, DropDatabases(t.Context(), cfg))
	must(t, reopen())
	if docs := server.Documents("ch_cc"); len(docs) != 15 {
		t.Errorf("%d documents", len(docs))
	}
}
