package ledgercmd

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/heddle-ledger/heddle/internal/config"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb"
	"github.com/heddle-ledger/heddle/peer/node"
)

// serverForm is how a server is named on the command line.
const serverForm = "http[s]://[user:password@]host:port, or @FILE with that in it"

const serverHelp = `A server is named as http[s]://[user:password@]host:port, or as @FILE, which has
that in it: other users of the machine can see what is on the command line. Nothing
on it is created, changed or indexed.
`

// openServer opens the CouchDB server that a flag names, for looking only; nil if
// it names none.
func openServer(ctx context.Context, flag, value, rootCert string) (*couchdb.Viewer, error) {
	if value == "" {
		return nil, nil
	}
	if name, isFile := strings.CutPrefix(value, "@"); isFile {
		raw, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", flag, err)
		}
		value = strings.TrimSpace(string(raw))
	}
	if !strings.Contains(value, "://") {
		value = "http://" + value
	}
	u, err := url.Parse(value)
	if err != nil || u.Host == "" {
		// The error of the parser would tell the password.
		return nil, usageError{fmt.Errorf("--%s is not of the form %s", flag, serverForm)}
	}
	cfg := couchdb.Config{Username: u.User.Username(), Log: flog.Nop(), MaxRetries: 3}
	cfg.Password, _ = u.User.Password()
	u.User = nil
	cfg.Address = u.String()
	if rootCert != "" {
		pem, err := os.ReadFile(rootCert)
		if err != nil {
			return nil, fmt.Errorf("--%s: %w", rootCertFlag, err)
		}
		cfg.RootCAs = [][]byte{pem}
	}
	return couchdb.OpenViewer(ctx, cfg)
}

const (
	urlFlag      = "couchdbURL"
	rootCertFlag = "couchdbRootCert"
)

// openConfigured opens the server of a peer's configuration; nil if its state is
// not in CouchDB.
func openConfigured(ctx context.Context, core *config.Core) (*couchdb.Viewer, error) {
	cfg, err := node.CouchConfig(core, flog.Nop())
	if cfg == nil || err != nil {
		return nil, err
	}
	v, err := couchdb.OpenViewer(ctx, *cfg)
	if err != nil {
		return nil, fmt.Errorf("%w. Without the state, the rest can be looked at with --path %s --couchdb", err, core.Peer.FileSystemPath)
	}
	return v, nil
}

// closeServer closes a server that may not have been opened.
func closeServer(v *couchdb.Viewer) error {
	if v == nil {
		return nil
	}
	return v.Close()
}
