package audit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"

	"github.com/heddle-ledger/heddle/ledger/bookkeeper"
	"github.com/heddle-ledger/heddle/ledger/history"
	"github.com/heddle-ledger/heddle/ledger/kv"
	"github.com/heddle-ledger/heddle/ledger/pvtstore"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb"
	"github.com/heddle-ledger/heddle/ledger/state/leveldb"
	"github.com/heddle-ledger/heddle/protos/ledgerstore"
)

// role is what a database of a peer is to it.
type role struct {
	name, kind string
	missing    Finding // what it means if it is not there
	remedy     string  // if it is damaged
}

func (d *Dir) roles(o Options) []role {
	rebuilt := Finding{Severity: Repair, Consequence: "the next start builds it anew from the block files"}
	index := role{name: d.indexName(), kind: checkIndex, missing: rebuilt, remedy: "remove the directory of the index while the node is down: the next start builds it anew"}
	if d.Kind == Orderer {
		return []role{index}
	}
	side := Finding{
		Severity: Damage, Remedy: remedyDBs,
		Consequence: "it is built anew only together with the state; until then expiry of private data and endorsement policies of keys are not what they are on other peers",
	}
	out := []role{
		{name: dbList, kind: checkList, remedy: "take the directory from a backup", missing: Finding{
			Severity: Damage, Consequence: "the peer knows none of its channels", Remedy: "take the directory from a backup, or move the data away and join the channels again",
		}},
		index,
	}
	if !o.CouchDB {
		out = append(out, role{name: dbState, kind: checkState, missing: rebuilt, remedy: remedyDBs})
	}
	return append(out,
		role{name: dbHistory, kind: checkHistory, missing: rebuilt, remedy: remedyDBs},
		role{name: dbBookkeeper, kind: checkBooks, missing: side, remedy: remedyDBs},
		role{name: dbConfHistory, kind: checkBooks, missing: side, remedy: remedyDBs},
		role{name: dbPrivate, kind: checkPrivate, missing: Finding{
			Severity: Damage, Consequence: "private data of committed blocks are lost", Remedy: "take the directory from a backup; without one, other peers may still have the data, but reconciliation does not ask for what is not listed as missing",
		}, remedy: "take the directory from a backup"},
	)
}

// dropped tells whether the states of channels are gone, so that the next start
// builds them anew and with them what is built with them only; known is false if
// that cannot be told.
func (d *Dir) dropped(ctx context.Context, o Options, channels []string) (dropped, known bool, err error) {
	switch {
	case !o.CouchDB:
		_, err := d.database(dbState)
		return errors.Is(err, fs.ErrNotExist), true, nil
	case o.Server == nil:
		return false, false, nil
	}
	for _, id := range channels {
		view, err := o.Server.Channel(id)
		if err != nil {
			return false, false, err
		}
		sp, err := view.Savepoint(ctx)
		var damaged *couchdb.DocumentError
		if sp != nil || errors.As(err, &damaged) {
			return false, true, nil
		}
		if err != nil {
			return false, false, err
		}
	}
	return true, true, nil
}

// missingSide is what it means that a database is missing that is built anew with
// the state only.
func missingSide(f Finding, dropped, known bool) Finding {
	switch {
	case dropped:
		f.Severity, f.Remedy = Repair, ""
		f.Consequence = "the next start builds it anew, together with the state, from the block files"
	case !known:
		f.Severity = Warning
		f.Consequence += ". If the state in CouchDB was dropped as well, as by `peer node rebuild-dbs`, the next start builds both"
	}
	return f
}

// checkDatabases opens all databases and says which cannot be.
func (d *Dir) checkDatabases(ctx context.Context, o Options, channels []string, to *findings) error {
	for _, r := range d.roles(o) {
		db, err := d.database(r.name)
		switch {
		case err == nil && db.JournalCut() > 0:
			to.add(journalCut(r, db.JournalCut()))
		case err == nil:
		case errors.Is(err, fs.ErrNotExist):
			f := r.missing
			f.Kind, f.Database, f.Problem = r.kind, r.name, "the database is missing"
			if r.kind == checkBooks {
				dropped, known, err := d.dropped(ctx, o, channels)
				if err != nil {
					return err
				}
				f = missingSide(f, dropped, known)
			}
			to.add(f)
		default:
			f := databaseFinding(r.name, r.kind, err)
			f.Remedy = r.remedy
			to.add(f)
		}
	}
	return nil
}

// journalCut is a journal that ends in something else than a batch, as after a
// crash. If the disk has damaged it, what follows the damage goes with it.
func journalCut(r role, bytes int64) Finding {
	f := Finding{
		Severity: Repair, Kind: r.kind, Database: r.name,
		Problem:     fmt.Sprintf("%d bytes at the end of the journal are no complete batch", bytes),
		Consequence: "the next start cuts them off and makes good what they held, if it was committed",
	}
	if r.name == dbPrivate || r.name == dbList {
		f.Consequence = "the next start cuts them off. After a crash they held nothing that was committed; after damage of the disk they may have"
		f.Remedy = "keep a copy of the directory, unless the node or its machine has crashed"
	}
	return f
}

func databaseFinding(name, kind string, err error) Finding {
	f := Finding{
		Severity: Damage, Kind: kind, Database: name, Problem: fmt.Sprintf("the database cannot be read: %v", err),
		Consequence: "the node does not start, or fails when it reads the damaged part", Remedy: "take the directory from a backup",
	}
	switch kind {
	case checkState, checkHistory, checkBooks:
		f.Remedy = remedyDBs
	case checkIndex:
		f.Remedy = "remove the directory of the index while the node is down: the next start builds it anew"
	}
	return f
}

// unusable tells whether the databases can be looked at, but not understood or
// not now.
func (d *Dir) unusable(o Options) error {
	for _, r := range d.roles(o) {
		_, err := d.database(r.name)
		var format *kv.FormatError
		if errors.As(err, &format) || isLocked(err) || errors.Is(err, fs.ErrPermission) {
			return fmt.Errorf("%s: %w", r.name, err)
		}
	}
	return nil
}

// scans is what a read of whole databases gave.
type scans struct {
	index, history setSum
	indexErr       error
	historyErr     error
	state          stateScan
	private        uint64 // entries
	privateErr     error
	schedule       uint64 // entries
	booksErr       error
}

// scanning is scans under way.
type scanning struct {
	wg     sync.WaitGroup
	result scans
}

func (s *scanning) wait() scans {
	s.wg.Wait()
	return s.result
}

// scanDatabases reads the channel's part of each database from end to end, beside
// the walk through the blocks: so every block of every table proves its checksum.
func (v *verifier) scanDatabases(ctx context.Context) *scanning {
	s := &scanning{}
	r := &s.result
	if v.index != nil {
		s.wg.Go(func() {
			sum := summer{seeds: v.seeds}
			r.indexErr = v.index.Scan(func(key, value []byte) error {
				sum.add(&r.index, key, value)
				return ctx.Err()
			})
		})
	}
	if v.d.Kind != Peer {
		return s
	}
	if db, err := v.d.database(dbHistory); err == nil {
		s.wg.Go(func() {
			sum := summer{seeds: v.seeds}
			r.historyErr = history.Open(db, v.id).Scan(func(entry []byte) error {
				sum.add(&r.history, entry, nil)
				return ctx.Err()
			})
		})
	}
	if db, err := v.d.database(dbState); err == nil && !v.o.CouchDB {
		s.wg.Go(func() { r.state.run(ctx, leveldb.OpenView(db, v.id)) })
	}
	s.wg.Go(func() {
		if db, err := v.d.database(dbPrivate); err == nil {
			r.private, r.privateErr = pvtstore.OpenView(db, v.id).CheckEntries()
		}
		if db, err := v.d.database(dbBookkeeper); err == nil {
			books, err := bookkeeper.Open(db, v.id)
			if err == nil {
				err = books.Schedule(func(bookkeeper.Key, *ledgerstore.PvtdataKeys) error {
					r.schedule++
					return nil
				})
			}
			r.booksErr = err
		}
	})
	return s
}
