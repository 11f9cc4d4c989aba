package couchdb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/ledger/state"
)

// CreateIndexes implements state.IndexCreator (LEDGER §5.9). The error is that
// the server is away, or that there can be no such database.
func (d *DB) CreateIndexes(ns string, files map[string][]byte) error {
	if len(files) == 0 {
		return nil
	}
	ctx := context.Background()
	db, err := d.space(ctx, ns)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		err := db.createIndex(ctx, files[name])
		var away *state.UnreachableError
		// Nobody is to wait for a server that cannot stand a file.
		if errors.As(err, &away) && !away.Answered && d.p.HealthCheck(ctx) != nil {
			return fmt.Errorf("index of file [%s]: %w", name, err)
		}
		if err != nil {
			d.p.c.log.Errorf("Error creating index from file [%s] for channel [%s], chaincode namespace [%s]: %v",
				flog.Foreign(name), d.channel, flog.Foreign(ns), flog.ForeignError(err))
		}
	}
	return nil
}

// createIndex sends a definition as it is. One that exists already is fine.
func (d *database) createIndex(ctx context.Context, definition []byte) error {
	a, err := d.c.call(ctx, request{
		function: "CreateIndex", database: d.name, method: http.MethodPost, path: []string{"_index"}, body: definition,
	})
	if err != nil {
		return err
	}
	var told struct{ Result, ID, Name string }
	if err := json.Unmarshal(a.body, &told); err != nil {
		return fmt.Errorf("malformed answer to _index: %w", err)
	}
	d.c.log.Infof("Index [%s] of design document [%s] in state database [%s]: %s",
		flog.Foreign(told.Name), flog.Foreign(told.ID), d.name, flog.Foreign(told.Result))
	return nil
}

// index is one index of a database.
type index struct {
	Design string `json:"ddoc"`
	Name   string `json:"name"`
}

const designPrefix = "_design/"

// indexes lists the indexes that are in design documents.
func (d *database) indexes(ctx context.Context) ([]index, error) {
	a, err := d.c.call(ctx, request{function: "ListIndex", database: d.name, method: http.MethodGet, path: []string{"_index"}})
	if err != nil {
		return nil, err
	}
	var told struct{ Indexes []index }
	if err := json.Unmarshal(a.body, &told); err != nil {
		return nil, fmt.Errorf("malformed answer to _index: %w", err)
	}
	return slices.DeleteFunc(told.Indexes, func(i index) bool { return !strings.HasPrefix(i.Design, designPrefix) }), nil
}

// warm has CouchDB bring an index up to date; the answer does not wait for that.
func (d *database) warm(ctx context.Context, i index) error {
	_, err := d.c.call(ctx, request{
		function: "WarmIndex", database: d.name, method: http.MethodGet,
		path:  []string{"_design", strings.TrimPrefix(i.Design, designPrefix), "_view", i.Name},
		query: url.Values{"stale": {"update_after"}}, discard: true, // it has the whole index
	})
	return err
}

// warmer warms the indexes of databases that were written to, one after the
// other, so that the first query after many blocks does not have to.
type warmer struct {
	c    *client
	wake chan struct{}

	mu      sync.Mutex // guards pending
	pending map[*database]struct{}
}

func newWarmer(c *client) *warmer {
	return &warmer{c: c, wake: make(chan struct{}, 1), pending: map[*database]struct{}{}}
}

// committed counts a block that wrote to a database.
func (w *warmer) committed(db *database, cfg *Config) {
	if !cfg.AutoWarmIndexes || db.commits.Add(1) < int64(cfg.WarmIndexesAfterNBlocks) {
		return
	}
	db.commits.Store(0)
	w.mu.Lock()
	w.pending[db] = struct{}{}
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default: // it is going to look anyway
	}
}

// run warms until the context ends.
func (w *warmer) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.wake:
		}
		w.mu.Lock()
		pending := w.pending
		w.pending = map[*database]struct{}{}
		w.mu.Unlock()
		for db := range pending {
			if err := db.warmAll(ctx); err != nil && ctx.Err() == nil {
				w.c.log.Errorf("Error detected during WarmIndexAllIndexes of database [%s]: %v", db.name, flog.ForeignError(err))
			}
		}
	}
}

func (d *database) warmAll(ctx context.Context) error {
	list, err := d.indexes(ctx)
	if err != nil {
		return err
	}
	for _, i := range list {
		if err := d.warm(ctx, i); err != nil {
			return err
		}
	}
	return nil
}
