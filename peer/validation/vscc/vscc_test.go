package vscc

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/policy"
	"github.com/heddle-ledger/heddle/internal/protoutil"
)

func coll(name string, change func(*peer.StaticCollectionConfig)) *peer.CollectionConfig {
	c := &peer.StaticCollectionConfig{Name: name, MaximumPeerCount: 1}
	if change != nil {
		change(c)
	}
	return &peer.CollectionConfig{Payload: &peer.CollectionConfig_StaticCollectionConfig{StaticCollectionConfig: c}}
}

func members(rule *common.SignaturePolicy) func(*peer.StaticCollectionConfig) {
	return func(c *peer.StaticCollectionConfig) {
		c.MemberOrgsPolicy = &peer.CollectionPolicyConfig{Payload: &peer.CollectionPolicyConfig_SignaturePolicy{
			SignaturePolicy: &common.SignaturePolicyEnvelope{Rule: rule},
		}}
	}
}

func TestCollectionRules(t *testing.T) {
	t.Parallel()
	deep := policy.NOutOf(1, policy.SignedBy(0))
	for range 9000 {
		deep = policy.NOutOf(1, deep)
	}
	for _, tc := range []struct {
		configs []*peer.CollectionConfig
		want    string
	}{
		{nil, "<nil>"},
		{[]*peer.CollectionConfig{coll("a", nil), coll("B_-9", members(deep))}, "<nil>"},
		{[]*peer.CollectionConfig{{}}, "unknown collection configuration type"},
		{[]*peer.CollectionConfig{nil}, "unknown collection configuration type"},
		{[]*peer.CollectionConfig{coll("", nil)}, "empty collection-name is not allowed"},
		{
			[]*peer.CollectionConfig{coll("a b", nil)},
			"collection-name: a b not allowed. A valid collection name follows the pattern: [A-Za-z0-9_-]+",
		},
		{[]*peer.CollectionConfig{coll("a", nil), coll("a", nil)}, "collection-name: a -- found duplicate collection configuration"},
		{
			[]*peer.CollectionConfig{coll("a", func(c *peer.StaticCollectionConfig) { c.RequiredPeerCount = 2 })},
			"collection-name: a -- maximum peer count (1) cannot be greater than the required peer count (2)",
		},
		{
			[]*peer.CollectionConfig{coll("a", func(c *peer.StaticCollectionConfig) { c.RequiredPeerCount = -1 })},
			"collection-name: a -- requiredPeerCount (1) cannot be less than zero (-1)",
		},
		{
			[]*peer.CollectionConfig{coll("a", members(policy.NOutOf(1, policy.NOutOf(2, policy.SignedBy(0)))))},
			"collection-name: a -- error in member org policy: signature policy is not an OR concatenation, NOutOf 2",
		},
	} {
		if got := fmt.Sprint(checkCollections(tc.configs)); got != tc.want {
			t.Errorf("got %s, want %s", got, tc.want)
		}
	}
}

func TestCollectionUpgrade(t *testing.T) {
	t.Parallel()
	life := func(c *peer.StaticCollectionConfig) { c.BlockToLive = 5 }
	old := []*peer.CollectionConfig{coll("a", nil), coll("b", nil), coll("c", life)}
	for _, tc := range []struct {
		updated []*peer.CollectionConfig
		want    string
	}{
		{append([]*peer.CollectionConfig{coll("d", life)}, old...), "<nil>"},
		{
			[]*peer.CollectionConfig{coll("c", nil)},
			"the following existing collections are missing in the new collection configuration package: [a b]",
		},
		{
			[]*peer.CollectionConfig{coll("a", life), coll("b", nil), coll("c", nil)},
			"the BlockToLive in the following existing collections must not be modified: [a c]",
		},
	} {
		if got := fmt.Sprint(checkCollectionUpgrade(tc.updated, old)); got != tc.want {
			t.Errorf("got %s, want %s", got, tc.want)
		}
	}
}

func TestKeysOrder(t *testing.T) {
	t.Parallel()
	ns := &protoutil.NsRWSet{
		Namespace: "n",
		KV: &kvrwset.KVRWSet{
			Writes:         []*kvrwset.KVWrite{{Key: "w1"}, {Key: "w2"}},
			MetadataWrites: []*kvrwset.KVMetadataWrite{{Key: "m"}},
		},
		Collections: []protoutil.CollRWSet{
			{Name: "c", Hashed: &kvrwset.HashedRWSet{
				HashedWrites:   []*kvrwset.KVWriteHash{{KeyHash: []byte("hw")}},
				MetadataWrites: []*kvrwset.KVMetadataWriteHash{{KeyHash: []byte("hm")}},
			}},
			{Name: "d"},
			{Name: "", Hashed: &kvrwset.HashedRWSet{HashedWrites: []*kvrwset.KVWriteHash{{KeyHash: []byte("p")}}}},
		},
	}
	var got []string
	Keys(ns, func(k Key, metadata bool) bool {
		got = append(got, fmt.Sprintf("%s/%s/%s %v", k.Namespace, k.Collection, k.Key, metadata))
		return true
	})
	want := []string{"n//w1 false", "n//w2 false", "n//m true", "n/c/hw false", "n/c/hm true", "n//p false"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	for stop := 1; stop <= len(want); stop++ {
		visits := 0
		Keys(ns, func(Key, bool) bool { visits++; return visits < stop })
		if visits != stop {
			t.Errorf("%d visits, told to stop after %d", visits, stop)
		}
	}
}

func TestDependencies(t *testing.T) {
	t.Parallel()
	k := func(ns, key string) Key { return Key{Namespace: ns, Key: key} }
	d := NewDependencies()
	for tx, keys := range [][]Key{{k("n", "a"), k("n", "a")}, {k("n", "a"), k("m", "a")}, {k("n", "b")}, {k("n", "a")}} {
		for _, key := range keys {
			d.Add(tx, key)
		}
	}
	d.Post(0, "n", false)
	d.Post(1, "n", true)
	d.Post(1, "m", false)
	d.Post(9, "n", true) // changes nothing: no verdict is kept
	for tx := range 10 { // 2 and 3 end without having been asked in any namespace
		d.Finish(tx)
	}
	for _, tc := range []struct {
		tx   int
		key  Key
		by   int
		want bool
	}{
		{0, k("n", "a"), 0, false}, // never with itself
		{1, k("n", "a"), 0, false}, // 0 was invalid
		{2, k("n", "a"), 1, true},
		{3, k("n", "a"), 1, true},
		{9, k("n", "a"), 1, true},
		{9, k("m", "a"), 0, false},
		{9, k("n", "b"), 0, false},
		{9, k("x", "y"), 0, false},
	} {
		if by, got := d.ChangedBefore(tc.tx, tc.key); got != tc.want || by != tc.by {
			t.Errorf("%d, %v: %v by %d", tc.tx, tc.key, got, by)
		}
	}
}
