package couchdb

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/heddle-ledger/heddle/internal/flog"
)

// WrittenFrom implements state.Leftovers.
func (d *DB) WrittenFrom(height uint64) (string, error) {
	ctx := context.Background()
	names, err := d.p.c.allDatabases(ctx)
	var refusal *serverError
	if errors.As(err, &refusal) && !refusal.passing() { // nothing else needs the list
		d.p.c.log.Warningf("[%s] It can not be found out whether the state has leftovers of an earlier one: %v", d.channel, flog.ForeignError(err))
		return "", nil
	}
	if err != nil {
		return "", err
	}
	c := &census{p: d.p, names: names, channels: []string{d.channel}}
	for _, name := range names {
		mine, err := c.belongs(ctx, name)
		if err != nil {
			return "", err
		}
		if !mine {
			continue
		}
		id, err := d.p.database(name).writtenFrom(ctx, height, d.p.cfg.InternalQueryLimit)
		if err != nil {
			return "", err
		}
		if id != "" {
			return fmt.Sprintf("document [%s] of database [%s]", id, name), nil
		}
	}
	return "", nil
}

// writtenFrom finds a document that was written by a block from height on; empty
// if there is none. Values are not read.
func (d *database) writtenFrom(ctx context.Context, height uint64, pageSize int) (string, error) {
	for start := ""; ; {
		rows, err := d.readRange(ctx, docRange{start: start, limit: pageSize + 1})
		if err != nil {
			return "", err
		}
		for i := range rows {
			r := &rows[i]
			if foreign("", r.ID) || r.absent() {
				continue
			}
			v, err := decodeVersioned(r.Doc)
			if err != nil {
				return "", fmt.Errorf("database [%s]: document [%s]: %w", d.name, r.ID, err)
			}
			if v.version.Block >= height {
				return r.ID, nil
			}
		}
		if len(rows) <= pageSize || strings.Compare(rows[len(rows)-1].ID, start) <= 0 {
			return "", nil
		}
		start = rows[len(rows)-1].ID
	}
}

// MissingSpace implements state.Spaces.
func (d *DB) MissingSpace(ns string) (string, error) {
	name, err := namespaceDB(d.channel, ns)
	if err != nil {
		return "", nil //nolint:nilerr // it cannot have one
	}
	exists, err := d.p.database(name).exists(context.Background(), d.p.cfg.MaxRetries)
	if err != nil || exists {
		return "", err
	}
	return name, nil
}
