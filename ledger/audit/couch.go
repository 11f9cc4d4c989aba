package audit

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/progress"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/state"
	"github.com/heddle-ledger/heddle/ledger/state/couchdb"
	"github.com/heddle-ledger/heddle/ledger/state/leveldb"
)

// couchState is the state of a channel in CouchDB, as Verify looks at it.
type couchState struct {
	heldInCouch
	sp      *state.Version
	spError error // a savepoint that does not decode

	spaces []string // namespaces that have a database of their own
	total  uint64   // keys counted
	keys   uint64   // keys read
	// check is called with every document read.
	check func(s *couchdb.Stored, ns, database string)
}

// openCouch looks how far the state is, if it is in CouchDB and the server was
// named. An error is one of the server.
func (v *verifier) openCouch(ctx context.Context) error {
	if v.o.Server == nil || v.d.Kind != Peer {
		return nil
	}
	view, err := v.o.Server.Channel(v.id)
	if err != nil {
		return err
	}
	s := &couchState{heldInCouch: heldInCouch{view: view}}
	var damaged *couchdb.DocumentError
	if s.sp, err = view.Savepoint(ctx); errors.As(err, &damaged) {
		s.spError = damaged.Err
	} else if err != nil {
		return err
	}
	if s.sp != nil {
		v.stateNext = s.sp.Block + 1
	}
	s.check = v.checkDocument
	v.couch = s
	return nil
}

// finding begins a finding about a document.
func (s *couchState) finding(database, id string) Finding {
	f := Finding{Severity: Damage, Kind: checkState, Database: s.view.URL(database), Remedy: remedyDBs}
	if id != "" {
		f.Document = fmt.Sprintf("%q", id)
	}
	return f
}

// place is where the state is, in words.
func (s *couchState) place() string {
	n := "1 database"
	if len(s.counts) != 1 {
		n = fmt.Sprintf("%d databases", len(s.counts))
	}
	return n + " at " + s.view.Server().Address()
}

// spaceSet is namespaces that valid transactions name, with the first block that
// writes to them.
type spaceSet map[string]uint64

// neverWritten is the block of a namespace to which nothing need have been
// written: it may be without a database.
const neverWritten = math.MaxUint64

func (s spaceSet) note(ns string, block uint64) {
	if have, ok := s[ns]; !ok || block < have {
		s[ns] = block
	}
}

// add takes over what a block names.
func (s spaceSet) add(b *protoutil.Block, codes []byte) {
	for i := range b.Len() {
		if i >= len(codes) || codes[i] != byte(peer.TxValidationCode_VALID) {
			continue
		}
		set, err := b.Tx(i).RWSet()
		if err != nil {
			continue // a configuration, or damage that is reported elsewhere
		}
		for k := range set.Namespaces {
			ns := &set.Namespaces[k]
			s.note(ns.Namespace, ifAny(len(ns.KV.GetWrites()), b.Number()))
			for _, c := range ns.Collections {
				s.note(state.HashedNamespace(ns.Namespace, c.Name), ifAny(len(c.Hashed.GetHashedWrites()), b.Number()))
				s.note(state.PrivateNamespace(ns.Namespace, c.Name), neverWritten)
			}
		}
	}
}

func ifAny(writes int, block uint64) uint64 {
	if writes == 0 {
		return neverWritten
	}
	return block
}

func (s spaceSet) join(o spaceSet) {
	for ns, block := range o {
		s.note(ns, block)
	}
}

// concludeCouch judges a state in CouchDB.
func (v *verifier) concludeCouch(ctx context.Context, scanned scans) error {
	s := v.couch
	if err := v.findDatabases(ctx); err != nil {
		return err
	}
	v.couchSavepoint()
	if s.spError == nil {
		v.compareConfig(func(ns, key string) (*state.Value, error) {
			got, err := s.at(ctx, ns, []string{key})
			if err != nil || got[0] == nil {
				return nil, err
			}
			return &got[0].Value, got[0].Err
		})
		v.savepointTx(s.sp)
	}
	if err := v.lookAround(ctx); err != nil {
		return err
	}
	why := "see --state"
	if v.o.State {
		switch {
		case v.damagedBeside(checkState):
			why = "because of the findings above"
		case v.stateNext != v.report.Height || s.spError != nil:
			why = "because it does not end with the last of them"
		default:
			if err := v.compareRebuilt(ctx); err != nil {
				return err
			}
			return v.atRest(ctx)
		}
	}
	if err := v.readCouch(ctx); err != nil {
		return err
	}
	v.conclude(checkBooks, fmt.Sprintf("%d schedule entries read", scanned.schedule))
	v.conclude(checkState, fmt.Sprintf("%d keys in %s read; not compared with the blocks (%s)", s.keys, s.place(), why))
	return v.atRest(ctx)
}

// damagedBeside tells whether anything but one kind of data is damaged.
func (v *verifier) damagedBeside(kind string) bool {
	return slices.ContainsFunc(v.findings.sorted(), func(f Finding) bool { return f.Severity == Damage && f.Kind != kind })
}

// findDatabases looks which namespaces have a database, and whether those have one
// that must.
func (v *verifier) findDatabases(ctx context.Context) error {
	s := v.couch
	v.total.spaces.note("", neverWritten)
	owners := map[string]string{}
	for _, ns := range slices.Sorted(maps.Keys(v.total.spaces)) {
		space := s.view.Space(ns)
		if space == nil {
			continue // there can be none, so nothing is in it
		}
		if other, taken := owners[space.Database]; taken {
			f := s.finding(space.Database, "")
			f.Severity, f.Remedy = Warning, ""
			f.Problem = fmt.Sprintf("namespaces %q and %q share the database, so the second was not looked at", other, ns)
			f.Consequence = "chaincodes see and change each other's keys, on Fabric 1.4 as well"
			v.add(f)
			continue
		}
		owners[space.Database] = ns
		found, err := s.add(ctx, ns)
		if err != nil {
			return err
		}
		if found {
			s.spaces = append(s.spaces, ns)
			s.total += s.counts[space.Database]
		} else if first := v.total.spaces[ns]; first < v.stateNext {
			v.add(s.missing(space.Database, fmt.Sprintf("the database is missing, though block [%d] wrote to it", first)))
		}
	}
	return nil
}

func (s *couchState) missing(database, problem string) Finding {
	f := s.finding(database, "")
	f.Problem = problem
	f.Consequence = "its values are lost: the channel does not open, or, if the history does not know of the database, the next start makes an empty one without a word, and the peer judges transactions otherwise than others"
	return f
}

// couchSavepoint judges how far the state is. In CouchDB it is not written in one
// with the values.
func (v *verifier) couchSavepoint() {
	s := v.couch
	f := s.finding(s.view.MetadataDB, couchdb.SavepointID)
	switch {
	case s.spError != nil:
		f.Problem = fmt.Sprintf("the savepoint does not decode: %v", s.spError)
		f.Consequence = "the channel does not open"
		v.add(f)
	case s.sp == nil && v.report.Height > 0:
		f.Severity, f.Remedy = Repair, ""
		f.Problem = "there is no state of the channel on the server: neither database nor savepoint"
		if s.total > 0 {
			f.Problem = fmt.Sprintf("there is no savepoint, but %d keys in %s", s.total, s.place())
		}
		f.Consequence = fmt.Sprintf("the next start replays %s into it; if the state was there, the server is another one, and ledger.state.couchDBConfig.couchDBAddress is to be mended first", blocks(0, v.report.Height))
		v.add(f)
	default:
		v.savepoint(f, "state", v.stateNext)
	}
}

// lookAround tells of databases that should not be there, and of indexes that are
// behind.
func (v *verifier) lookAround(ctx context.Context) error {
	s := v.couch
	known := map[string]bool{s.view.MetadataDB: true}
	for ns := range v.total.spaces {
		if space := s.view.Space(ns); space != nil {
			known[space.Database] = true
		}
	}
	names, listed, err := s.view.Others(ctx, func(name string) bool { return known[name] })
	if err != nil {
		return err
	}
	if !listed {
		v.add(Finding{
			Severity: Note, Kind: checkState, Database: s.view.Server().Address(),
			Problem:     "the server does not list its databases to this user, so it is not known whether there are any that do not belong",
			Consequence: "`peer node rebuild-dbs` fails; it takes an administrator of the server",
		})
	}
	for _, name := range names {
		n, _, err := s.view.Count(ctx, name)
		if err != nil {
			return err
		}
		if n == 0 {
			continue // the peer makes one for any namespace that is asked for
		}
		f := s.finding(name, "")
		f.Severity, f.Remedy = Warning, "find out whose it is; if nobody's, delete it while the peer is down"
		f.Problem = fmt.Sprintf("by its name the database, with %d documents, is of this channel, but no block writes to its namespace", n)
		f.Consequence = "none, until a chaincode of that name is deployed: it would find values that no other peer has"
		v.add(f)
	}
	for database := range s.counts {
		lags, err := s.view.IndexLag(ctx, database)
		if err != nil {
			return err
		}
		for _, lag := range lags {
			v.add(Finding{
				Severity: Note, Kind: checkState, Database: s.view.URL(database), Document: fmt.Sprintf("%q", "_design/"+lag.Design),
				Problem:     fmt.Sprintf("index [%s] lacks the last %d changes", lag.Name, lag.Changes),
				Consequence: "the first query that uses it waits until CouchDB has brought it up to date; ledger.state.couchDBConfig.autoWarmIndexes has it done after blocks",
			})
		}
	}
	return nil
}

// showing shows how far the reading is.
func (v *verifier) showing(work string) *progress.Progress {
	return progress.NewOf(v.o.Progress, v.id+": "+work, "key", 0, v.couch.total)
}

// readCouch reads all documents.
func (v *verifier) readCouch(ctx context.Context) error {
	show := v.showing("reading the state")
	defer show.Done()
	for _, ns := range v.couch.spaces {
		if err := v.couch.pages(ctx, ns, func(page []couchdb.Stored) (bool, error) {
			show.Add(uint64(len(page)))
			return true, nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// pages implements held, and checks what it reads.
func (s *couchState) pages(ctx context.Context, ns string, visit func([]couchdb.Stored) (bool, error)) error {
	database := s.view.Space(ns).Database
	return s.heldInCouch.pages(ctx, ns, func(page []couchdb.Stored) (bool, error) {
		for i := range page {
			s.check(&page[i], ns, database)
		}
		s.keys += uint64(len(page))
		return visit(page)
	})
}

// checkDocument checks what a document tells without the blocks.
func (v *verifier) checkDocument(d *couchdb.Stored, ns, database string) {
	f := v.couch.finding(database, d.ID)
	f.Key = fmt.Sprintf("%q", ns+"/"+d.Key)
	f.Consequence = "reads of the key fail or are wrong; transactions are judged otherwise than on other peers"
	height := max(v.report.Height, v.committed)
	switch {
	case d.Err != nil:
		f.Problem = fmt.Sprintf("the document does not decode: %v", d.Err)
	case !metadataDecodes(d.Value.Metadata):
		f.Problem = fmt.Sprintf("the metadata of the key do not decode: %x", d.Value.Metadata)
	case d.Value.Version.Block >= height:
		f.Problem = fmt.Sprintf("the value is of block [%d], but there are %d blocks", d.Value.Version.Block, height)
		if v.couch.sp == nil {
			f.Consequence = "the channel does not open: the state database was dropped in part only"
		}
	case len(d.Beside) > 0:
		f.Severity = Warning
		f.Problem = fmt.Sprintf("the document has %s, which no peer writes beside its value", strings.Join(d.Beside, ", "))
		f.Consequence = "the value is read as it should be, but rich queries may find the document where they should not"
	default:
		return
	}
	v.add(f)
}

// metadataDecodes tells whether the metadata of a key are what is kept as such
// (LEDGER §4.4).
func metadataDecodes(raw []byte) bool {
	return len(raw) == 0 || unmarshal(raw, &kvrwset.KVMetadataWrite{}) == nil
}

// compareCouch compares the state with the rebuilt one.
func (v *verifier) compareCouch(ctx context.Context, rebuilt *leveldb.View) (keys uint64, err error) {
	s := v.couch
	there, err := newHeldInFiles(ctx, rebuilt)
	if err != nil {
		return 0, err
	}
	show := v.showing("comparing the state")
	defer show.Done()
	m := &heldMerge{a: s, b: there, show: show, damageKnown: true, differ: func(d stateDifference) bool {
		space := s.view.Space(d.ns)
		f := s.finding(space.Database, space.ID(d.key))
		f.Key = fmt.Sprintf("%q", d.ns+"/"+d.key)
		f.Problem = fmt.Sprintf("the state has %s, a rebuild from the blocks gives %s", d.first(), d.second())
		f.Consequence = consequenceOfState
		v.add(f)
		return true
	}}
	for _, ns := range s.spaces {
		if err := m.namespace(ctx, ns); err != nil {
			return m.keys, err
		}
	}
	for _, ns := range slices.Sorted(maps.Keys(there.counts)) {
		space := s.view.Space(ns)
		first, named := v.total.spaces[ns]
		if space == nil || s.space(ns) != nil || named && first < v.stateNext { // said already
			continue
		}
		v.add(s.missing(space.Database, fmt.Sprintf("the database is missing, though a rebuild from the blocks has %d keys in it", there.counts[ns])))
	}
	return m.keys, nil
}

// atRest makes sure that nobody has gone on with the state in the meantime: that
// the peer's directory is locked says nothing about a copy's server.
func (v *verifier) atRest(ctx context.Context) error {
	s := v.couch
	now, err := s.view.Savepoint(ctx)
	var damaged *couchdb.DocumentError
	switch {
	case errors.As(err, &damaged):
		return nil
	case err != nil:
		return err
	case s.sp == nil && now == nil, s.sp != nil && now != nil && *s.sp == *now:
		return nil
	}
	return fmt.Errorf("CouchDB at %s: the savepoint of channel [%s] has moved while the state was read: a peer uses the server. Stop it, and repeat", s.view.Server().Address(), v.id)
}

// asCouch is a database of a rebuild that holds what CouchDB can hold, and no
// more.
type asCouch struct{ state.Provider }

// Open implements state.Provider.
func (p asCouch) Open(channelID string) (state.DB, error) {
	db, err := p.Provider.Open(channelID)
	if err != nil {
		return nil, err
	}
	return ruled{DB: db, rules: couchdb.Rules{Channel: channelID}}, nil
}

type ruled struct {
	state.DB
	rules couchdb.Rules
}

// CheckWrite implements state.DB.
func (r ruled) CheckWrite(key string, value []byte) error { return r.rules.CheckWrite(key, value) }

// CheckKey implements state.KeyChecker.
func (r ruled) CheckKey(ns, key string) error { return r.rules.CheckKey(ns, key) }

// openAsCouch opens the state of a rebuild.
func openAsCouch(over *overlay, root string) (state.Provider, error) {
	p, err := leveldb.OpenProvider(leveldb.Config{Dir: filepath.Join(root, dbState), FS: over})
	if err != nil {
		return nil, err
	}
	return asCouch{p}, nil
}
