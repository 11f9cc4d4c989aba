package couchdb

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb/couchtest"
)

// fillChannel gives a channel one key in each namespace, and a collection.
func fillChannel(t *testing.T, p *Provider, channel string, namespaces ...string) {
	t.Helper()
	db, err := p.Open(channel)
	if err != nil {
		t.Fatal(err)
	}
	b := state.NewBatch()
	for _, ns := range namespaces {
		b.Put(ns, state.Write{Key: "k", Value: []byte("v")})
		cc, coll, isColl := strings.Cut(ns, "$$p")
		b.Put(lifecycleNamespace, state.Write{Key: cc, Value: []byte("definition")})
		if isColl {
			pkg := &peer.CollectionConfigPackage{Config: []*peer.CollectionConfig{{
				Payload: &peer.CollectionConfig_StaticCollectionConfig{StaticCollectionConfig: &peer.StaticCollectionConfig{Name: coll}},
			}}}
			b.Put(lifecycleNamespace, state.Write{Key: cc + collectionSuffix, Value: protoutil.Marshal(pkg)})
		}
	}
	if err := db.Apply(b, &state.Version{}, false); err != nil {
		t.Fatal(err)
	}
}

func TestDropChannels(t *testing.T) {
	long := strings.Repeat("long", 16)                         // both begin with the same 50 letters
	one, two := long+"one", long+"two.x"                       // so their shortened names are alike
	longCC := strings.Repeat("Chain", 40)                      // whose name is lost when it is shortened
	shortCC := strings.Repeat("a", 20)                         // whose name is kept
	longColl := strings.Repeat("Coll", 50)                     //
	huge := strings.Repeat("h", maxDatabaseName+5)             // a channel whose own name is shortened
	deployed := []string{"MyCC", "MyCC$$pcollA", "x_y", "x_z"} // ch and x_z look like ch_x and z
	channels := map[string][]string{
		"ch":     deployed,
		"ch.two": deployed,
		"ch_x":   {"y", "other"},
		one:      {longCC, shortCC + "$$p" + longColl, shortCC + "$$h" + longColl},
		two:      {longCC, shortCC + "$$p" + longColl},
		huge:     {"cc"},
	}
	for _, c := range []struct {
		drop  []string
		stays []string // of the dropped channels
	}{
		{drop: nil},
		{drop: []string{"ch"}, stays: []string{"ch_x_y"}}, // the two channels share it
		{drop: []string{"ch_x"}, stays: []string{"ch_x_y"}},
		{drop: []string{"ch", "ch_x"}},
		{drop: []string{"ch.two"}},
		{drop: []string{one}},
		{drop: []string{two}},
		{drop: []string{huge}},
		{drop: []string{"unknown"}},
		{drop: []string{"ch", "ch.two", "ch_x", one, two, huge}},
	} {
		f := couchtest.New()
		p := openFake(t, f).p // opens ch as well
		for name, namespaces := range channels {
			fillChannel(t, p, name, namespaces...)
		}
		f.Put("someone_elses", "doc", map[string]any{"a": 1})
		f.Put("ch", "doc", map[string]any{"a": 1})
		all := f.Databases()
		var want []string
		for _, db := range all {
			if !ownedBy(t, channels, c.drop, db) || slices.Contains(c.stays, db) {
				want = append(want, db)
			}
		}
		if err := p.DropChannels(t.Context(), c.drop); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, f.Databases()); diff != "" {
			t.Errorf("dropped %v: %s", c.drop, diff)
		}
	}
}

// ownedBy tells from the namespaces that were filled whether a database belongs
// to one of some channels.
func ownedBy(t *testing.T, channels map[string][]string, some []string, db string) bool {
	t.Helper()
	for _, channel := range some {
		meta, err := metadataDB(channel)
		if err != nil {
			t.Fatal(err)
		}
		if meta == db {
			return true
		}
		for _, ns := range append([]string{lifecycleNamespace}, channels[channel]...) {
			if name, err := namespaceDB(channel, ns); err != nil || name == db {
				return true
			}
		}
	}
	return false
}

// TestWrittenFrom looks at all databases of a channel, page by page, and at no
// others.
func TestWrittenFrom(t *testing.T) {
	f := couchtest.New()
	db := openFake(t, f) // pages of two
	var list bool
	f.Intercept = func(w http.ResponseWriter, r *http.Request) bool {
		if list && r.URL.Path == "/_all_dbs" {
			w.WriteHeader(http.StatusForbidden)
			return true
		}
		return false
	}
	look := func(height uint64, want string) {
		t.Helper()
		if got, err := db.WrittenFrom(height); got != want || err != nil {
			t.Errorf("from block %d on: %s, %v; want %s", height, got, err, want)
		}
	}
	look(0, "")
	b := state.NewBatch()
	for i := range 7 {
		b.Put("cc", state.Write{Key: fmt.Sprint("k", i), Value: []byte(`{"a":1}`), Version: state.Version{Block: uint64(i)}})
	}
	b.Put("", state.Write{Key: "config", Value: []byte("c")})
	must(t, db.Apply(b, &state.Version{Block: 9}, false))
	must(t, db.CreateIndexes("cc", map[string][]byte{"i": []byte(`{"index":{"fields":["a"]},"ddoc":"d","name":"n","type":"json"}`)}))
	look(0, "document [config] of database [ch_]")
	for height := range uint64(6) {
		look(height+1, fmt.Sprintf("document [k%d] of database [ch_cc]", height+1))
	}
	look(7, "")
	list = true
	look(0, "")
	list = false
	f.Put("ch_cc", "k1", map[string]any{"~version": "what?"})
	if _, err := db.WrittenFrom(7); err == nil {
		t.Error("a version that is none")
	}
	must(t, db.p.DropChannels(t.Context(), []string{"ch"}))
	fillChannel(t, db.p, "chch", "cc")
	look(0, "")
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
