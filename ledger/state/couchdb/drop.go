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
)

// lifecycleNamespace has the definitions of chaincodes and their collections.
const (
	lifecycleNamespace = "lscc"
	collectionSuffix   = "~collection"
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
	for _, name := range names {
		mine, err := c.belongs(ctx, name)
		if err != nil {
			return err
		}
		if !mine {
			continue
		}
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
	spaces   map[string][]string // namespaces of a channel, by its name
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
	known, err := c.namespaces(ctx, channel)
	if err != nil {
		return false, err
	}
	for _, ns := range known {
		if full, err := namespaceDB(channel, ns); err == nil && full == name {
			return true, nil
		}
	}
	return false, nil
}

// claimed returns the metadata database of another channel that may own a
// database which fits this one.
func (c *census) claimed(ctx context.Context, name, channel string) (string, error) {
	if err := c.foreigners(ctx); err != nil {
		return "", err
	}
	meta, err := metadataDB(channel)
	if err != nil {
		return "", err
	}
	for _, other := range c.others {
		if len(other) > len(meta) && strings.HasPrefix(other, meta) && strings.HasPrefix(name, other) {
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

// namespaces lists those of deployed chaincodes and their collections.
func (c *census) namespaces(ctx context.Context, channel string) ([]string, error) {
	if known, ok := c.spaces[channel]; ok {
		return known, nil
	}
	db := newDB(c.p, channel)
	name, err := namespaceDB(channel, lifecycleNamespace)
	if err != nil {
		return nil, err
	}
	var out []string
	if _, there := slices.BinarySearch(c.names, name); there {
		if out, err = db.deployed(); err != nil {
			return nil, err
		}
	}
	if c.spaces == nil {
		c.spaces = map[string][]string{}
	}
	c.spaces[channel] = out
	return out, nil
}

// deployed lists the namespaces of the chaincodes and collections that the state
// knows.
func (d *DB) deployed() ([]string, error) {
	it, err := d.Range(lifecycleNamespace, "", "", 0)
	if err != nil {
		return nil, err
	}
	defer it.Close()
	var out []string
	for {
		kv, err := it.Next()
		if err != nil || kv == nil {
			return out, err
		}
		chaincode, isCollections := strings.CutSuffix(kv.Key, collectionSuffix)
		if !isCollections {
			out = append(out, kv.Key)
			continue
		}
		pkg := &peer.CollectionConfigPackage{}
		if proto.Unmarshal(kv.Value.Value, pkg) != nil {
			continue // not ours to judge
		}
		for _, cfg := range pkg.GetConfig() {
			coll := cfg.GetStaticCollectionConfig().GetName()
			out = append(out, chaincode+"$$p"+coll, chaincode+"$$h"+coll)
		}
	}
}
