package config

import (
	"errors"
	"fmt"
	"time"
)

// CouchDBState is the value of ledger.state.stateDatabase that selects CouchDB;
// any other selects goleveldb (LEDGER §5).
const CouchDBState = "CouchDB"

// Ledger is the section ledger (LEDGER §20).
type Ledger struct {
	StateDatabase   string
	TotalQueryLimit int // results of one query of a chaincode; at least 1
	CouchDB         CouchDB
	HistoryEnabled  bool

	PurgeInterval            uint64 // blocks; at least 1
	EligibilityBatchSize     int    // pvtdataStore.collElgProcMaxDbBatchSize; at least 1
	EligibilityBatchesPeriod int    // pvtdataStore.collElgProcDbBatchesInterval, ms; at least 1
}

// CouchDB is the section ledger.state.couchDBConfig.
type CouchDB struct {
	Address             string // host:port or a URL with http or https
	Username, Password  string
	RootCertFile        string // for https; empty: the roots of the machine
	MaxRetries          int    // 0 is one attempt
	MaxRetriesOnStartup int
	RequestTimeout      time.Duration // 0 is none
	InternalQueryLimit  int           // rows of one request
	MaxBatchUpdateSize  int           // documents of one request
	AutoWarmIndexes     bool
	WarmIndexesAfter    int // blocks; at least 1
	GlobalChangesDB     bool
}

const stateDatabase = "ledger.state.stateDatabase"

const couchSection = "ledger.state.couchDBConfig."

func loadLedger(f *File) Ledger {
	const private = "ledger.pvtdataStore."
	switch f.String(stateDatabase) {
	case "", "goleveldb", CouchDBState:
	default:
		f.doubt(stateDatabase, "state database, such as goleveldb and CouchDB (spelt like this)", "goleveldb")
	}
	return Ledger{
		StateDatabase:            f.String(stateDatabase),
		TotalQueryLimit:          f.positive("ledger.state.totalQueryLimit", 10000),
		CouchDB:                  loadCouchDB(f),
		HistoryEnabled:           f.Bool("ledger.history.enableHistoryDatabase"),
		PurgeInterval:            uint64(f.positive(private+"purgeInterval", 100)),
		EligibilityBatchSize:     f.positive(private+"collElgProcMaxDbBatchSize", 5000),
		EligibilityBatchesPeriod: f.positive(private+"collElgProcDbBatchesInterval", 1000),
	}
}

func loadCouchDB(f *File) CouchDB {
	c := CouchDB{
		Address:  f.String(couchSection + "couchDBAddress"),
		Username: f.String(couchSection + "username"), Password: f.String(couchSection + "password"),
		RootCertFile:        f.Path(couchSection + "tls.rootCert.file"),
		MaxRetries:          f.Int(couchSection + "maxRetries"),
		MaxRetriesOnStartup: f.Int(couchSection + "maxRetriesOnStartup"),
		RequestTimeout:      f.Duration(couchSection + "requestTimeout"),
		InternalQueryLimit:  1000,
		MaxBatchUpdateSize:  500,
		AutoWarmIndexes:     true,
		WarmIndexesAfter:    f.positive(couchSection+"warmIndexesAfterNBlocks", 1),
		GlobalChangesDB:     f.Bool(couchSection + "createGlobalChangesDB"),
	}
	for key, n := range map[string]*int{
		"internalQueryLimit": &c.InternalQueryLimit, "maxBatchUpdateSize": &c.MaxBatchUpdateSize,
	} {
		if f.IsSet(couchSection + key) {
			*n = f.Int(couchSection + key)
		}
	}
	if f.IsSet(couchSection + "autoWarmIndexes") {
		c.AutoWarmIndexes = f.Bool(couchSection + "autoWarmIndexes")
	}
	return c
}

// Check tells what is wrong with the settings of the state database that is
// selected. Those of CouchDB do not matter to a peer that does not use it, nor to
// the commands of a client.
func (l *Ledger) Check() error {
	if l.StateDatabase != CouchDBState {
		return nil
	}
	c := &l.CouchDB
	switch {
	case c.Address == "":
		return errors.New(couchSection + "couchDBAddress isn't set")
	case c.MaxRetries < 0:
		return negative("maxRetries", c.MaxRetries)
	case c.MaxRetriesOnStartup < 0:
		return negative("maxRetriesOnStartup", c.MaxRetriesOnStartup)
	case c.RequestTimeout > 0 && c.RequestTimeout < time.Millisecond: // a number alone is nanoseconds
		return fmt.Errorf("%srequestTimeout is %s, in which no server answers: write a unit, as in 35s", couchSection, c.RequestTimeout)
	case c.RequestTimeout < 0:
		return fmt.Errorf("%srequestTimeout must be zero or greater, but is %s", couchSection, c.RequestTimeout)
	}
	for _, n := range []struct {
		key   string
		value int
	}{
		{"internalQueryLimit", c.InternalQueryLimit}, {"maxBatchUpdateSize", c.MaxBatchUpdateSize},
	} {
		if n.value <= 0 {
			return fmt.Errorf("%s%s must be greater than zero, but is %d", couchSection, n.key, n.value)
		}
	}
	return nil
}

// negative begins with the reference's text.
func negative(key string, n int) error {
	return fmt.Errorf("number of retries must be zero or greater: %s%s is %d", couchSection, key, n)
}
