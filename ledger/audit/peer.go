package audit

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/history"
	"github.com/heddle-ledger/heddle/ledger/mvcc"
	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb"
	"github.com/heddle-ledger/heddle/ledger/state/leveldb"
)

// readPeerHeads reads how far state and history are.
func (v *verifier) readPeerHeads() {
	if v.d.Kind != Peer {
		return
	}
	if view := v.stateView(); view != nil {
		sp, err := view.Savepoint()
		if err != nil {
			v.databaseDamage(dbState, checkState, err)
		} else if sp != nil {
			v.stateNext = sp.Block + 1
		}
	}
	if db, err := v.d.database(dbHistory); err == nil {
		sp, err := history.Open(db, v.id).Savepoint()
		if err != nil {
			v.databaseDamage(dbHistory, checkHistory, err)
		} else if sp != nil {
			v.historyNext = sp.Block + 1
		}
	}
}

// stateView looks at the state; nil if there is none that can be read.
func (v *verifier) stateView() *leveldb.View {
	if v.o.CouchDB {
		return nil
	}
	db, err := v.d.database(dbState)
	if err != nil {
		return nil
	}
	return leveldb.OpenView(db, v.id)
}

// finishPeer judges the stores that only a peer has.
func (v *verifier) finishPeer(ctx context.Context, scanned scans) error {
	v.concludeList()
	v.concludeHistory(ctx, scanned)
	v.concludePrivate(scanned)
	if scanned.booksErr != nil {
		v.databaseDamage(dbBookkeeper, checkBooks, scanned.booksErr)
	}
	v.preReset()
	if v.couch != nil {
		return v.concludeCouch(ctx, scanned)
	}
	if v.o.CouchDB {
		v.skip(checkBooks, fmt.Sprintf("%d schedule entries read", scanned.schedule))
		v.skip(checkState, "the state is in CouchDB, which was not looked at")
		return nil
	}
	return v.concludeState(ctx, scanned)
}

// savepoint judges how far a database that follows the blocks is (LEDGER §17.3).
// The finding is begun with where the savepoint is.
func (v *verifier) savepoint(f Finding, name string, next uint64) {
	height := v.report.Height
	f.Remedy = ""
	switch {
	case next == height, next > height && next <= v.committed: // or blocks are lost, which was said
		return
	case next > height:
		f.Severity, f.Remedy = Damage, remedyDBs
		f.Problem = fmt.Sprintf("the %s database [height=%d] is ahead of the block store [height=%d]", name, next, height)
		f.Consequence = "the channel does not open"
	case next == 0:
		f.Severity, f.Problem = Repair, fmt.Sprintf("the %s database holds nothing of the channel", name)
		f.Consequence = fmt.Sprintf("the next start replays %s into it", blocks(0, height))
	default:
		f.Severity, f.Problem = Repair, fmt.Sprintf("the %s database ends before %s", name, blocks(next, height))
		f.Consequence = fmt.Sprintf("the next start replays %s into it", blocks(next, height))
	}
	v.add(f)
}

// concludeList compares the peer's list of channels with the block files (LEDGER
// §2.3).
func (v *verifier) concludeList() {
	genesis, constructing, err := v.d.listed()
	if err != nil {
		v.skip(checkList, "the list cannot be read")
		return
	}
	raw, listed := genesis[v.id]
	f := Finding{Kind: checkList, Database: dbList, Key: "l" + v.id}
	height := v.report.Height
	switch {
	case constructing == v.id && height <= 1:
		f.Severity, f.Key = Repair, "underConstructionLedgerKey"
		f.Problem, f.Consequence = "the peer stopped while it created the channel", "the next start completes the creation, or undoes it"
	case constructing == v.id:
		f.Severity, f.Key = Damage, "underConstructionLedgerKey"
		f.Problem = fmt.Sprintf("under construction flag is set for ledger [%s] while the height of the blockchain is [%d]", v.id, height)
		f.Consequence, f.Remedy = "the peer does not start", "take ledgerProvider from a backup"
	case !listed && height == 0:
		f.Severity, f.Problem = Note, "there is an empty directory of block files for a channel that the peer does not list"
		f.Consequence = "none: an attempt to join the channel failed"
	case !listed:
		f.Severity, f.Problem = Damage, "the peer does not list the channel, but has block files of it"
		f.Consequence, f.Remedy = "the channel does not open", "take ledgerProvider from a backup, or move the directory of the block files away and join the channel again"
	default:
		f = v.compareGenesis(f, raw)
	}
	if f.Problem != "" {
		v.add(f)
	}
	v.conclude(checkList, "")
}

func (v *verifier) compareGenesis(f Finding, raw []byte) Finding {
	b := &common.Block{}
	f.Severity = Damage
	if err := unmarshal(raw, b); err != nil {
		f.Problem, f.Consequence, f.Remedy = fmt.Sprintf("the genesis block in the list does not decode: %v", err), "none in normal operation", "take ledgerProvider from a backup"
		return f
	}
	if v.genesis == nil || proto.Equal(b.GetHeader(), v.genesis.GetHeader()) && equalData(b, v.genesis) {
		return f
	}
	f = f.atBlock(0)
	f.Problem = fmt.Sprintf("the genesis block in the list (hash [%x]) is not block 0 of the block files (hash [%x])",
		protoutil.BlockHash(b.GetHeader()), protoutil.BlockHash(v.genesis.GetHeader()))
	f.Consequence = "the block files, or the list, are of another channel of the same name"
	f.Remedy = "find out which of them is right, and take the other from a backup"
	return f
}

func equalData(a, b *common.Block) bool {
	x, y := a.GetData().GetData(), b.GetData().GetData()
	if len(x) != len(y) {
		return false
	}
	for i := range x {
		if !bytes.Equal(x[i], y[i]) {
			return false
		}
	}
	return true
}

// preReset tells of a rollback or reset whose blocks have not all come again
// (LEDGER §18.3).
func (v *verifier) preReset() {
	raw, err := os.ReadFile(filepath.Join(v.d.chainDir(v.id), "__preResetHeight"))
	if err != nil {
		return
	}
	v.add(Finding{
		Severity: Note, Kind: checkFiles, File: filepath.Join(v.d.chainDir(v.id), "__preResetHeight"),
		Problem:     fmt.Sprintf("the channel was rolled back or reset from height %.20s", strings.TrimSpace(string(raw))),
		Consequence: "the peer refuses proposals until all such channels have reached that height again",
	})
}

// concludeHistory compares the history with the blocks (LEDGER §6).
func (v *verifier) concludeHistory(ctx context.Context, scanned scans) {
	db, err := v.d.database(dbHistory)
	disabled := v.o.History != nil && !*v.o.History
	switch {
	case err != nil:
		v.skip(checkHistory, "there is none that can be read")
		return
	case v.historyNext == 0 && scanned.history.N == 0 && (disabled || v.o.History == nil):
		v.skip(checkHistory, "none is kept")
		return
	}
	if scanned.historyErr != nil && ctx.Err() == nil {
		v.databaseDamage(dbHistory, checkHistory, scanned.historyErr)
	}
	if disabled && v.historyNext < v.report.Height {
		v.add(Finding{
			Severity: Note, Kind: checkHistory, Database: dbHistory, Key: "savepoint",
			Problem: fmt.Sprintf("history was kept up to block [%d] and then switched off", int64(v.historyNext)-1),
		})
	} else {
		v.savepoint(Finding{Kind: checkHistory, Database: dbHistory, Key: "savepoint"}, "history", v.historyNext)
	}
	if scanned.historyErr == nil && scanned.history != v.total.history {
		if err := v.explainHistory(ctx, history.Open(db, v.id), scanned.history.N); err != nil && ctx.Err() == nil {
			v.databaseDamage(dbHistory, checkHistory, err)
		}
	}
	v.conclude(checkHistory, fmt.Sprintf("%d entries", scanned.history.N))
}

// explainHistory looks up entry by entry where history and blocks differ.
func (v *verifier) explainHistory(ctx context.Context, h *history.Store, actual uint64) error {
	w, err := newWalker(v.d, v.id, func(Finding) {})
	if err != nil {
		return err
	}
	defer w.files.Close()
	w.committed = v.committed
	var right uint64
	err = w.run(ctx, func(rec *record) error {
		parsed := protoutil.ParseBlock(rec.block)
		if flags := parsed.Flags(); rec.number() < v.historyNext && len(flags) == parsed.Len() {
			return v.explainBlockHistory(h, rec, parsed, &right)
		}
		return nil
	})
	if err != nil || v.findings.has(Damage, checkFiles, checkMetadata, checkData) || actual <= right {
		return err
	}
	v.add(Finding{
		Severity: Damage, Kind: checkHistory, Database: dbHistory,
		Problem:     fmt.Sprintf("%d of %d entries are of no write in the blocks", actual-right, actual),
		Consequence: "none as a rule: queries pass over them", Remedy: remedyDBs,
	})
	return nil
}

func (v *verifier) explainBlockHistory(h *history.Store, rec *record, parsed *protoutil.Block, right *uint64) error {
	var failed error
	seen := map[string]bool{}
	err := history.Entries(parsed, parsed.Flags(), func(tx uint64, ns, key string, entry []byte) {
		if failed != nil || seen[string(entry)] {
			return
		}
		seen[string(entry)] = true
		ok, err := h.Has(entry)
		if err != nil {
			failed = err
			return
		}
		if ok {
			*right++
			return
		}
		v.add(Finding{
			Severity: Damage, Kind: checkHistory, Database: dbHistory, Key: fmt.Sprintf("%q", ns+"/"+key),
			Problem:     "the history does not have this write",
			Consequence: "history queries leave it out", Remedy: remedyDBs,
		}.atBlock(rec.number()).atTx(int(tx), parsed.Tx(int(tx)).ID()))
	})
	if err != nil {
		return nil //nolint:nilerr // reported where the block was examined
	}
	return failed
}

// stateScan reads a channel's state from end to end.
type stateScan struct {
	keys uint64
	last *uint64 // block of the savepoint
	bad  []Finding
	err  error
}

func (s *stateScan) run(ctx context.Context, view *leveldb.View) {
	sp, err := view.Savepoint()
	if err == nil && sp != nil {
		s.last = &sp.Block
	}
	walk := view.Walk()
	defer walk.Close()
	for ctx.Err() == nil {
		stored, ok, err := walk.Next()
		if err != nil || !ok {
			s.err = err
			return
		}
		s.keys++
		value, err := stored.Decode()
		var version state.Version
		if err == nil {
			version, err = stored.Version()
		}
		_, _, named := stored.Split()
		switch {
		case err != nil:
			s.note(stored, fmt.Sprintf("the value does not decode: %v", err))
		case !metadataDecodes(value.Metadata):
			s.note(stored, fmt.Sprintf("the metadata of the key do not decode: %x", value.Metadata))
		case !named:
			s.note(stored, "the key has no namespace")
		case s.last != nil && version.Block > *s.last:
			s.note(stored, fmt.Sprintf("the value is of block [%d], the state ends with block [%d]", version.Block, *s.last))
		}
	}
}

func (s *stateScan) note(stored leveldb.Stored, problem string) {
	if len(s.bad) < maxPerKind {
		s.bad = append(s.bad, Finding{
			Severity: Damage, Kind: checkState, Database: dbState, Key: fmt.Sprintf("%q", stored.Full), Problem: problem,
			Consequence: "reads of the key fail or are wrong; transactions are judged otherwise than on other peers", Remedy: remedyDBs,
		})
	}
}

// concludeState judges the state, and rebuilds it if that was asked for.
func (v *verifier) concludeState(ctx context.Context, scanned scans) error {
	view := v.stateView()
	if view == nil {
		v.skip(checkState, "there is none that can be read")
		v.skip(checkBooks, "")
		return nil
	}
	s := &scanned.state
	if s.err != nil && ctx.Err() == nil {
		v.databaseDamage(dbState, checkState, s.err)
	}
	for _, f := range s.bad {
		v.add(f)
	}
	v.savepoint(v.stateFinding("savepoint"), "state", v.stateNext)
	if s.err == nil {
		v.compareConfig(view.Get)
		if sp, err := view.Savepoint(); err == nil {
			v.savepointTx(sp)
		}
	}
	detail := fmt.Sprintf("%d keys read", s.keys)
	if !v.o.State {
		v.conclude(checkBooks, fmt.Sprintf("%d schedule entries read", scanned.schedule))
		v.conclude(checkState, detail+"; not compared with the blocks (see --state)")
		return nil
	}
	if v.findings.has(Damage) || v.stateNext != v.report.Height {
		v.conclude(checkBooks, fmt.Sprintf("%d schedule entries read", scanned.schedule))
		why := "; not compared with the blocks, because of the findings above"
		if !v.findings.has(Damage) {
			why = "; not compared with the blocks, because it does not end with the last of them"
		}
		v.conclude(checkState, detail+why)
		return nil
	}
	return v.compareRebuilt(ctx)
}

// stateFinding begins a finding about what the state has besides the keys of
// chaincodes.
func (v *verifier) stateFinding(key string) Finding {
	if s := v.couch; s != nil {
		if key == mvcc.ConfigKey {
			if space := s.view.Space(""); space != nil {
				return s.finding(space.Database, key)
			}
		}
		return s.finding(s.view.MetadataDB, couchdb.SavepointID)
	}
	return Finding{Severity: Damage, Kind: checkState, Database: dbState, Key: key, Remedy: remedyDBs}
}

// savepointTx checks the transaction number in the savepoint (LEDGER §4.1).
func (v *verifier) savepointTx(sp *state.Version) {
	if sp == nil || v.last == nil || sp.Block != v.last.GetHeader().GetNumber() {
		return
	}
	if want := uint64(len(v.last.GetData().GetData())) - 1; sp.Tx != want {
		f := v.stateFinding("savepoint")
		f.Problem = fmt.Sprintf("the savepoint names transaction [%d] of block [%d], whose last is [%d]", int64(sp.Tx), sp.Block, want)
		v.add(f.atBlock(sp.Block))
	}
}

// compareConfig compares the configuration in the state with that of the blocks
// (LEDGER §4.3).
func (v *verifier) compareConfig(get func(ns, key string) (*state.Value, error)) {
	if v.configBlock == nil || !v.signing.known || v.configBlock.GetHeader().GetNumber() >= v.stateNext {
		return
	}
	f := v.stateFinding(mvcc.ConfigKey).atBlock(v.configBlock.GetHeader().GetNumber())
	f.Consequence = "the peer judges by another configuration than the channel's"
	_, env, err := chanconfig.ConfigOfBlock(v.configBlock)
	if err != nil {
		return
	}
	got, err := get("", mvcc.ConfigKey)
	switch {
	case err != nil:
		return // the scan has said so
	case got == nil:
		f.Severity, f.Problem = Note, "the state has no configuration"
		f.Consequence, f.Remedy = "it was written before 1.1, or the configuration is lost; the peer takes that of the last configuration block", ""
	default:
		cfg := &common.Config{}
		if err := unmarshal(got.Value, cfg); err != nil {
			f.Problem = fmt.Sprintf("the configuration in the state does not decode: %v", err)
		} else if !proto.Equal(cfg, env.GetConfig()) {
			f.Problem = "the configuration in the state is not that of the last configuration block"
			if v.couch != nil {
				f.Problem += ": the databases may be of another network's channel of the same name"
				f.Remedy = "make sure that ledger.state.couchDBConfig.couchDBAddress is this peer's server, then " + remedyDBs
			}
		}
	}
	if f.Problem != "" {
		v.add(f)
	}
}
