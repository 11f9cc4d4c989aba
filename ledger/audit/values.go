package audit

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/heddle-ledger/heddle/ledger/bookkeeper"
	"github.com/heddle-ledger/heddle/ledger/kv"
	"github.com/heddle-ledger/heddle/ledger/mvcc"
	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb"
)

// values are the values of keys whose metadata may be written alone: the value
// they keep enters the commit hash (LEDGER §12.3, §13.3). They are kept in a
// temporary database, of namespaces that ever had metadata only: the peer's
// bookkeeping knows which these are.
type values struct {
	noValues
	dir    string
	db     *kv.Database
	store  *kv.Store
	follow map[string]bool // namespaces of the state; nil: all
	broken bool            // blocks are missing: the values cannot be relied on
	// couch tells that blocks found values in the form in which CouchDB gives them
	// back; unknown is set if one was asked for of which that is not known.
	couch, unknown bool
}

func newValues(o *Options, follow map[string]bool) (*values, error) {
	temp := o.TempDir
	dir, err := os.MkdirTemp(temp, "heddle-verify-")
	if err != nil {
		return nil, fmt.Errorf("temporary directory: %w", err)
	}
	db, err := kv.Open(kv.Config{Dir: filepath.Join(dir, "values"), BloomBits: 10, WriteBuffer: 8 << 20})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &values{dir: dir, db: db, store: db.Raw(), follow: follow, couch: o.CouchDB}, nil
}

func (s *values) close() error { return errors.Join(s.db.Close(), os.RemoveAll(s.dir)) }

func (s *values) follows(ns string) bool { return s.follow == nil || s.follow[ns] }

// Get implements state.Reader as far as a replay needs it.
func (s *values) Get(ns, key string) (*state.Value, error) {
	if s.broken || !s.follows(ns) {
		return nil, errNoValues
	}
	raw, err := s.store.Get([]byte(ns + "\x00" + key))
	if err != nil || raw == nil {
		return nil, err
	}
	if s.couch {
		back, known := couchdb.ReadBack(raw)
		raw, s.unknown = back, s.unknown || !known
	}
	return &state.Value{Value: raw}, nil
}

func (s *values) apply(batch *state.Batch) error {
	b := s.store.NewBatch()
	for _, space := range batch.Spaces() {
		if !s.follows(space.Namespace) {
			continue
		}
		for _, w := range space.Sorted() {
			key := []byte(space.Namespace + "\x00" + w.Key)
			if w.Delete {
				b.Delete(key)
			} else {
				b.Put(key, w.Value)
			}
		}
	}
	return s.store.Write(b, false)
}

// openValues begins to follow the namespaces that had metadata.
func (v *verifier) openValues() error {
	if v.d.Kind != Peer {
		return nil
	}
	follow := map[string]bool{}
	if db, err := v.d.database(dbBookkeeper); err == nil {
		books, err := bookkeeper.Open(db, v.id)
		if err != nil {
			v.databaseDamage(dbBookkeeper, checkBooks, err)
			return nil
		}
		for _, ns := range books.Hints() {
			follow[ns] = true
		}
	}
	if len(follow) == 0 {
		return nil
	}
	var err error
	v.values, err = newValues(&v.o, follow)
	return err
}

func (v *verifier) closeValues() {
	if v.values != nil {
		_ = v.values.close() // temporary files
	}
}

// follow computes what needs values and brings them up to the block.
func (v *verifier) follow(j *job) error {
	s := v.values
	s.broken = s.broken || j.gap || j.flags == nil
	if j.needsValues {
		s.unknown = false
		validator := mvcc.Validator{State: s, MetadataUsed: noMetadata}
		result, err := validator.Replay(j.parsed, j.flags)
		switch {
		case errors.Is(err, errNoValues):
			v.unhashed = append(v.unhashed, j.number())
			return nil
		case err != nil:
			return fmt.Errorf("replay block [%d]: %w", j.number(), err)
		}
		e := examiner{v: v}
		switch {
		case !e.hashable(j):
		case s.unknown:
			e.counts.unknown++
		default:
			e.compareHash(j, result)
		}
		v.collect(&e)
		j.result = result
	}
	if j.result == nil {
		return nil
	}
	err := s.apply(j.result.Updates.Batch())
	j.result = nil
	return err
}

// hashAgain walks once more if there are blocks whose commit hash needs values
// that were not followed, this time following all of them.
func (v *verifier) hashAgain(ctx context.Context) error {
	if len(v.unhashed) == 0 {
		return nil
	}
	broken := v.findings.has(Damage, checkFiles, checkMetadata)
	if broken {
		v.total.unhashed += uint64(len(v.unhashed))
		return nil
	}
	again := &verifier{
		d: v.d, id: v.id, o: v.o, items: v.items, index: v.index, seeds: v.seeds, report: &Channel{},
		signing: v.signing, committed: v.committed, checkpoint: v.checkpoint, hashOnly: true, only: map[uint64]bool{},
	}
	for _, n := range v.unhashed {
		again.only[n] = true
	}
	var err error
	if again.values, err = newValues(&v.o, nil); err != nil {
		return err
	}
	defer again.closeValues()
	if err := again.walk(ctx); err != nil {
		return err
	}
	for _, f := range again.findings.sorted() {
		v.findings.add(f)
	}
	v.total.hashes += again.total.hashes
	v.total.unhashed += uint64(len(again.unhashed))
	v.total.unknown += again.total.unknown
	return nil
}
