package node

import (
	"context"
	"fmt"
	"os"

	"github.com/heddle-ledger/heddle/internal/config"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/metrics"
	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb"
)

// couchComponent is the name of the state database in /healthz.
const couchComponent = "couchdb"

// couchConfig copies the settings of CouchDB and reads the files that they name.
func couchConfig(l *config.Ledger, log *flog.Logger, m metrics.Provider) (couchdb.Config, error) {
	if err := l.Check(); err != nil {
		return couchdb.Config{}, err
	}
	c := l.CouchDB
	out := couchdb.Config{
		Address: c.Address, Username: c.Username, Password: c.Password,
		MaxRetries: c.MaxRetries, MaxRetriesOnStartup: c.MaxRetriesOnStartup, RequestTimeout: c.RequestTimeout,
		InternalQueryLimit: c.InternalQueryLimit, MaxBatchUpdateSize: c.MaxBatchUpdateSize,
		AutoWarmIndexes: c.AutoWarmIndexes, WarmIndexesAfterNBlocks: c.WarmIndexesAfter,
		CreateGlobalChangesDB: c.GlobalChangesDB,
		Log:                   log.Named("couchdb"), Metrics: m,
	}
	if c.RootCertFile != "" {
		pem, err := os.ReadFile(c.RootCertFile)
		if err != nil {
			return couchdb.Config{}, fmt.Errorf("ledger.state.couchDBConfig.tls.rootCert.file: %w", err)
		}
		out.RootCAs = [][]byte{pem}
	}
	return out, nil
}

// CouchConfig is how the peer of a configuration reaches its CouchDB, for the
// commands on a peer that is down; nil with goleveldb.
func CouchConfig(core *config.Core, log *flog.Logger) (*couchdb.Config, error) {
	if core.Ledger.StateDatabase != config.CouchDBState {
		return nil, nil
	}
	c, err := couchConfig(&core.Ledger, log, metrics.Disabled())
	if err != nil {
		return nil, err
	}
	return &c, nil
}

// openCouchDB connects to the server of the configuration. What the reference
// says of a failure comes first, then where it can be mended.
func openCouchDB(ctx context.Context, l *config.Ledger, log *flog.Logger, m metrics.Provider) (*couchdb.Provider, error) {
	c, err := couchConfig(l, log, m)
	if err != nil {
		return nil, err
	}
	p, err := couchdb.OpenProvider(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("%w (ledger.state.couchDBConfig.couchDBAddress is %s)", err, c.Address)
	}
	return p, nil
}

// openState returns what opens the world state; nil leaves that to the ledger,
// which has goleveldb. The server becomes part of /healthz.
func (n *Node) openState(ctx context.Context) func() (state.Provider, error) {
	l := &n.cfg.Core.Ledger
	if l.StateDatabase != config.CouchDBState {
		return nil
	}
	return func() (state.Provider, error) {
		p, err := openCouchDB(ctx, l, n.cfg.Logging.Root(), n.parts.operations.Provider())
		if err != nil {
			return nil, err
		}
		if err := n.parts.operations.RegisterChecker(couchComponent, p); err != nil {
			p.Close() //nolint:errcheck // nothing has been written
			return nil, err
		}
		return p, nil
	}
}

// DropState returns what drops the state of channels where it is not in the
// peer's directory (LEDGER §18.7), for the commands on a peer that is down; nil
// with goleveldb. It connects as a start does.
func DropState(core *config.Core, log *flog.Logger) func(ctx context.Context, channelIDs []string) error {
	if core.Ledger.StateDatabase != config.CouchDBState {
		return nil
	}
	return func(ctx context.Context, channelIDs []string) error {
		p, err := openCouchDB(ctx, &core.Ledger, log, metrics.Disabled())
		if err != nil {
			return err
		}
		defer p.Close() //nolint:errcheck // nothing is pending
		return p.DropChannels(ctx, channelIDs)
	}
}
