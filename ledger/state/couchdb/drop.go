package couchdb

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/ledger/state"
)

// DropChannels deletes the databases of channels, and no others: the server may
// be shared (LEDGER §18.7). A database whose name does not tell its channel, but
// fits one that was given and one that was not, is left alone and reported in the
// log. None of the channels may be open.
func (p *Provider) DropChannels(ctx context.Context, channelIDs []string) error {
	names, err := p.c.allDatabases(ctx)
	if err != nil {
		return err
	}
	c := &census{p: p, names: names, channels: channelIDs}
	var savepoints, others []string
	for _, name := range names {
		mine, err := c.belongs(ctx, name)
		switch {
		case err != nil:
			return err
		case mine && slices.ContainsFunc(channelIDs, func(ch string) bool { return isMetadata(name, ch) }):
			savepoints = append(savepoints, name)
		case mine:
			others = append(others, name)
		}
	}
	defer p.forget(channelIDs)
	// Without its savepoint a state is built anew, whatever is left of it.
	for _, name := range append(savepoints, others...) {
		p.c.log.Infof("Dropping state database %s", name)
		if err := p.database(name).drop(ctx); err != nil {
			return fmt.Errorf("drop database [%s]: %w", name, err)
		}
	}
	return nil
}

// allDatabases lists the server's databases, sorted, those of CouchDB itself left
// out.
func (c *client) allDatabases(ctx context.Context) ([]string, error) {
	a, err := c.call(ctx, request{
		function: "ListDatabases", database: "_all_dbs", method: http.MethodGet, max: c.maxAnswer,
	})
	if err != nil {
		return nil, fmt.Errorf("list databases: %w", err)
	}
	var names []string
	if err := json.Unmarshal(a.body, &names); err != nil {
		return nil, fmt.Errorf("list databases: malformed answer: %w", err)
	}
	names = slices.DeleteFunc(names, func(n string) bool { return n == "" || n[0] == '_' })
	slices.Sort(names)
	return names, nil
}

// census finds out to which channel databases belong.
type census struct {
	p        *Provider
	names    []string
	channels []string

	others   []string            // metadata databases of other channels; see foreigners
	searched bool                // others is filled
	spaces   map[string][]string // by lifecycle database, the namespaces that it knows
}

// belongs tells whether a database is one of the channels'.
func (c *census) belongs(ctx context.Context, name string) (bool, error) {
	for _, channel := range c.channels {
		fits, err := c.fits(ctx, name, channel)
		if err != nil {
			return false, err
		}
		if !fits {
			continue
		}
		other, err := c.claimed(ctx, name, channel)
		if err != nil {
			return false, err
		}
		if other == "" {
			return true, nil
		}
		c.p.c.log.Warningf("Database %s is left alone: it may belong to the channel of database %s", name, other)
	}
	return false, nil
}

func isMetadata(name, channel string) bool {
	meta, err := metadataDB(channel)
	return err == nil && name == meta
}

// certain tells whether a database is a channel's whatever others there are.
func certain(name, channel string) bool {
	lifecycle, err := namespaceDB(channel, lifecycleNamespace)
	return isMetadata(name, channel) || err == nil && name == lifecycle
}

// fits tells whether a database may be one of a channel's.
func (c *census) fits(ctx context.Context, name, channel string) (bool, error) {
	meta, err := metadataDB(channel)
	if err != nil {
		return false, err
	}
	if name == meta {
		return true, nil
	}
	if len(channel) <= maxDatabaseName && strings.HasPrefix(name, meta) {
		return true, nil
	}
	// A name that was shortened has only the beginning of a long channel's name.
	if len(channel) <= keptOfName || !strings.HasPrefix(name, strings.ReplaceAll(head(channel), ".", "$")+"_") {
		return false, nil
	}
	return c.shortened(ctx, name, channel)
}

// shortened tells whether a database has the shortened name of one of a channel's
// namespaces: one that the name still tells, or one that the channel's lifecycle
// namespace knows.
func (c *census) shortened(ctx context.Context, name, channel string) (bool, error) {
	open := len(name) - len("()") - 64
	if open <= keptOfName || name[open] != '(' || name[len(name)-1] != ')' {
		return false, nil
	}
	told := unescapeUpper(name[keptOfName+1 : open])
	if full, err := shortName(channel, told); err == nil && full == name {
		return true, nil
	}
	return c.known(ctx, name, channel)
}

// known tells whether a database has the name of a namespace that the channel's
// lifecycle namespace knows.
func (c *census) known(ctx context.Context, name, channel string) (bool, error) {
	lifecycle, err := namespaceDB(channel, lifecycleNamespace)
	if err != nil {
		return false, err
	}
	namespaces, err := c.namespaces(ctx, lifecycle)
	if err != nil {
		return false, err
	}
	for _, ns := range namespaces {
		if full, err := namespaceDB(channel, ns); err == nil && full == name {
			return true, nil
		}
	}
	return false, nil
}

// claimed returns the metadata database of another channel that may own a
// database which fits this one, empty if there is none. Where the names leave it
// open, the chaincodes decide that each of them knows.
func (c *census) claimed(ctx context.Context, name, channel string) (string, error) {
	if certain(name, channel) {
		return "", nil
	}
	if err := c.foreigners(ctx); err != nil {
		return "", err
	}
	for _, other := range c.others {
		if !strings.HasPrefix(name, other) {
			continue
		}
		mine, err := c.known(ctx, name, channel)
		if err != nil {
			return "", err
		}
		namespaces, err := c.namespaces(ctx, other+lifecycleNamespace)
		if err != nil {
			return "", err
		}
		theirs := name == other || name == other+lifecycleNamespace ||
			slices.ContainsFunc(namespaces, func(ns string) bool { return name == other+escapeUpper(ns) })
		if !mine || theirs {
			return other, nil
		}
	}
	return "", nil
}

// foreigners finds the metadata databases of channels that were not given: those
// that have a savepoint. A namespace's name may end like theirs.
func (c *census) foreigners(ctx context.Context) error {
	if c.searched {
		return nil
	}
	given := map[string]bool{}
	for _, channel := range c.channels {
		meta, err := metadataDB(channel)
		if err != nil {
			return err
		}
		given[meta] = true
	}
	for _, name := range c.names {
		if given[name] || !strings.HasSuffix(name, "_") {
			continue
		}
		at, _, err := c.p.database(name).readSavepoint(ctx)
		if err == nil && at != nil {
			c.others = append(c.others, name)
		}
	}
	c.searched = true
	return nil
}

// namespaces lists those of the chaincodes and collections that a lifecycle
// database knows; none if it is absent.
func (c *census) namespaces(ctx context.Context, lifecycle string) ([]string, error) {
	if known, ok := c.spaces[lifecycle]; ok {
		return known, nil
	}
	var out []string
	if _, there := slices.BinarySearch(c.names, lifecycle); there {
		var err error
		if out, err = c.p.database(lifecycle).deployed(ctx, c.p.cfg.InternalQueryLimit); err != nil {
			return nil, err
		}
	}
	if c.spaces == nil {
		c.spaces = map[string][]string{}
	}
	c.spaces[lifecycle] = out
	return out, nil
}

// deployed lists the namespaces of the chaincodes and collections that are
// defined in a lifecycle database.
func (d *database) deployed(ctx context.Context, pageSize int) ([]string, error) {
	var out []string
	for start := ""; ; {
		p, err := d.page(ctx, lifecycleNamespace, start, "", pageSize)
		if err != nil {
			return nil, err
		}
		for _, r := range p.rows {
			out = append(out, defined(r.Key, r.Value.Value)...)
		}
		if start = p.next; !p.more {
			return out, nil
		}
	}
}

// defined lists the namespaces that one lifecycle value defines.
func defined(key string, value []byte) []string {
	chaincode, isCollections := strings.CutSuffix(key, collectionSuffix)
	if !isCollections {
		return []string{key}
	}
	pkg := &peer.CollectionConfigPackage{}
	if proto.Unmarshal(value, pkg) != nil {
		return nil // not ours to judge
	}
	var out []string
	for _, cfg := range pkg.GetConfig() {
		coll := cfg.GetStaticCollectionConfig().GetName()
		out = append(out, state.PrivateNamespace(chaincode, coll), state.HashedNamespace(chaincode, coll))
	}
	return out
}
