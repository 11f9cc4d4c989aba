package ledger

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/ledger/bookkeeper"
	"github.com/heddle-ledger/heddle/ledger/state"
)

// described lists everything that is in the results of a simulation, except for
// the look-ups of collections.
func described(t *testing.T, s *Simulator) string {
	t.Helper()
	set, private := resultsOf(t, s)
	var out []string
	for i := range set.Namespaces {
		ns := &set.Namespaces[i]
		if ns.Namespace != lifecycleNamespace {
			out = append(out, describedKV(ns.KV)...)
			for k := range ns.Collections {
				out = append(out, describedCollection(&ns.Collections[k])...)
			}
		}
	}
	for _, ns := range private.GetNsPvtRwset() {
		for _, c := range ns.CollectionPvtRwset {
			kv := &kvrwset.KVRWSet{}
			must(t, proto.Unmarshal(c.Rwset, kv))
			for _, e := range describedKV(kv) {
				out = append(out, "private "+c.CollectionName+" "+e)
			}
		}
	}
	return strings.Join(out, "; ")
}

func describedKV(kv *kvrwset.KVRWSet) (out []string) {
	for _, r := range kv.Reads {
		out = append(out, "read "+r.Key+at(r.Version))
	}
	for _, q := range kv.RangeQueriesInfo {
		reads := ""
		for _, r := range q.GetRawReads().GetKvReads() {
			reads += " " + r.Key + at(r.Version)
		}
		if m := q.GetReadsMerkleHashes(); m != nil {
			reads = fmt.Sprintf(" summary of level %d", m.MaxLevel)
		}
		out = append(out, fmt.Sprintf("range %s..%s %t%s", q.StartKey, q.EndKey, q.ItrExhausted, reads))
	}
	for _, w := range kv.Writes {
		out = append(out, fmt.Sprintf("write %s=%s%s", w.Key, w.Value, deleted(w.IsDelete)))
	}
	for _, m := range kv.MetadataWrites {
		out = append(out, "metadata "+m.Key+entriesOf(m.Entries))
	}
	return out
}

// hashNames are the keys and values that rows use, by hash.
var hashNames = func() map[string]string {
	out := map[string]string{}
	for _, s := range []string{"p", "gone", "none", "ahead", "v", "w"} {
		out[sha(s)] = s
	}
	return out
}()

func describedCollection(c *protoutil.CollRWSet) (out []string) {
	for _, r := range c.Hashed.HashedReads {
		out = append(out, "hashed read "+c.Name+" "+hashNames[string(r.KeyHash)]+at(r.Version))
	}
	for _, w := range c.Hashed.HashedWrites {
		out = append(out, fmt.Sprintf("hashed write %s %s=%s%s", c.Name, hashNames[string(w.KeyHash)], hashNames[string(w.ValueHash)], deleted(w.IsDelete)))
	}
	for _, m := range c.Hashed.MetadataWrites {
		out = append(out, "hashed metadata "+c.Name+" "+hashNames[string(m.KeyHash)]+entriesOf(m.Entries))
	}
	if c.PvtHash != nil {
		out = append(out, "private hash of "+c.Name)
	}
	return out
}

func at(v *kvrwset.Version) string {
	if v == nil {
		return "@-"
	}
	return fmt.Sprintf("@%d:%d", v.BlockNum, v.TxNum)
}

func deleted(is bool) string {
	if is {
		return "(deleted)"
	}
	return ""
}

func entriesOf(entries []*kvrwset.KVMetadataEntry) string {
	out := ""
	for _, e := range entries {
		out += fmt.Sprintf(" %s=%s", e.Name, e.Value)
	}
	return out
}

// queryable is a snapshot that answers every rich query with all there is of a
// namespace, and whose iterators fail behind so many results, if that is set.
type queryable struct {
	state.Snapshot
	failAfter int
	gets      map[string]int // look-ups by namespace and key
}

var errBroken = errors.New("broken disk")

type brokenIterator struct {
	state.Iterator
	left int
}

func (i *brokenIterator) Next() (*state.KV, error) {
	if i.left--; i.left < 0 {
		return nil, errBroken
	}
	return i.Iterator.Next()
}

func (q *queryable) iterator(it state.Iterator, err error) (state.Iterator, error) {
	if err == nil && q.failAfter > 0 {
		it = &brokenIterator{it, q.failAfter}
	}
	return it, err
}

func (q *queryable) Query(ns string, query state.Query) (state.Iterator, error) {
	return q.iterator(q.Snapshot.Range(ns, "", "", query.Limit))
}

func (q *queryable) Range(ns, start, end string, limit int32) (state.Iterator, error) {
	return q.iterator(q.Snapshot.Range(ns, start, end, limit))
}

func (q *queryable) Get(ns, key string) (*state.Value, error) {
	q.gets[ns+"/"+key]++
	return q.Snapshot.Get(ns, key)
}

func richSimulator(t *testing.T, l *Ledger, failAfter int) (*Simulator, *queryable) {
	t.Helper()
	snap, err := l.state.Snapshot()
	must(t, err)
	q := &queryable{Snapshot: snap, failAfter: failAfter, gets: map[string]int{}}
	s := newSimulator("tx1", q, l.metadataUsed, l.state.CheckWrite)
	t.Cleanup(s.Done)
	return s, q
}

// stalePrivate adds private keys whose plain part is not that of the hash.
func stalePrivate(t *testing.T, l *Ledger) {
	t.Helper()
	b := state.NewBatch()
	b.Put("cc$$pc1", state.Write{Key: "ahead", Value: []byte("v"), Version: state.Version{Block: 1}})
	b.Put("cc$$pc1", state.Write{Key: "other version", Value: []byte("v"), Version: state.Version{Block: 1}})
	b.Put("cc$$hc1", state.Write{Key: sha("other version"), Value: []byte(sha("v")), Version: state.Version{Block: 1, Tx: 2}})
	must(t, l.state.Apply(b, nil, false))
}

type metadataMap = map[string][]byte

// rows is LEDGER §11.2, row by row.
var rows = []struct {
	name string
	call func(s *Simulator) error
	want string
}{
	{"get", func(s *Simulator) error { _, err := s.GetState("cc", "k1"); return err }, "read k1@2:1"},
	{"get of an absent key", func(s *Simulator) error { _, err := s.GetState("cc", "x"); return err }, "read x@-"},
	{"get twice, in two ways", func(s *Simulator) error {
		_, err1 := s.GetState("cc", "k1")
		_, err2 := s.GetStateMetadata("cc", "k1")
		_, err3 := s.GetStateMultiple("cc", []string{"k1", "k1"})
		return errors.Join(err1, err2, err3)
	}, "read k1@2:1"},
	{"get metadata", func(s *Simulator) error { _, err := s.GetStateMetadata("cc", "m"); return err }, "read m@1:2"},
	{"get metadata of an absent key", func(s *Simulator) error { _, err := s.GetStateMetadata("cc", "x"); return err }, "read x@-"},
	{"get multiple", func(s *Simulator) error {
		_, err := s.GetStateMultiple("cc", []string{"k2", "x", "k1"})
		return err
	}, "read k1@2:1; read k2@2:2; read x@-"},
	{"set", func(s *Simulator) error { return s.SetState("cc", "k1", []byte("v")) }, "write k1=v"},
	{"set, the last one wins", func(s *Simulator) error {
		return errors.Join(s.DeleteState("cc", "k1"), s.SetState("cc", "k1", []byte("v")), s.SetState("cc", "k1", []byte("w")))
	}, "write k1=w"},
	{"set to nothing", func(s *Simulator) error { return s.SetState("cc", "k1", nil) }, "write k1=(deleted)"},
	{"set to an empty value", func(s *Simulator) error { return s.SetState("cc", "k1", []byte{}) }, "write k1=(deleted)"},
	{"delete, after a write", func(s *Simulator) error {
		return errors.Join(s.SetState("cc", "k1", []byte("v")), s.DeleteState("cc", "k1"))
	}, "write k1=(deleted)"},
	{"set metadata", func(s *Simulator) error {
		return s.SetStateMetadata("cc", "k1", metadataMap{"b": []byte("2"), "a": []byte("1")})
	}, "metadata k1 a=1 b=2"},
	{"set metadata, the whole map", func(s *Simulator) error {
		return errors.Join(s.SetStateMetadata("cc", "k1", metadataMap{"a": []byte("1")}), s.SetStateMetadata("cc", "k1", metadataMap{"b": []byte("2")}))
	}, "metadata k1 b=2"},
	{"set metadata to nothing", func(s *Simulator) error { return s.SetStateMetadata("cc", "k1", nil) }, "metadata k1"},
	{"set metadata to an empty map", func(s *Simulator) error { return s.SetStateMetadata("cc", "k1", metadataMap{}) }, "metadata k1"},
	{"delete metadata", func(s *Simulator) error { return s.DeleteStateMetadata("cc", "k1") }, "metadata k1"},
	{"range", func(s *Simulator) error { return exhaust(s.GetStateRange("cc", "k1", "k3")) }, "range k1..k3 true k1@2:1 k2@2:2"},
	{"range of nothing", func(s *Simulator) error { return exhaust(s.GetStateRange("cc", "x", "y")) }, "range x..y true"},
	{"page", func(s *Simulator) error {
		it, err := s.GetStateRangePage("cc", "k1", "k4", 2)
		if err != nil {
			return err
		}
		_, err1 := it.Next()
		_, err2 := it.Next()
		if b := it.Bookmark(); b != "k3" {
			return fmt.Errorf("bookmark %q", b)
		}
		it.Close()
		return errors.Join(err1, err2)
	}, "range k1..k2 false k1@2:1 k2@2:2"},
	{"page, asked for more", func(s *Simulator) error { return exhaust(s.GetStateRangePage("cc", "k1", "k4", 2)) }, "range k1..k4 true k1@2:1 k2@2:2"},
	{"rich query", func(s *Simulator) error {
		it, err := s.ExecuteQuery("cc", "{}")
		if err != nil {
			return err
		}
		_, err1 := it.Next()
		_, err2 := it.Next()
		return errors.Join(err1, err2)
	}, "read k0@2:0; read k1@2:1"},
	{"rich query, paged", func(s *Simulator) error { return exhaust(s.ExecuteQueryPage("cc", "{}", 2, "")) }, "read k0@2:0; read k1@2:1"},
	{"get private", func(s *Simulator) error { _, err := s.GetPrivateData("cc", "c1", "p"); return err }, "hashed read c1 p@1:2"},
	{"get private, absent", func(s *Simulator) error { _, err := s.GetPrivateData("cc", "c1", "none"); return err }, "hashed read c1 none@-"},
	{"get private, of another version", func(s *Simulator) error {
		for key, want := range map[string]string{
			"gone":          "Public hash version = {BlockNum: 1, TxNum: 2}, Private data version = <nil>",
			"ahead":         "Public hash version = <nil>, Private data version = {BlockNum: 1, TxNum: 0}",
			"other version": "Public hash version = {BlockNum: 1, TxNum: 2}, Private data version = {BlockNum: 1, TxNum: 0}",
		} {
			_, err := s.GetPrivateData("cc", "c1", key)
			if want = "private data matching public hash version is not available. " + want; err == nil || err.Error() != want {
				return fmt.Errorf("%s: %w", key, err)
			}
		}
		return nil
	}, ""},
	{"get private multiple", func(s *Simulator) error {
		v, err := s.GetPrivateDataMultiple("cc", "c1", []string{"p", "gone", "ahead", "none"})
		if err == nil && fmt.Sprintf("%q", v) != `["secret" "" "v" ""]` {
			err = fmt.Errorf("got %q", v)
		}
		return err
	}, "hashed read c1 ahead@1:0; hashed read c1 gone@-; hashed read c1 none@-; hashed read c1 p@1:2"},
	{"get private hash", func(s *Simulator) error { _, err := s.GetPrivateDataHash("cc", "c1", "gone"); return err }, "hashed read c1 gone@1:2"},
	{"get private hash, absent", func(s *Simulator) error { _, err := s.GetPrivateDataHash("cc", "c1", "ahead"); return err }, "hashed read c1 ahead@-"},
	{"get private metadata", func(s *Simulator) error { _, err := s.GetPrivateDataMetadata("cc", "c1", "gone"); return err }, "hashed read c1 gone@1:2"},
	{
		"set private", func(s *Simulator) error { return s.SetPrivateData("cc", "c1", "p", []byte("v")) },
		"hashed write c1 p=v; private hash of c1; private c1 write p=v",
	},
	{"set private, the last one wins", func(s *Simulator) error {
		return errors.Join(s.SetPrivateData("cc", "c1", "p", []byte("v")), s.SetPrivateData("cc", "c1", "p", []byte("w")))
	}, "hashed write c1 p=w; private hash of c1; private c1 write p=w"},
	{
		"set private to nothing", func(s *Simulator) error { return s.SetPrivateData("cc", "c1", "p", []byte{}) },
		"hashed write c1 p=(deleted); private hash of c1; private c1 write p=(deleted)",
	},
	{
		"delete private", func(s *Simulator) error { return s.DeletePrivateData("cc", "c1", "p") },
		"hashed write c1 p=(deleted); private hash of c1; private c1 write p=(deleted)",
	},
	{"set private metadata", func(s *Simulator) error {
		return s.SetPrivateDataMetadata("cc", "c1", "p", metadataMap{"b": []byte("2"), "a": []byte("1")})
	}, "hashed metadata c1 p a=1 b=2; private hash of c1; private c1 metadata p"},
	{
		"delete private metadata", func(s *Simulator) error { return s.DeletePrivateDataMetadata("cc", "c1", "p") },
		"hashed metadata c1 p; private hash of c1; private c1 metadata p",
	},
	{"private range", func(s *Simulator) error { return exhaust(s.GetPrivateDataRange("cc", "c1", "", "")) }, ""},
	{"private rich query", func(s *Simulator) error { return exhaust(s.ExecuteQueryOnPrivateData("cc", "c1", "{}")) }, ""},
	{"nothing", func(*Simulator) error { return nil }, ""},
}

// exhaust reads an iterator to its end.
func exhaust[I Iterator](it I, err error) error {
	for err == nil {
		kv, nextErr := it.Next()
		if nextErr != nil || kv == nil {
			return nextErr
		}
	}
	return err
}

func TestWhatCallsRecord(t *testing.T) {
	l := simLedger(t)
	stalePrivate(t, l)
	for _, row := range rows {
		s, _ := richSimulator(t, l, 0)
		if err := row.call(s); err != nil {
			t.Errorf("%s: %v", row.name, err)
		}
		s.Done() // the results are to be had all the same
		if got := described(t, s); got != row.want {
			t.Errorf("%s:\n got %s\nwant %s", row.name, got, row.want)
		}
	}
}

// privateCalls touch private data of a collection in every way (LEDGER §11.5).
var privateCalls = map[string]func(s *Simulator, ns, coll string) error{
	"get":             func(s *Simulator, ns, c string) error { _, err := s.GetPrivateData(ns, c, "p"); return err },
	"get multiple":    func(s *Simulator, ns, c string) error { _, err := s.GetPrivateDataMultiple(ns, c, nil); return err },
	"hash":            func(s *Simulator, ns, c string) error { _, err := s.GetPrivateDataHash(ns, c, "p"); return err },
	"metadata":        func(s *Simulator, ns, c string) error { _, err := s.GetPrivateDataMetadata(ns, c, "p"); return err },
	"set":             func(s *Simulator, ns, c string) error { return s.SetPrivateData(ns, c, "p", []byte("v")) },
	"delete":          func(s *Simulator, ns, c string) error { return s.DeletePrivateData(ns, c, "p") },
	"set metadata":    func(s *Simulator, ns, c string) error { return s.SetPrivateDataMetadata(ns, c, "p", nil) },
	"delete metadata": func(s *Simulator, ns, c string) error { return s.DeletePrivateDataMetadata(ns, c, "p") },
	"range":           func(s *Simulator, ns, c string) error { _, err := s.GetPrivateDataRange(ns, c, "", ""); return err },
	"query":           func(s *Simulator, ns, c string) error { _, err := s.ExecuteQueryOnPrivateData(ns, c, "{}"); return err },
}

// TestCollectionLookUps: the check of the collection is in the read set; it is
// made once per namespace and simulator, if it succeeds, and comes before that
// of Done.
func TestCollectionLookUps(t *testing.T) {
	l := simLedger(t)
	lookUps := func(t *testing.T, s *Simulator) string {
		set, _ := resultsOf(t, s)
		for _, ns := range set.Namespaces {
			if ns.Namespace == lifecycleNamespace {
				return strings.Join(describedKV(ns.KV), "; ")
			}
		}
		return ""
	}
	for name, call := range privateCalls {
		t.Run(name, func(t *testing.T) {
			s, snap := richSimulator(t, l, 0)
			must(t, call(s, "cc", "c1"))
			must(t, call(s, "cc", "c2"))
			notDefined := "collection [nope] not defined in the collection config for chaincode [cc]"
			if err := call(s, "cc", "nope"); err == nil || err.Error() != notDefined {
				t.Errorf("got %v", err)
			}
			if a, b := snap.gets["lscc/cc"], snap.gets["lscc/cc~collection"]; a != 1 || b != 1 {
				t.Errorf("%d and %d look-ups", a, b)
			}
			s.Done()
			if err := call(s, "cc", "nope"); err == nil || err.Error() != notDefined {
				t.Errorf("after Done: %v", err)
			}
			if err := call(s, "cc", "c1"); !errors.Is(err, ErrDone) && !strings.Contains(fmt.Sprint(err), reasonPrivateQuery) {
				t.Errorf("after Done: %v", err)
			}
			if got := lookUps(t, s); got != "read cc@1:2; read cc~collection@1:2" {
				t.Error(got)
			}
		})
		t.Run(name+" without collections", func(t *testing.T) {
			for ns, want := range map[string]string{"bare": "read bare@1:2; read bare~collection@-", "unknown": "read unknown@-"} {
				s, snap := richSimulator(t, l, 0)
				for range 2 {
					var collection *CollectionError
					if err := call(s, ns, "c1"); !errors.As(err, &collection) || err.Error() != "collection config not defined for chaincode ["+ns+"], pass the collection configuration upon chaincode definition/instantiation" {
						t.Errorf("got %v", err)
					}
				}
				if snap.gets["lscc/"+ns] != 2 {
					t.Errorf("%d look-ups", snap.gets["lscc/"+ns])
				}
				if got := lookUps(t, s); got != want {
					t.Error(got)
				}
			}
		})
	}
	t.Run("undecodable", func(t *testing.T) {
		b := state.NewBatch()
		b.Put("lscc", state.Write{Key: "bad", Value: []byte("x")})
		b.Put("lscc", state.Write{Key: "bad~collection", Value: []byte{0xff}})
		must(t, l.state.Apply(b, nil, false))
		if _, err := simulator(t, l).GetPrivateData("bad", "c", "p"); err == nil {
			t.Error("no error")
		}
	})
}

// TestCombinations is LEDGER §11.6: every write with every query that allows
// none, in both orders.
func TestCombinations(t *testing.T) {
	l := simLedger(t)
	writes := map[string]func(*Simulator) error{
		"set":                     func(s *Simulator) error { return s.SetState("cc", "a", []byte("v")) },
		"delete":                  func(s *Simulator) error { return s.DeleteState("cc", "a") },
		"set metadata":            func(s *Simulator) error { return s.SetStateMetadata("cc", "a", nil) },
		"delete metadata":         func(s *Simulator) error { return s.DeleteStateMetadata("cc", "a") },
		"set private":             func(s *Simulator) error { return s.SetPrivateData("cc", "c1", "a", []byte("v")) },
		"delete private":          func(s *Simulator) error { return s.DeletePrivateData("cc", "c1", "a") },
		"set private metadata":    func(s *Simulator) error { return s.SetPrivateDataMetadata("cc", "c1", "a", nil) },
		"delete private metadata": func(s *Simulator) error { return s.DeletePrivateDataMetadata("cc", "c1", "a") },
	}
	queries := map[string]struct {
		call             func(*Simulator) error
		after, beforeAny string
	}{
		"page":          {func(s *Simulator) error { _, err := s.GetStateRangePage("cc", "", "", 3); return err }, reasonPagedQuery, reasonAfterPagedQuery},
		"rich page":     {func(s *Simulator) error { _, err := s.ExecuteQueryPage("cc", "{}", 3, ""); return err }, reasonPagedQuery, reasonAfterPagedQuery},
		"private range": {func(s *Simulator) error { _, err := s.GetPrivateDataRange("cc", "c1", "", ""); return err }, reasonPrivateQuery, reasonAfterPrivateQuery},
		"private query": {func(s *Simulator) error { _, err := s.ExecuteQueryOnPrivateData("cc", "c1", "{}"); return err }, reasonPrivateQuery, reasonAfterPrivateQuery},
	}
	harmless := func(s *Simulator) error {
		_, err1 := s.GetStateRange("cc", "", "")
		_, err2 := s.ExecuteQuery("cc", "{}")
		_, err3 := s.GetPrivateData("cc", "c1", "p")
		return errors.Join(err1, err2, err3)
	}
	refused := func(err error, reason string) error {
		var unsupported *UnsupportedTxError
		if !errors.As(err, &unsupported) || err.Error() != "txid [tx1]: "+reason {
			return fmt.Errorf("got %w, want %s", err, reason)
		}
		return nil
	}
	for w, write := range writes {
		for q, query := range queries {
			t.Run(w+" and "+q, func(t *testing.T) {
				s, _ := richSimulator(t, l, 0)
				must(t, errors.Join(write(s), harmless(s), write(s)))
				must(t, refused(query.call(s), query.after))
				must(t, write(s)) // the refused query does not count
				s, _ = richSimulator(t, l, 0)
				must(t, errors.Join(query.call(s), harmless(s), query.call(s)))
				must(t, refused(write(s), query.beforeAny))
				must(t, query.call(s)) // the refused write does not count
				if strings.Contains(described(t, s), "write") {
					t.Error("a refused write is in the results")
				}
			})
		}
	}
	t.Run("queries together", func(t *testing.T) {
		s, _ := richSimulator(t, l, 0)
		for _, q := range queries {
			must(t, q.call(s))
		}
		must(t, harmless(s))
	})
}

// TestNothingOfOneself: no read sees a write of the same transaction.
func TestNothingOfOneself(t *testing.T) {
	l := simLedger(t)
	s, _ := richSimulator(t, l, 0)
	must(t, errors.Join(
		s.SetState("cc", "k1", []byte("mine")), s.SetState("cc", "new", []byte("mine")), s.DeleteState("cc", "k2"),
		s.SetStateMetadata("cc", "m", metadataMap{"a": []byte("mine")}),
		s.SetPrivateData("cc", "c1", "p", []byte("mine")), s.SetPrivateData("cc", "c1", "q", []byte("mine")),
		s.SetPrivateDataMetadata("cc", "c1", "p", metadataMap{"a": []byte("mine")}),
	))
	values, err := s.GetStateMultiple("cc", []string{"k1", "new", "k2"})
	must(t, err)
	m, err := s.GetStateMetadata("cc", "m")
	must(t, err)
	secrets, err := s.GetPrivateDataMultiple("cc", "c1", []string{"p", "q"})
	must(t, err)
	one, err := s.GetPrivateData("cc", "c1", "p")
	must(t, err)
	hash, err := s.GetPrivateDataHash("cc", "c1", "q")
	must(t, err)
	pm, err := s.GetPrivateDataMetadata("cc", "c1", "p")
	must(t, err)
	it, err := s.ExecuteQuery("cc", "{}")
	must(t, err)
	got := fmt.Sprintf("%q %q %q %q %x %v %v", values, m["a"], secrets, one, hash, pm, pull(t, it, 3))
	if want := `["v1" "" "v2"] "1" ["secret" ""] "secret"  map[] [k0=v0 k1=v1 k2=v2]`; got != want {
		t.Errorf("got %s", got)
	}
}

// TestDone: every call is refused afterwards, iterators too, which end with it.
func TestDone(t *testing.T) {
	l := simLedger(t)
	s, _ := richSimulator(t, l, 0)
	scan, err := s.GetStateRange("cc", "", "")
	must(t, err)
	rich, err := s.ExecuteQuery("cc", "{}")
	must(t, err)
	must(t, s.SetState("cc", "a", []byte("v")))
	s.Done()
	s.Done()
	if len(s.open) != 0 {
		t.Errorf("%d iterators are open", len(s.open))
	}
	for _, row := range rows {
		if row.name == "nothing" || row.name == "get private, of another version" {
			continue
		}
		var unsupported *UnsupportedTxError
		if err := row.call(s); !errors.Is(err, ErrDone) && !errors.As(err, &unsupported) {
			t.Errorf("%s: %v", row.name, err)
		}
	}
	for _, it := range []Iterator{scan, rich} {
		if _, err := it.Next(); !errors.Is(err, ErrDone) {
			t.Errorf("got %v", err)
		}
		it.Close()
	}
	if got := described(t, s); got != "range .. false; write a=v" {
		t.Error(got)
	}
	if _, err := s.Results(); !errors.Is(err, ErrResultsTaken) {
		t.Errorf("got %v", err)
	}
}

// TestIteratorErrorsSpoilTheResults: a simulation that has not seen all it asked
// for gives none.
func TestIteratorErrorsSpoilTheResults(t *testing.T) {
	l := simLedger(t)
	for name, open := range map[string]func(*Simulator) (Iterator, error){
		"range":         func(s *Simulator) (Iterator, error) { return s.GetStateRange("cc", "", "") },
		"page":          func(s *Simulator) (Iterator, error) { return s.GetStateRangePage("cc", "", "", 5) },
		"rich query":    func(s *Simulator) (Iterator, error) { return s.ExecuteQuery("cc", "{}") },
		"private range": func(s *Simulator) (Iterator, error) { return s.GetPrivateDataRange("cc", "c1", "", "") },
	} {
		s, _ := richSimulator(t, l, 1)
		it, err := open(s)
		must(t, err)
		if _, err := it.Next(); err != nil {
			t.Fatal(err)
		}
		if _, err := it.Next(); !errors.Is(err, errBroken) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := s.Results(); !errors.Is(err, errBroken) {
			t.Errorf("%s: results %v", name, err)
		}
	}
}

// TestShapeOfResults: LEDGER §11.7, as far as a namespace or a set is there at
// all.
func TestShapeOfResults(t *testing.T) {
	l := simLedger(t)
	s := simulator(t, l)
	r, err := s.Results()
	must(t, err)
	if len(r.Public) != 0 || r.Private != nil {
		t.Errorf("of nothing: %x, %v", r.Public, r.Private)
	}
	s = simulator(t, l)
	must(t, s.SetPrivateData("cc", "c2", "b", []byte("v")))
	must(t, s.SetPrivateData("cc", "c1", "a", []byte("v")))
	_, err = s.GetPrivateDataHash("cc", "c2", "q")
	must(t, err)
	r, err = s.Results()
	must(t, err)
	public := &rwset.TxReadWriteSet{}
	must(t, proto.Unmarshal(r.Public, public))
	if ns := public.NsRwset[0]; ns.Namespace != "cc" || ns.Rwset != nil || len(ns.CollectionHashedRwset) != 2 {
		t.Errorf("got %v", ns)
	}
	for i, name := range []string{"c1", "c2"} {
		hashed, plain := public.NsRwset[0].CollectionHashedRwset[i], r.Private.NsPvtRwset[0].CollectionPvtRwset[i]
		if hashed.CollectionName != name || plain.CollectionName != name || string(hashed.PvtRwsetHash) != sha(string(plain.Rwset)) {
			t.Errorf("got %v, %v", hashed, plain)
		}
		kv := &kvrwset.KVRWSet{}
		must(t, proto.Unmarshal(plain.Rwset, kv))
		if diff := cmp.Diff(1, len(kv.Writes)); diff != "" || len(kv.Reads) != 0 {
			t.Errorf("got %v", kv)
		}
	}
}

// TestWritesAreChecked: the state database's rules apply to every write of a
// simulation, private ones too, by key and value; a delete and metadata have the
// key only. A refused write is no write (LEDGER §5.4).
func TestWritesAreChecked(t *testing.T) {
	l := simLedger(t)
	for name, tc := range map[string]struct {
		call func(*Simulator) error
		want string
	}{
		"set":                     {func(s *Simulator) error { return s.SetState("cc", "_k", []byte("v")) }, "_k=v"},
		"delete":                  {func(s *Simulator) error { return s.DeleteState("cc", "_k") }, "_k="},
		"set metadata":            {func(s *Simulator) error { return s.SetStateMetadata("cc", "_k", metadataMap{"a": nil}) }, "_k="},
		"delete metadata":         {func(s *Simulator) error { return s.DeleteStateMetadata("cc", "_k") }, "_k="},
		"set private":             {func(s *Simulator) error { return s.SetPrivateData("cc", "c1", "_k", []byte("v")) }, "_k=v"},
		"delete private":          {func(s *Simulator) error { return s.DeletePrivateData("cc", "c1", "_k") }, "_k="},
		"set private metadata":    {func(s *Simulator) error { return s.SetPrivateDataMetadata("cc", "c1", "_k", nil) }, "_k="},
		"delete private metadata": {func(s *Simulator) error { return s.DeletePrivateDataMetadata("cc", "c1", "_k") }, "_k="},
	} {
		snap, err := l.state.Snapshot()
		must(t, err)
		asked := ""
		refusal := errors.New("no such key here")
		s := newSimulator("tx1", snap, l.metadataUsed, func(key string, value []byte) error {
			asked += key + "=" + string(value)
			return refusal
		})
		defer s.Done()
		if err := tc.call(s); !errors.Is(err, refusal) || asked != tc.want {
			t.Errorf("%s: asked about %q: %v", name, asked, err)
		}
		if _, err := s.GetStateRangePage("cc", "", "", 3); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := described(t, s); got != "range .. false" {
			t.Errorf("%s: results %s", name, got)
		}
	}
}

// TestHintsCountOutsideSimulations: a query finds metadata only in a namespace
// that is known to have had some, for hashed keys in one whose chaincode is; a
// simulation looks for itself (LEDGER §9.2).
func TestHintsCountOutsideSimulations(t *testing.T) {
	l := simLedger(t)
	b := state.NewBatch()
	b.Put("cc$$hc1", state.Write{Key: sha("p"), Value: []byte(sha("secret")), Version: state.Version{Block: 1, Tx: 2}, Metadata: []byte("\x12\x06\x0a\x01a\x12\x011")})
	must(t, l.state.Apply(b, nil, false))
	found := func(q *QueryExecutor) string {
		t.Helper()
		public, err := q.GetStateMetadata("cc", "m")
		must(t, err)
		private, err := q.GetPrivateDataMetadata("cc", "c1", "p")
		must(t, err)
		return fmt.Sprintf("%s %s", public["a"], private["a"])
	}
	for _, tc := range []struct{ hint, want string }{{"", " "}, {"cc$$hc1", " "}, {"cc", "1 1"}} {
		if tc.hint != "" {
			must(t, l.books.Write(&bookkeeper.Changes{Hints: []string{tc.hint}}))
		}
		q, err := l.NewQueryExecutor()
		must(t, err)
		if got := found(q); got != tc.want {
			t.Errorf("with hint %q: %q", tc.hint, got)
		}
		q.Done()
		if got := found(&simulator(t, l).QueryExecutor); got != "1 1" {
			t.Errorf("in a simulation: %q", got)
		}
	}
}
