package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// loadLedgerOf reads a core.yaml with that content.
func loadLedgerOf(t *testing.T, content string) (Ledger, string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "core.yaml"), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("FABRIC_CFG_PATH", dir)
	c, err := LoadCore()
	if err != nil {
		t.Fatal(err)
	}
	return c.Ledger, dir
}

func TestLedgerDefaults(t *testing.T) {
	unset := Ledger{
		TotalQueryLimit: 10000, PurgeInterval: 100, EligibilityBatchSize: 5000, EligibilityBatchesPeriod: 1000,
		CouchDB: CouchDB{InternalQueryLimit: 1000, MaxBatchUpdateSize: 500, AutoWarmIndexes: true, WarmIndexesAfter: 1},
	}
	for name, content := range map[string]string{
		"empty":     "",
		"no values": "ledger: {state: {totalQueryLimit: , couchDBConfig: {internalQueryLimit: , autoWarmIndexes: , requestTimeout: }}, pvtdataStore: }",
		"below one": "ledger: {state: {totalQueryLimit: 0, couchDBConfig: {warmIndexesAfterNBlocks: 0}}, pvtdataStore: {purgeInterval: -1, collElgProcMaxDbBatchSize: 0, collElgProcDbBatchesInterval: -5}}",
	} {
		got, _ := loadLedgerOf(t, content)
		if d := cmp.Diff(unset, got); d != "" {
			t.Errorf("%s: %s", name, d)
		}
	}
}

// TestTransientRetention: the retention of the transient store is 1000 blocks
// unless something else is said (LEDGER §10.3, §20).
func TestTransientRetention(t *testing.T) {
	for content, want := range map[string]uint64{
		"": 1000,
		"peer: {gossip: {pvtData: {transientstoreMaxBlockRetention: 0}}}": 1000,
		"peer: {gossip: {pvtData: {transientstoreMaxBlockRetention: 7}}}": 7,
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "core.yaml"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		t.Setenv("FABRIC_CFG_PATH", dir)
		c, err := LoadCore()
		if err != nil {
			t.Fatal(err)
		}
		if got := c.Peer.TransientBlockRetention; got != want {
			t.Errorf("%q: %d", content, got)
		}
	}
}

func TestLedgerSettings(t *testing.T) {
	got, dir := loadLedgerOf(t, `
ledger:
  state:
    stateDatabase: CouchDB
    totalQueryLimit: 7
    couchDBConfig:
      couchDBAddress: https://couch:6984
      username: me
      password: secret
      maxRetries: 4
      maxRetriesOnStartup: 5
      requestTimeout: 6s
      internalQueryLimit: 8
      maxBatchUpdateSize: 9
      autoWarmIndexes: false
      warmIndexesAfterNBlocks: 10
      createGlobalChangesDB: true
      tls: {rootCert: {file: tls/couch.pem}}
  history: {enableHistoryDatabase: true}
  pvtdataStore: {purgeInterval: 11, collElgProcMaxDbBatchSize: 12, collElgProcDbBatchesInterval: 13}
`)
	want := Ledger{
		StateDatabase: "CouchDB", TotalQueryLimit: 7, HistoryEnabled: true,
		PurgeInterval: 11, EligibilityBatchSize: 12, EligibilityBatchesPeriod: 13,
		CouchDB: CouchDB{
			Address: "https://couch:6984", Username: "me", Password: "secret",
			RootCertFile: filepath.Join(dir, "tls/couch.pem"), MaxRetries: 4, MaxRetriesOnStartup: 5,
			RequestTimeout: 6 * time.Second, InternalQueryLimit: 8, MaxBatchUpdateSize: 9,
			WarmIndexesAfter: 10, GlobalChangesDB: true,
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if err := got.Check(); err != nil {
		t.Error(err)
	}
}

func TestLedgerEnvironment(t *testing.T) {
	t.Setenv("CORE_LEDGER_STATE_STATEDATABASE", "CouchDB")
	t.Setenv("CORE_LEDGER_STATE_COUCHDBCONFIG_COUCHDBADDRESS", "couchdb0:5984")
	t.Setenv("CORE_LEDGER_STATE_COUCHDBCONFIG_PASSWORD", "secret")
	t.Setenv("CORE_LEDGER_STATE_COUCHDBCONFIG_AUTOWARMINDEXES", "false")
	t.Setenv("CORE_LEDGER_STATE_COUCHDBCONFIG_TLS_ROOTCERT_FILE", "/couch.pem")
	t.Setenv("CORE_LEDGER_PVTDATASTORE_PURGEINTERVAL", "3")
	got, _ := loadLedgerOf(t, "")
	c := got.CouchDB
	if got.StateDatabase != "CouchDB" || got.PurgeInterval != 3 || c.Address != "couchdb0:5984" || c.Password != "secret" ||
		c.AutoWarmIndexes || c.RootCertFile != "/couch.pem" {
		t.Errorf("got %+v", got)
	}
}

func TestLedgerCheck(t *testing.T) {
	valid := Ledger{StateDatabase: "CouchDB", CouchDB: CouchDB{Address: "a:1", InternalQueryLimit: 1, MaxBatchUpdateSize: 1}}
	for _, tc := range []struct {
		name string
		set  func(l *Ledger)
		want string // beginning; empty: none
	}{
		{"valid", func(*Ledger) {}, ""},
		{"no address", func(l *Ledger) { l.CouchDB.Address = "" }, "ledger.state.couchDBConfig.couchDBAddress isn't set"},
		{"retries", func(l *Ledger) { l.CouchDB.MaxRetries = -1 }, "number of retries must be zero or greater: ledger.state.couchDBConfig.maxRetries is -1"},
		{"retries at start", func(l *Ledger) { l.CouchDB.MaxRetriesOnStartup = -2 }, "number of retries must be zero or greater: ledger.state.couchDBConfig.maxRetriesOnStartup is -2"},
		{"timeout", func(l *Ledger) { l.CouchDB.RequestTimeout = -1 }, "ledger.state.couchDBConfig.requestTimeout must be zero or greater"},
		{"timeout without unit", func(l *Ledger) { l.CouchDB.RequestTimeout = 35 }, "ledger.state.couchDBConfig.requestTimeout is 35ns, in which no server answers: write a unit, as in 35s"},
		{"query limit", func(l *Ledger) { l.CouchDB.InternalQueryLimit = 0 }, "ledger.state.couchDBConfig.internalQueryLimit must be greater than zero, but is 0"},
		{"batch size", func(l *Ledger) { l.CouchDB.MaxBatchUpdateSize = -1 }, "ledger.state.couchDBConfig.maxBatchUpdateSize must be greater than zero, but is -1"},
		{"not in use", func(l *Ledger) { l.StateDatabase, l.CouchDB = "couchdb", CouchDB{MaxRetries: -1} }, ""},
	} {
		l := valid
		tc.set(&l)
		err := l.Check()
		if (err == nil) != (tc.want == "") || err != nil && !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", tc.name, err, tc.want)
		}
	}
}

// TestDoubts: values that are not what they seem to be are told, and the defaults
// and good values are not.
func TestDoubts(t *testing.T) {
	t.Setenv("FABRIC_CFG_PATH", "../../sampleconfig")
	core, err := LoadCore()
	if err != nil || core.Doubts != nil {
		t.Errorf("sample: %q, %v", core.Doubts, err)
	}
	for name, value := range map[string]string{
		"STATE_STATEDATABASE": "couchdb", "STATE_TOTALQUERYLIMIT": "-5", "STATE_COUCHDBCONFIG_MAXRETRIES": "many",
		"STATE_COUCHDBCONFIG_REQUESTTIMEOUT": "long", "HISTORY_ENABLEHISTORYDATABASE": "yess", "PVTDATASTORE_PURGEINTERVAL": "",
	} {
		t.Setenv("CORE_LEDGER_"+name, value)
	}
	core, err = LoadCore()
	want := []string{
		"ledger.history.enableHistoryDatabase is [yess], which is no boolean: false is used",
		"ledger.state.couchDBConfig.maxRetries is [many], which is no whole number: 0 is used",
		"ledger.state.couchDBConfig.requestTimeout is [long], which is no duration: 0s is used",
		"ledger.state.stateDatabase is [couchdb], which is no state database, such as goleveldb and CouchDB (spelt like this): goleveldb is used",
		"ledger.state.totalQueryLimit is [-5], which is no whole number above zero: 10000 is used",
	}
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(core.Doubts)
	if d := cmp.Diff(want, core.Doubts); d != "" {
		t.Error(d)
	}
}
