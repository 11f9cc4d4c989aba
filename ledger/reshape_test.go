package ledger

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"

	"github.com/heddle-ledger/heddle/internal/vfs"
	sets "github.com/heddle-ledger/heddle/ledger/rwset"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb/couchtest"
)

// TestReplayFindsWhatCommitsFound: CouchDB gives JSON back in another form, and
// what a block finds enters its commit hash when it only sets metadata, and decides
// whether a private value follows its hash (LEDGER §12.7, §13.3). A replay, which
// holds blocks back, must find the same.
func TestReplayFindsWhatCommitsFound(t *testing.T) {
	t.Parallel()
	server := couchtest.New()
	address := couchtest.Start(t, server)
	cfg := vectorConfig(t, vfs.NewMem())
	onCouchDB(t, &cfg, couchdb.Config{Address: address})
	p := openProvider(t, cfg)
	l, err := p.Create(genesisOf("ch"))
	must(t, err)
	var prev *common.Block
	for _, fill := range []func(r *sets.Builder){
		func(r *sets.Builder) { deployed(r, "org1") },
		func(r *sets.Builder) {
			r.Write("mycc", "json", []byte(`{"b": 1, "a": 1e3}`))
			r.Write("mycc", "text", []byte(`plain`))
			r.WritePrivate("mycc", "coll", "json", []byte(`{"b": 1, "a": "<"}`))
			r.WritePrivate("mycc", "coll", "text", []byte(`plain`))
		},
		func(r *sets.Builder) {
			for _, key := range []string{"json", "text"} {
				r.WriteMetadata("mycc", key, map[string][]byte{"m": []byte("v")})
				r.WritePrivateMetadata("mycc", "coll", key, map[string][]byte{"m": []byte("v")})
			}
		},
		func(r *sets.Builder) { r.Write("mycc", "json", []byte(`{"z": 1,"a":2}`)) }, // keeps its metadata
		func(r *sets.Builder) { r.WriteMetadata("mycc", "json", nil) },
	} {
		prev, err = l.BlockByNumber(l.Height() - 1)
		must(t, err)
		r := sets.NewBuilder()
		fill(r)
		b, private := blockOf(t, prev, r)
		must(t, l.CommitWithPrivateData(b, private))
	}
	before := statesOf(server)
	if len(before) < 4 {
		t.Fatalf("only %d databases", len(before))
	}
	must(t, p.Close())
	must(t, drops(cfg))
	p = openProvider(t, cfg)
	l = openLedger(t, p, "ch")
	must(t, l.ReplayDifference())
	if d := cmp.Diff(before, statesOf(server)); d != "" {
		t.Error(d)
	}
}

// statesOf are the documents of a server without their revisions.
func statesOf(f *couchtest.Fake) map[string]map[string]map[string]any {
	out := map[string]map[string]map[string]any{}
	for _, db := range f.Databases() {
		out[db] = f.Documents(db)
		for _, doc := range out[db] {
			delete(doc, "_rev")
			if all, ok := doc["_attachments"].(map[string]any); ok {
				for _, a := range all {
					delete(a.(map[string]any), "revpos")
				}
			}
		}
	}
	return out
}
