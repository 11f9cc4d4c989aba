package audit

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"math"
	"strings"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/mvcc"
	"github.com/heddle-ledger/heddle/ledger/pvtstore"
)

// privateWalk goes through the private data store beside the blocks.
type privateWalk struct {
	view  *pvtstore.View
	heads pvtstore.Heads
	walk  *pvtstore.Walk
	item  pvtstore.Item // the next one
	more  bool
	err   error

	// btl is after how many blocks the data of a collection expire, as the
	// chaincodes were deployed when it was first needed (LEDGER §8.3).
	btl    map[mvcc.Collection]uint64
	colls  map[string]map[string]uint64 // chaincode -> collection -> block to live, as deployed
	sets   uint64
	absent uint64
}

// openPrivate begins with the first private data.
func (v *verifier) openPrivate() {
	if v.d.Kind != Peer {
		return
	}
	db, err := v.d.database(dbPrivate)
	if err != nil {
		return // said already
	}
	p := &privateWalk{
		view: pvtstore.OpenView(db, v.id),
		btl:  map[mvcc.Collection]uint64{}, colls: map[string]map[string]uint64{},
	}
	if p.heads, err = p.view.Heads(); err != nil {
		v.databaseDamage(dbPrivate, checkPrivate, err)
		return
	}
	p.walk = p.view.Walk()
	p.advance()
	v.private = p
}

func (v *verifier) closePrivate() {
	if v.private != nil {
		v.private.walk.Close()
	}
}

func (p *privateWalk) advance() { p.item, p.more, p.err = p.walk.Next() }

type txCollection struct {
	tx       uint64
	ns, coll string
}

// matchPrivate compares the private data of a block with the hashes that its
// transactions name.
func (v *verifier) matchPrivate(j *job) error {
	p := v.private
	if p == nil {
		return nil
	}
	here := map[txCollection]bool{}
	for ; p.more && p.item.Block <= j.number(); p.advance() {
		if p.item.Block == j.number() {
			here[txCollection{p.item.Tx, p.item.Namespace, p.item.Collection}] = true
			v.matchItem(j, &p.item)
		} else if !j.gap {
			v.add(v.privateFinding(&p.item, Damage, "there is no such block"))
		}
	}
	if j.flags == nil {
		return nil
	}
	for i := range j.parsed.Len() {
		if j.flags[i] != byte(peer.TxValidationCode_VALID) {
			continue
		}
		set, err := j.parsed.Tx(i).RWSet()
		if err != nil {
			continue
		}
		if err := v.matchAbsent(j, i, set, here); err != nil {
			return err
		}
		p.deploy(set)
	}
	return nil
}

func (v *verifier) privateFinding(it *pvtstore.Item, s Severity, format string, args ...any) Finding {
	f := Finding{
		Severity: s, Kind: checkPrivate, Database: dbPrivate,
		Key:     fmt.Sprintf("collection [%s:%s]", it.Namespace, it.Collection),
		Problem: fmt.Sprintf(format, args...),
	}
	if s == Damage {
		f.Consequence = "a rebuild of the state stops here, and other peers refuse the data"
		f.Remedy = "take pvtdataStore from a backup"
	}
	return f.atBlock(it.Block).atTx(int(it.Tx), "")
}

// matchItem checks one private write set.
func (v *verifier) matchItem(j *job, it *pvtstore.Item) {
	v.private.sets++
	if it.Err != nil {
		v.add(v.privateFinding(it, Damage, "the private write set does not decode: %v", it.Err))
		return
	}
	if it.Tx >= uint64(j.parsed.Len()) {
		v.add(v.privateFinding(it, Damage, "the block has no such transaction"))
		return
	}
	tx := j.parsed.Tx(int(it.Tx))
	severity := Damage
	if j.flags == nil || j.flags[it.Tx] != byte(peer.TxValidationCode_VALID) {
		severity = Note // data of other transactions are stored as they came
	}
	set, err := tx.RWSet()
	if err != nil {
		if severity == Damage {
			v.undecodable(j, err)
		}
		return
	}
	want := mvcc.PrivateHash(set, it.Namespace, it.Collection)
	got := sha256.Sum256(it.RWSet)
	if bytes.Equal(want, got[:]) {
		return
	}
	f := v.privateFinding(it, severity, "the hash of the private write set is [%x], the transaction names [%x]", got, want)
	f.TxID = tx.ID()
	v.add(f)
}

// matchAbsent accounts for the private write sets of a transaction that are not
// here: they are listed as missing, or have expired.
func (v *verifier) matchAbsent(j *job, i int, set *protoutil.TxRWSet, here map[txCollection]bool) error {
	p := v.private
	for k := range set.Namespaces {
		ns := &set.Namespaces[k]
		for _, c := range ns.Collections {
			if len(c.PvtHash) == 0 || here[txCollection{uint64(i), ns.Namespace, c.Name}] || j.number() >= p.heads.Next {
				continue
			}
			listed, err := p.view.IsMissing(j.number(), uint64(i), ns.Namespace, c.Name)
			if err != nil {
				v.databaseDamage(dbPrivate, checkPrivate, err)
				continue
			}
			if expiring := pvtstore.ExpiringBlock(j.number(), p.life(ns.Namespace, c.Name)); listed || expiring < p.heads.Next {
				continue
			}
			p.absent++
			f := v.privateFinding(&pvtstore.Item{Block: j.number(), Tx: uint64(i), Namespace: ns.Namespace, Collection: c.Name}, Warning,
				"the private write set is neither here nor listed as missing, and has not expired")
			f.TxID = j.parsed.Tx(i).ID()
			f.Consequence = "if this peer had the data, they are lost; nobody will be asked for them. Versions before 1.4 listed nothing as missing"
			v.add(f)
		}
	}
	return nil
}

// life is after how many blocks the data of a collection expire; 0 means never.
func (p *privateWalk) life(ns, coll string) uint64 {
	key := mvcc.Collection{Namespace: ns, Name: coll}
	btl, ok := p.btl[key]
	if !ok {
		if btl, ok = p.colls[ns][coll]; ok && len(p.btl) < math.MaxUint16 {
			p.btl[key] = btl
		}
	}
	return btl
}

// deploy takes note of the collections that a transaction deploys.
func (p *privateWalk) deploy(set *protoutil.TxRWSet) {
	for k := range set.Namespaces {
		if set.Namespaces[k].Namespace != "lscc" {
			continue
		}
		for _, w := range set.Namespaces[k].KV.GetWrites() {
			chaincode, ok := strings.CutSuffix(w.GetKey(), "~collection")
			if !ok {
				continue
			}
			pkg := &peer.CollectionConfigPackage{}
			if unmarshal(w.GetValue(), pkg) != nil {
				continue
			}
			colls := map[string]uint64{}
			for _, c := range pkg.GetConfig() {
				s := c.GetStaticCollectionConfig()
				colls[s.GetName()] = s.GetBlockToLive()
			}
			p.colls[chaincode] = colls
		}
	}
}

// concludePrivate judges how far the private data store is (LEDGER §17.2).
func (v *verifier) concludePrivate(scanned scans) {
	p := v.private
	if p == nil {
		v.skip(checkPrivate, "the private data store cannot be read")
		return
	}
	for ; p.more; p.advance() {
		if p.item.Block < v.report.Height {
			continue // of a block that cannot be read
		}
		if p.item.Block > p.heads.Next || p.item.Block == p.heads.Next && !p.heads.Pending {
			v.add(v.privateFinding(&p.item, Damage, "there is no such block, and the store does not cover it"))
		}
	}
	for _, err := range []error{p.err, scanned.privateErr} {
		if err != nil {
			v.databaseDamage(dbPrivate, checkPrivate, err)
			break
		}
	}
	v.privateHeight(p.heads)
	if len(p.heads.OldBlocks) > 0 {
		v.add(Finding{
			Severity: Repair, Kind: checkPrivate, Database: dbPrivate,
			Problem:     fmt.Sprintf("reconciled private data of blocks %v may not be in the state yet", p.heads.OldBlocks),
			Consequence: "the next start puts them there",
		})
	}
	v.conclude(checkPrivate, fmt.Sprintf("%d write sets, %d entries", p.sets, scanned.private))
}

// privateHeight judges how far the store is.
func (v *verifier) privateHeight(heads pvtstore.Heads) {
	height := v.report.Height
	f := Finding{Kind: checkPrivate, Database: dbPrivate}
	switch next := heads.Next; {
	case heads.Pending:
		f.Severity, f.Problem = Repair, fmt.Sprintf("the private data of block [%d] are prepared, not committed", next)
		f.Consequence = "the next start commits them"
	case next > height && next <= v.committed: // blocks are lost, which was said
	case next > height:
		f.Severity, f.Problem = Note, fmt.Sprintf("the private data store covers blocks up to [%d], which are not in the block files yet", next-1)
		f.Consequence = "none: after a rollback or a stop in the middle of a commit this is so until the blocks come again"
	case next == 0 && height > 0:
		f.Severity, f.Problem = Repair, "the private data store is empty"
		f.Consequence = "the next start lets it begin behind the last block, as for a chain older than private data"
	case next < height:
		f.Severity, f.Problem = Damage, fmt.Sprintf("the private data store ends before block [%d], the block files hold %d blocks", next, height)
		f.Consequence = "the channel does not open: what private data the blocks had is lost"
		f.Remedy = fmt.Sprintf("take pvtdataStore from a backup, or run `peer node rollback -c %s -b %d` and let the peer fetch the blocks again with their private data", v.id, max(next, 1)-1)
	}
	if f.Problem != "" {
		v.add(f)
	}
}
