package node

import (
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/heddle-ledger/heddle/internal/config"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/metrics"
	"github.com/heddle-ledger/heddle/internal/ops"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb/couchtest"
)

func couchSettings(address string) config.Ledger {
	return config.Ledger{StateDatabase: "CouchDB", CouchDB: config.CouchDB{Address: address, InternalQueryLimit: 1, MaxBatchUpdateSize: 1}}
}

func TestOtherWordsSelectLevelDB(t *testing.T) {
	t.Parallel()
	for _, word := range []string{"", "goleveldb", "couchdb", "COUCHDB", "foo"} {
		core := &config.Core{Ledger: couchSettings("nowhere")}
		core.Ledger.StateDatabase = word
		if (&Node{cfg: Config{Core: core}}).openState(t.Context()) != nil || DropState(core, flog.Nop()) != nil {
			t.Errorf("%q selects CouchDB", word)
		}
	}
}

func TestCouchSettingsReachTheDatabase(t *testing.T) {
	t.Parallel()
	root := filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(root, []byte("PEM"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := &config.Ledger{StateDatabase: "CouchDB", CouchDB: config.CouchDB{
		Address: "a:1", Username: "u", Password: "p", RootCertFile: root, MaxRetries: 1, MaxRetriesOnStartup: 2,
		RequestTimeout: 3 * time.Second, InternalQueryLimit: 4, MaxBatchUpdateSize: 5, AutoWarmIndexes: true, WarmIndexesAfter: 6,
		GlobalChangesDB: true,
	}}
	got, err := couchConfig(l, flog.Nop(), nil)
	want := couchdb.Config{
		Address: "a:1", Username: "u", Password: "p", RootCAs: [][]byte{[]byte("PEM")}, MaxRetries: 1, MaxRetriesOnStartup: 2,
		RequestTimeout: 3 * time.Second, InternalQueryLimit: 4, MaxBatchUpdateSize: 5, AutoWarmIndexes: true, WarmIndexesAfterNBlocks: 6,
		CreateGlobalChangesDB: true,
	}
	got.Log = nil
	if d := cmp.Diff(want, got); d != "" || err != nil {
		t.Error(d, err)
	}
	l.CouchDB.RootCertFile += ".absent"
	if _, err := couchConfig(l, flog.Nop(), nil); err == nil || !strings.HasPrefix(err.Error(), "ledger.state.couchDBConfig.tls.rootCert.file: open ") {
		t.Errorf("got %v", err)
	}
	l.CouchDB.MaxRetries = -1
	if _, err := couchConfig(l, flog.Nop(), nil); err == nil || !strings.HasPrefix(err.Error(), "number of retries must be zero or greater") {
		t.Errorf("got %v", err)
	}
}

func TestCouchThatIsNotThere(t *testing.T) {
	t.Parallel()
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	address := gone.Listener.Addr().String()
	l := couchSettings(address)
	_, err := openCouchDB(t.Context(), &l, flog.Nop(), metrics.Disabled())
	if err == nil || !strings.HasPrefix(err.Error(), "unable to connect to CouchDB, check the hostname and port: http error calling couchdb: Get ") ||
		!strings.HasSuffix(err.Error(), " (ledger.state.couchDBConfig.couchDBAddress is "+address+")") {
		t.Errorf("got %v", err)
	}
}

func TestCouchOverTLS(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(couchtest.New())
	t.Cleanup(server.Close)
	l := couchSettings(server.URL)
	if _, err := openCouchDB(t.Context(), &l, flog.Nop(), metrics.Disabled()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a server that nobody vouches for: %v", err)
	}
	l.CouchDB.RootCertFile = filepath.Join(t.TempDir(), "root.pem")
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	if err := os.WriteFile(l.CouchDB.RootCertFile, root, 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := openCouchDB(t.Context(), &l, flog.Nop(), metrics.Disabled())
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
}

// TestCouchIsPartOfHealth: the component is there once the state is open.
func TestCouchIsPartOfHealth(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(couchtest.New())
	t.Cleanup(server.Close)
	logging, err := flog.New(t.Output(), "", "")
	if err != nil {
		t.Fatal(err)
	}
	o, err := ops.New(ops.Config{ListenAddress: "127.0.0.1:0", Logging: logging, Log: flog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{cfg: Config{Core: &config.Core{Ledger: couchSettings(server.Listener.Addr().String())}, Logging: logging}, parts: &parts{operations: o}}
	p, err := n.openState(t.Context())()
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := o.RegisterChecker("couchdb", p.(*couchdb.Provider)); err == nil {
		t.Error("the component is not registered")
	}
}

func TestDropStateDropsChannels(t *testing.T) {
	t.Parallel()
	fake := couchtest.New()
	core := &config.Core{Ledger: couchSettings(couchtest.Start(t, fake))}
	p, err := openCouchDB(t.Context(), &core.Ledger, flog.Nop(), metrics.Disabled())
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"one", "two", "one.more"} {
		db, err := p.Open(id)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := db.Get("cc", "k"); err != nil { // makes the database of the namespace
			t.Fatal(err)
		}
	}
	p.Close()
	if err := DropState(core, flog.Nop())(t.Context(), []string{"one", "absent"}); err != nil {
		t.Fatal(err)
	}
	left := slices.DeleteFunc(fake.Databases(), func(name string) bool { return name[0] == '_' })
	if d := cmp.Diff([]string{"one$more_", "one$more_cc", "two_", "two_cc"}, left); d != "" {
		t.Error(d)
	}
}
