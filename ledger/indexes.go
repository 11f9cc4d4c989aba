package ledger

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/ledger/state"
)

// Places of index definitions in a chaincode package (LEDGER §5.9).
const (
	dirIndexes     = "META-INF/statedb/couchdb/indexes/"
	dirCollections = "META-INF/statedb/couchdb/collections/"
	dirOfIndexes   = "/indexes/"
)

// Artifacts finds the files for the state database, by their paths, in the
// installed package of a chaincode with the given definition; found is false if
// it is not installed.
type Artifacts func(chaincode string, definition []byte) (files map[string][]byte, found bool, err error)

// Installation is a chaincode package that is being installed.
type Installation struct {
	Chaincode string
	// Matches tells whether a definition is that of the package.
	Matches func(definition []byte) bool
	// Files are those for the state database, by their paths in the package.
	Files map[string][]byte
}

// Installing creates the indexes of a package on the channels where it is
// deployed already, or will be with the block being committed. The caller must
// call done when the package is there to be found by Config.Artifacts, or will
// not be. Failures are logged.
//
// It may be called by who holds a simulator: it waits for no commit.
func (p *Provider) Installing(in Installation) (done func()) { return p.indexes.install(&in) }

// indexes brings the indexes of chaincodes into the state databases (LEDGER
// §5.9). A deployment needs the package and an installation the definition, and
// neither may miss the other because both happen at once: so each leaves word of
// itself before it looks, and takes it back when it can be found without.
// Nobody waits for anybody, since an installation may come from a chaincode whose
// simulator holds up the very commit.
type indexes struct {
	artifacts Artifacts // nil: no chaincode is ever found
	log       *flog.Logger

	mu         sync.Mutex // guards what follows; not held while anything is created
	ledgers    map[string]*Ledger
	deploying  map[*deployment]struct{}
	installing map[*Installation]struct{}
}

// deployment is a definition on its way into the state.
type deployment struct {
	l           *Ledger
	chaincode   string
	definition  []byte
	collections []byte
}

func newIndexes(artifacts Artifacts, log *flog.Logger) *indexes {
	return &indexes{
		artifacts: artifacts, log: log.Named("kvledger"), ledgers: map[string]*Ledger{},
		deploying: map[*deployment]struct{}{}, installing: map[*Installation]struct{}{},
	}
}

// add makes a ledger known whose state is open; forget takes it back.
func (x *indexes) add(l *Ledger) {
	if _, ok := l.state.(state.IndexCreator); !ok {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.ledgers[l.id] = l
}

func (x *indexes) forget(id string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.ledgers, id)
}

// deploy creates the indexes of the chaincodes that a block defines, as far as
// they are installed. done must be called when the state has the definitions, or
// will not get them.
func (x *indexes) deploy(l *Ledger, changes []lifecycleChange) (done func()) {
	if _, ok := l.state.(state.IndexCreator); !ok {
		return func() {}
	}
	var mine []*deployment
	for i := range changes {
		if c := &changes[i]; c.definition != nil {
			mine = append(mine, &deployment{l: l, chaincode: c.chaincode, definition: c.definition, collections: c.collections})
		}
	}
	x.mu.Lock()
	for _, d := range mine {
		x.deploying[d] = struct{}{}
	}
	installing := slices.Collect(maps.Keys(x.installing))
	x.mu.Unlock()
	for _, d := range mine {
		for _, in := range installing {
			if in.Chaincode == d.chaincode && in.Matches(d.definition) {
				d.create(in.Files, l.endure)
			}
		}
		x.createInstalled(d)
	}
	return func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		for _, d := range mine {
			delete(x.deploying, d)
		}
	}
}

func (x *indexes) createInstalled(d *deployment) {
	if x.artifacts == nil {
		return
	}
	files, found, err := x.artifacts(d.chaincode, d.definition)
	if err != nil {
		x.log.Errorf("[%s] No indexes are created for chaincode [%s]: %s", d.l.id, flog.Foreign(d.chaincode), err)
		return
	}
	if !found {
		x.log.Infof("[%s] Chaincode [%s] is not installed, hence no need to create or update indexes", d.l.id, flog.Foreign(d.chaincode))
		return
	}
	d.create(files, d.l.endure)
}

func (x *indexes) install(in *Installation) (done func()) {
	x.mu.Lock()
	x.installing[in] = struct{}{}
	// The deployments first: one that is not among them is in the state.
	deploying := slices.Collect(maps.Keys(x.deploying))
	ledgers := slices.Collect(maps.Values(x.ledgers))
	x.mu.Unlock()
	if len(in.Files) > 0 {
		for _, d := range deploying {
			if in.Chaincode == d.chaincode && in.Matches(d.definition) {
				d.create(in.Files, once)
			}
		}
		for _, l := range ledgers {
			x.installOn(l, in)
		}
	}
	return func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		delete(x.installing, in)
	}
}

func (x *indexes) installOn(l *Ledger, in *Installation) {
	d := &deployment{l: l, chaincode: in.Chaincode}
	for key, value := range map[string]*[]byte{in.Chaincode: &d.definition, collectionKey(in.Chaincode): &d.collections} {
		v, err := l.state.Get(lifecycleNamespace, key)
		if err != nil {
			x.log.Errorf("[%s] No indexes are created for chaincode [%s]: %s", l.id, flog.Foreign(in.Chaincode), err)
			return
		}
		*value = valueOf(v)
	}
	if d.definition != nil && in.Matches(d.definition) {
		d.create(in.Files, once)
	}
}

// once is for who must not wait for the state database.
func once(f func() error) error { return f() }

// create creates the indexes of a package, through a function that may repeat it.
func (d *deployment) create(files map[string][]byte, through func(f func() error) error) {
	byNamespace := map[string]map[string][]byte{}
	var defined map[string]bool
	for name, content := range files {
		ns, file := d.chaincode, ""
		switch {
		case strings.HasPrefix(name, dirIndexes):
			file = name[len(dirIndexes):]
		case strings.HasPrefix(name, dirCollections):
			coll, rest, ok := strings.Cut(name[len(dirCollections):], dirOfIndexes)
			if !ok {
				continue
			}
			if defined == nil {
				defined = collectionsOf(d.l.deployedCollections(d.chaincode, d.collections))
			}
			if !defined[coll] {
				d.l.log.Errorf("[%s] Chaincode [%s]: cannot create an index for an undefined collection: [%s]",
					d.l.id, flog.Foreign(d.chaincode), flog.Foreign(coll))
				continue
			}
			ns, file = state.PrivateNamespace(d.chaincode, coll), rest
		default:
			continue
		}
		if byNamespace[ns] == nil {
			byNamespace[ns] = map[string][]byte{}
		}
		byNamespace[ns][file] = content
	}
	for _, ns := range slices.Sorted(maps.Keys(byNamespace)) {
		err := through(func() error { return d.l.state.(state.IndexCreator).CreateIndexes(ns, byNamespace[ns]) })
		if err != nil {
			d.l.log.Errorf("[%s] Error creating indexes for chaincode [%s]: %s", d.l.id, flog.Foreign(ns), err)
		}
	}
}
