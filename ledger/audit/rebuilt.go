package audit

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/progress"
	"github.com/heddle-ledger/heddle/ledger"
	"github.com/heddle-ledger/heddle/ledger/blockfile"
	"github.com/heddle-ledger/heddle/ledger/bookkeeper"
	"github.com/heddle-ledger/heddle/ledger/kv"
	"github.com/heddle-ledger/heddle/ledger/mvcc"
	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/ledger/state/leveldb"
	"github.com/heddle-ledger/heddle/protos/ledgerstore"
)

// compareRebuilt builds state, bookkeeping and configuration history anew in a
// temporary directory, the way `peer node rebuild-dbs` would, and compares the
// result with what is there.
func (v *verifier) compareRebuilt(ctx context.Context) (err error) {
	temp, err := os.MkdirTemp(v.o.TempDir, "heddle-rebuild-")
	if err != nil {
		return fmt.Errorf("temporary directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temp)) }()
	if rerr := v.rebuild(ctx, temp); rerr != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if noFault(rerr, temp) {
			return fmt.Errorf("the state cannot be built anew in the temporary directory, choose another with --tempDir: %w", rerr)
		}
		f := Finding{Severity: Damage, Kind: checkState, Database: dbState, Remedy: remedyCopy}
		if v.couch != nil {
			f.Database = v.couch.view.Server().Address()
		}
		f.Problem = fmt.Sprintf("the state cannot be rebuilt from the blocks: %v", rerr)
		f.Consequence = "if the state is lost, the channel does not open"
		v.add(f)
		v.conclude(checkBooks, "")
		v.conclude(checkState, "")
		return nil
	}
	keys, err := v.compareState(ctx, temp)
	if err != nil {
		return err
	}
	schedule, err := v.compareBooks(temp)
	if err != nil {
		return err
	}
	if err := v.compareConfHistory(temp); err != nil {
		return err
	}
	v.conclude(checkBooks, fmt.Sprintf("%d schedule entries compared with a rebuild", schedule))
	detail := fmt.Sprintf("%d keys compared with a rebuild", keys)
	if v.couch != nil {
		detail = fmt.Sprintf("%d keys in %s compared with a rebuild", keys, v.couch.place())
	}
	v.conclude(checkState, detail)
	return nil
}

// noFault tells whether an error says nothing about the ledger: the disk is full, or
// something is wrong with the temporary directory.
func noFault(err error, temp string) bool {
	var at *fs.PathError
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EMFILE) ||
		errors.As(err, &at) && (at.Path == temp || strings.HasPrefix(at.Path, temp+"/"))
}

// rebuild opens the channel in an overlay in which what can be rebuilt is
// missing.
func (v *verifier) rebuild(ctx context.Context, temp string) (err error) {
	over := newOverlay(v.d.root, temp)
	for _, name := range []string{dbState, dbHistory, dbBookkeeper, dbConfHistory} {
		over.hide(filepath.Join(v.d.root, name))
	}
	cfg := ledger.Config{Dir: v.d.root, FS: over, Log: flog.Nop()}
	if v.o.Progress != nil {
		cfg.Progress = func(w blockfile.Walk) blockfile.Watch {
			return progress.New(v.o.Progress, fmt.Sprintf("%s: %s", w.Channel, w.Work), w.From, w.Total)
		}
	}
	if v.o.CouchDB {
		cfg.OpenState = func() (state.Provider, error) { return openAsCouch(over, v.d.root) }
	}
	p, err := ledger.OpenProvider(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.Close()) }()
	_, err = p.OpenContext(ctx, v.id)
	return err
}

// openRebuilt opens a database of the rebuild.
func openRebuilt(temp, name string) (*kv.Database, error) {
	return kv.Open(kv.Config{Dir: filepath.Join(temp, name), ReadOnly: true})
}

// compareState compares the state key by key and reports the differences.
func (v *verifier) compareState(ctx context.Context, temp string) (keys uint64, err error) {
	db, err := openRebuilt(temp, dbState)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	if v.couch != nil {
		return v.compareCouch(ctx, leveldb.OpenView(db, v.id))
	}
	here, there := v.stateView().Walk(), leveldb.OpenView(db, v.id).Walk()
	defer here.Close()
	defer there.Close()
	return mergeStates(here, there, func(d stateDifference) bool {
		v.add(Finding{
			Severity: Damage, Kind: checkState, Database: dbState, Key: fmt.Sprintf("%q", d.ns+"/"+d.key),
			Problem:     fmt.Sprintf("the state has %s, a rebuild from the blocks gives %s", d.first(), d.second()),
			Consequence: consequenceOfState,
			Remedy:      remedyDBs,
		})
		return true
	})
}

const consequenceOfState = "transactions that read the key are judged otherwise than on other peers, and answers to queries are wrong"

// stateDifference is a key that two states hold differently; absent is nil.
type stateDifference struct {
	ns, key string
	a, b    *state.Value
	broken  [2]error // why one does not decode
}

func (d *stateDifference) first() string { return describeStored(d.a, d.broken[0]) }

func (d *stateDifference) second() string { return describeStored(d.b, d.broken[1]) }

func describeStored(v *state.Value, broken error) string {
	if broken != nil {
		return fmt.Sprintf("a document that does not decode: %v", broken)
	}
	return describeValue(v)
}

func describeValue(v *state.Value) string {
	if v == nil {
		return "no such key"
	}
	text := fmt.Sprintf("value %s of version %s", excerpt(v.Value), v.Version)
	if len(v.Metadata) > 0 {
		text += fmt.Sprintf(" with metadata %x", v.Metadata)
	}
	return text
}

// excerpt shows the beginning of a value.
func excerpt(b []byte) string {
	const most = 64
	if len(b) > most {
		return fmt.Sprintf("%q… (%d bytes)", b[:most], len(b))
	}
	return fmt.Sprintf("%q", b)
}

// mergeStates walks two states side by side. It ends when differ says so.
func mergeStates(a, b *leveldb.Walk, differ func(stateDifference) (more bool)) (keys uint64, err error) {
	x, xok, err := a.Next()
	if err != nil {
		return 0, err
	}
	y, yok, err := b.Next()
	if err != nil {
		return 0, err
	}
	for xok || yok {
		order := 0
		switch {
		case !yok:
			order = -1
		case !xok:
			order = 1
		default:
			order = bytes.Compare(x.Full, y.Full)
		}
		more := true
		switch {
		case order < 0:
			more = differ(oneSided(x, false))
		case order > 0:
			more = differ(oneSided(y, true))
		case !bytes.Equal(x.Value, y.Value):
			if d, same := bothSided(x, y); !same {
				more = differ(d)
			}
		}
		keys++
		if !more {
			return keys, nil
		}
		if order <= 0 {
			if x, xok, err = a.Next(); err != nil {
				return keys, err
			}
		}
		if order >= 0 {
			if y, yok, err = b.Next(); err != nil {
				return keys, err
			}
		}
	}
	return keys, nil
}

func decoded(s leveldb.Stored) *state.Value {
	v, err := s.Decode()
	if err != nil {
		v = state.Value{Value: fmt.Appendf(nil, "%x, which does not decode", s.Value)}
	}
	return &v
}

func oneSided(s leveldb.Stored, second bool) stateDifference {
	d := stateDifference{a: decoded(s)}
	d.ns, d.key, _ = s.Split()
	if second {
		d.a, d.b = nil, d.a
	}
	return d
}

// bothSided compares two values whose bytes differ, as they may: old values have
// another form, and the order of entries in a configuration is not defined
// (LEDGER §4.2, §4.3).
func bothSided(x, y leveldb.Stored) (d stateDifference, same bool) {
	d = stateDifference{a: decoded(x), b: decoded(y)}
	d.ns, d.key, _ = x.Split()
	if d.a.Version != d.b.Version || !bytes.Equal(d.a.Metadata, d.b.Metadata) {
		return d, false
	}
	if bytes.Equal(d.a.Value, d.b.Value) {
		return d, true
	}
	if d.ns != "" || d.key != mvcc.ConfigKey {
		return d, false
	}
	return d, sameConfig(d.a.Value, d.b.Value)
}

// compareBooks compares hints and expiry schedule. The lists in a schedule are
// sets, in which the last entry of a hash counts (LEDGER §9.1).
func (v *verifier) compareBooks(temp string) (entries uint64, err error) {
	db, err := openRebuilt(temp, dbBookkeeper)
	if err != nil {
		return 0, err
	}
	defer db.Close()
	present, err := v.d.database(dbBookkeeper)
	if err != nil {
		return 0, nil //nolint:nilerr // said already
	}
	here, err := bookkeeper.Open(present, v.id)
	if err != nil {
		return 0, err
	}
	there, err := bookkeeper.Open(db, v.id)
	if err != nil {
		return 0, err
	}
	report := func(key, format string, args ...any) {
		v.add(Finding{
			Severity: Damage, Kind: checkBooks, Database: dbBookkeeper, Key: key, Problem: fmt.Sprintf(format, args...),
			Consequence: "a 1.4 peer ignores endorsement policies of keys, or private data do not expire when they should; then the state differs from that of other peers",
			Remedy:      remedyDBs,
		})
	}
	a, b := here.Hints(), there.Hints()
	for _, ns := range b {
		if !slices.Contains(a, ns) {
			report(fmt.Sprintf("%q", ns), "it is not noted that the namespace has had metadata")
		}
	}
	for _, ns := range a {
		if !slices.Contains(b, ns) {
			report(fmt.Sprintf("%q", ns), "it is noted that the namespace has had metadata, but no block gives it any")
		}
	}
	return compareSchedules(here, there, v.report.Height, report)
}

// scheduleWalk goes through a schedule step by step.
type scheduleWalk struct {
	next func() (bookkeeper.Key, *ledgerstore.PvtdataKeys, bool)
	stop func()
	err  error
}

var errStopped = errors.New("stopped")

func walkSchedule(s *bookkeeper.Store) *scheduleWalk {
	w := &scheduleWalk{}
	w.next, w.stop = iter.Pull2(func(yield func(bookkeeper.Key, *ledgerstore.PvtdataKeys) bool) {
		w.err = s.Schedule(func(k bookkeeper.Key, keys *ledgerstore.PvtdataKeys) error {
			if !yield(k, keys) {
				return errStopped
			}
			return nil
		})
	})
	return w
}

// compareSchedules walks two schedules side by side; both are in order.
// What expired before the height is gone from a rebuild; a crash may have left
// it, and the next start drops it (LEDGER §15.3 d).
func compareSchedules(here, there *bookkeeper.Store, height uint64, report func(key, format string, args ...any)) (uint64, error) {
	a, b := walkSchedule(here), walkSchedule(there)
	defer a.stop()
	defer b.stop()
	x, xkeys, xok := a.next()
	y, ykeys, yok := b.next()
	var n uint64
	for xok || yok {
		order := cmp.Or(cmp.Compare(x.Expiring, y.Expiring), cmp.Compare(x.Committing, y.Committing))
		switch {
		case !yok:
			order = -1
		case !xok:
			order = 1
		}
		switch {
		case order < 0 && x.Expiring < height:
		case order < 0:
			report(scheduleName(x), "nothing that was committed in block [%d] expires in block [%d]", x.Committing, x.Expiring)
		case order > 0:
			report(scheduleName(y), "the entry is missing")
		default:
			got := scheduled(xkeys)
			for hash, key := range scheduled(ykeys) {
				if have, ok := got[hash]; !ok || have != key && have == "" {
					report(scheduleName(x), "the key %q (hash %x) is not scheduled to expire", key, hash[len(hash)-32:])
					break
				}
			}
		}
		n++
		if order <= 0 {
			x, xkeys, xok = a.next()
		}
		if order >= 0 {
			y, ykeys, yok = b.next()
		}
	}
	return n, errors.Join(a.err, b.err)
}

func scheduleName(k bookkeeper.Key) string {
	return fmt.Sprintf("expiring block %d, committing block %d", k.Expiring, k.Committing)
}

// scheduled is the keys of an entry, by namespace, collection and hash; the last
// of a hash counts.
func scheduled(keys *ledgerstore.PvtdataKeys) map[string]string {
	out := map[string]string{}
	for ns, colls := range keys.GetMap() {
		for coll, list := range colls.GetMap() {
			for _, k := range list.GetList() {
				hash := make([]byte, 32)
				copy(hash, k.GetHash())
				out[ns+"\x00"+coll+"\x00"+string(hash)] = k.GetKey()
			}
		}
	}
	return out
}

// compareConfHistory compares the packages of collections after each block.
func (v *verifier) compareConfHistory(temp string) error {
	db, err := openRebuilt(temp, dbConfHistory)
	if err != nil {
		return err
	}
	defer db.Close()
	present, err := v.d.database(dbConfHistory)
	if err != nil {
		return nil //nolint:nilerr // said already
	}
	want, err := v.confHistory(db)
	if err != nil {
		return err
	}
	got, err := v.confHistory(present)
	if err != nil {
		v.databaseDamage(dbConfHistory, checkBooks, err)
		return nil
	}
	for key, value := range want {
		if have, ok := got[key]; !ok || have != value {
			problem := "the entry is missing"
			if ok {
				problem = "the collections recorded are not those of the blocks"
			}
			v.add(Finding{
				Severity: Damage, Kind: checkBooks, Database: dbConfHistory, Key: fmt.Sprintf("%q", key), Problem: problem,
				Consequence: "private data of old blocks are asked for, or handed out, by the wrong rules", Remedy: remedyDBs,
			})
		}
	}
	for key := range got {
		if _, ok := want[key]; !ok {
			v.add(Finding{
				Severity: Warning, Kind: checkBooks, Database: dbConfHistory, Key: fmt.Sprintf("%q", key),
				Problem: "the entry is of no block", Consequence: "none as a rule",
			})
		}
	}
	return nil
}

// confHistory reads a channel's configuration history, which has an entry per
// deployment of a chaincode with collections.
func (v *verifier) confHistory(db *kv.Database) (map[string]string, error) {
	out := map[string]string{}
	it := db.Store(v.id).Scan(nil, nil)
	defer it.Close()
	for it.Next() {
		out[string(it.Key())] = string(it.Value())
	}
	return out, it.Err()
}
