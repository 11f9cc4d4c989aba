package chanconfig_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/orderer"
	"github.com/hyperledger/fabric-protos-go-apiv2/orderer/etcdraft"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/msp"
)

func capabilities(names ...string) *common.Capabilities {
	c := &common.Capabilities{Capabilities: make(map[string]*common.Capability)}
	for _, n := range names {
		c.Capabilities[n] = &common.Capability{}
	}
	return c
}

func TestCapabilities(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		names   []string
		version msp.Version
		org     bool
	}{
		{nil, msp.V1_0, false},
		{[]string{"V1_1"}, msp.V1_1, false},
		{[]string{"V1_3", "V1_1"}, msp.V1_3, false},
		{[]string{"V1_4_2"}, msp.V1_3, true},
		{[]string{"V1_4_3"}, msp.V1_4_3, true},
	} {
		c := chanconfig.NewChannelCapabilities(capabilities(tc.names...))
		if c.MSPVersion() != tc.version || c.OrgSpecificOrdererEndpoints() != tc.org || c.ConsensusTypeMigration() != tc.org {
			t.Errorf("channel %v: %v %v %v", tc.names, c.MSPVersion(), c.OrgSpecificOrdererEndpoints(), c.ConsensusTypeMigration())
		}
	}
	for _, tc := range []struct {
		name string
		want string // one letter per behaviour that is on
	}{
		{"", ""},
		{"V1_1", "d"},
		{"V1_1_RESOURCETREE_EXPERIMENTAL", ""},
		{"V1_1_PVTDATA_EXPERIMENTAL", "p"},
		{"V1_2", "dpauv"},
		{"V1_3", "dpauvk3"},
		{"V1_4_2", "dpauvk3s"},
	} {
		c := chanconfig.NewApplicationCapabilities(capabilities(tc.name))
		if tc.name == "" {
			c = chanconfig.ApplicationCapabilities{}
		}
		var got strings.Builder
		for _, b := range []struct {
			letter string
			on     bool
		}{
			{"d", c.ForbidDuplicateTxIDInBlock() && c.V1_1Validation()},
			{"p", c.PrivateChannelData()},
			{"a", c.ACLs()},
			{"u", c.CollectionUpgrade()},
			{"v", c.V1_2Validation()},
			{"k", c.KeyLevelEndorsement()},
			{"3", c.V1_3Validation()},
			{"s", c.StorePvtDataOfInvalidTx()},
		} {
			if b.on {
				got.WriteString(b.letter)
			}
		}
		if got.String() != tc.want {
			t.Errorf("application %q: %s, want %s", tc.name, got.String(), tc.want)
		}
		if err := c.Supported(); err != nil {
			t.Errorf("application %q: %v", tc.name, err)
		}
	}
	for name, want := range map[string][2]bool{"V1_1": {true, false}, "V1_4_2": {true, true}} {
		c := chanconfig.NewOrdererCapabilities(capabilities(name))
		if c.PredictableChannelTemplate() != want[0] || c.Resubmission() != want[0] || c.ExpirationCheck() != want[0] || c.ConsensusTypeMigration() != want[1] {
			t.Errorf("orderer %s: wrong behaviour", name)
		}
	}
}

func TestAccessors(t *testing.T) {
	t.Parallel()
	b := standalone(t)
	if b.ChannelID() != "standalone" || b.Sequence() != 0 || b.Channel().ConsortiumName != "SampleConsortium" || b.Channel().HashingAlgorithm != "SHA256" {
		t.Errorf("channel: %s %d %+v", b.ChannelID(), b.Sequence(), b.Channel())
	}
	o, ok := b.Orderer()
	if !ok || o.ConsensusType != "solo" || o.BatchTimeout != 2*time.Second || o.BatchSize.MaxMessageCount != 10 || o.Orgs["OrdererOrg"].MSPID != "OrdererMSP" || o.InMaintenance() {
		t.Errorf("orderer: %+v", o)
	}
	a, ok := b.Application()
	if !ok || a.Orgs["Org1"].MSPID != "Org1MSP" || a.Orgs["Org1"].AnchorPeers[0].Host != "peer0.org1.example.com" {
		t.Errorf("application: %+v", a)
	}
	for resource, want := range map[string]string{
		"peer/Propose": "/Channel/Application/Writers", "event/Block": "/Channel/Application/Readers", "qscc/GetChainInfo": "",
	} {
		if got := a.ACLPolicy(resource); got != want {
			t.Errorf("ACL of %s: %q, want %q", resource, got, want)
		}
	}
	if _, ok := b.Consortiums(); ok {
		t.Error("consortiums in an application channel")
	}
	byOrg, global := b.OrdererEndpoints()
	if diff := cmp.Diff(map[string][]string{"OrdererOrg": {"127.0.0.1:7050"}}, byOrg); diff != "" || len(global) != 1 {
		t.Errorf("endpoints %s %v", diff, global)
	}
	if len(b.MSPManager().MSPs()) != 3 {
		t.Errorf("MSPs: %v", b.MSPManager().MSPs())
	}
	if err := b.CheckPeer(); err != nil {
		t.Error(err)
	}
	if err := b.CheckOrderer(); err != nil {
		t.Error(err)
	}
}

// edited loads the standalone configuration with a change.
func edited(t testing.TB, edit func(root *common.ConfigGroup)) (*chanconfig.Bundle, error) {
	t.Helper()
	cfg := proto.CloneOf(standalone(t).Config())
	edit(cfg.ChannelGroup)
	return chanconfig.NewBundle("standalone", cfg, chanconfig.Options{})
}

func mustEdited(t testing.TB, edit func(root *common.ConfigGroup)) *chanconfig.Bundle {
	t.Helper()
	b, err := edited(t, edit)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func setValue(g *common.ConfigGroup, key string, m proto.Message) {
	g.Values[key] = &common.ConfigValue{Value: protoutil.Marshal(m), ModPolicy: "Admins"}
}

func TestLoadErrors(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		edit func(root *common.ConfigGroup)
		want string
	}{
		{"unknown value in consortiums", func(r *common.ConfigGroup) {
			r.Groups["Consortiums"] = &common.ConfigGroup{Values: map[string]*common.ConfigValue{"X": {}}}
		}, "initializing channelconfig failed: could not create channel Consortiums sub-group config: failed to deserialize values: Unexpected key X"},
		{"consortium org with sub-group", func(r *common.ConfigGroup) {
			org := &common.ConfigGroup{Groups: map[string]*common.ConfigGroup{"X": {}}}
			r.Groups["Consortiums"] = &common.ConfigGroup{Groups: map[string]*common.ConfigGroup{"C": {Groups: map[string]*common.ConfigGroup{"O": org}}}}
		}, "initializing channelconfig failed: could not create channel Consortiums sub-group config: organizations do not support sub-groups"},
		{"orderer org with sub-group", func(r *common.ConfigGroup) {
			r.Groups["Orderer"].Groups["OrdererOrg"].Groups = map[string]*common.ConfigGroup{"X": {}}
		}, "initializing channelconfig failed: could not create channel Orderer sub-group config: OrdererOrg config does not allow sub-groups"},
		{"broker without port", func(r *common.ConfigGroup) {
			setValue(r.Groups["Orderer"], "KafkaBrokers", &orderer.KafkaBrokers{Brokers: []string{"a:1", "b"}})
		}, "initializing channelconfig failed: could not create channel Orderer sub-group config: Invalid broker entry: b"},
		{"broker port too large", func(r *common.ConfigGroup) {
			setValue(r.Groups["Orderer"], "KafkaBrokers", &orderer.KafkaBrokers{Brokers: []string{"a:65536"}})
		}, "initializing channelconfig failed: could not create channel Orderer sub-group config: Invalid broker entry: a:65536"},
		{"broker host", func(r *common.ConfigGroup) {
			setValue(r.Groups["Orderer"], "KafkaBrokers", &orderer.KafkaBrokers{Brokers: []string{"-a:1"}})
		}, "initializing channelconfig failed: could not create channel Orderer sub-group config: Invalid broker entry: -a:1"},
		{
			"key", func(r *common.ConfigGroup) { r.Policies["a_b"] = r.Policies["Admins"] },
			"initializing configtx manager failed: error converting config to map: Illegal characters in key: [Policy] ",
		},
		{"absolute max bytes", func(r *common.ConfigGroup) {
			setValue(r.Groups["Orderer"], "BatchSize", &orderer.BatchSize{MaxMessageCount: 1, PreferredMaxBytes: 1})
		}, "initializing channelconfig failed: could not create channel Orderer sub-group config: Attempted to set the batch size absolute max bytes to an invalid value: 0"},
		{"preferred max bytes", func(r *common.ConfigGroup) {
			setValue(r.Groups["Orderer"], "BatchSize", &orderer.BatchSize{MaxMessageCount: 1, AbsoluteMaxBytes: 1})
		}, "initializing channelconfig failed: could not create channel Orderer sub-group config: Attempted to set the batch size preferred max bytes to an invalid value: 0"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if _, err := edited(t, tc.edit); verdict(err) != tc.want {
				t.Errorf("\n got %v\nwant %s", err, tc.want)
			}
		})
	}
	if _, err := chanconfig.NewBundle("c", nil, chanconfig.Options{}); verdict(err) != "channelconfig Config cannot be nil" {
		t.Error(err)
	}
	if _, err := chanconfig.NewBundle("c", &common.Config{}, chanconfig.Options{}); verdict(err) != "config must contain a channel group" {
		t.Error(err)
	}
}

func TestChannelID(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]string{
		"":                             "channel ID illegal, cannot be empty",
		"a" + strings.Repeat("b", 248): "OK",
		strings.Repeat("a", 250):       "channel ID illegal, cannot be longer than 249",
		"1a":                           "channel ID '1a' contains illegal characters",
		"a.b-c1":                       "OK",
		"aB":                           "channel ID 'aB' contains illegal characters",
	} {
		if got := verdict(chanconfig.ValidateChannelID(id)); got != want {
			t.Errorf("%q: %s, want %s", id, got, want)
		}
	}
}

func TestValidateNew(t *testing.T) {
	t.Parallel()
	old := func(r *common.ConfigGroup) {
		setValue(r, "Capabilities", capabilities("V1_3"))
		delete(r.Groups["Orderer"].Groups["OrdererOrg"].Values, "Endpoints")
	}
	kafka := func(r *common.ConfigGroup) {
		setValue(r.Groups["Orderer"], "ConsensusType", &orderer.ConsensusType{Type: "kafka"})
	}
	consortium := func(org, from string) func(r *common.ConfigGroup) {
		return func(r *common.ConfigGroup) {
			g := &common.ConfigGroup{Values: map[string]*common.ConfigValue{"MSP": r.Groups["Application"].Groups[from].Values["MSP"]}}
			r.Groups["Consortiums"] = &common.ConfigGroup{Groups: map[string]*common.ConfigGroup{"C": {Groups: map[string]*common.ConfigGroup{org: g}}}}
		}
	}
	none := func(*common.ConfigGroup) {}
	for _, tc := range []struct {
		name     string
		from, to func(r *common.ConfigGroup)
		want     string
	}{
		{"nothing", none, none, "OK"},
		{"orderer vanishes", none, func(r *common.ConfigGroup) { delete(r.Groups, "Orderer") }, "current config has orderer section, but new config does not"},
		{"orderer appears", func(r *common.ConfigGroup) { delete(r.Groups, "Orderer") }, none, "OK"},
		{"type without capability", old, func(r *common.ConfigGroup) { old(r); kafka(r) }, "attempted to change consensus type from solo to kafka"},
		{"type with capability", none, kafka, "OK"},
		{"orderer org's MSP id", none, func(r *common.ConfigGroup) {
			r.Groups["Orderer"].Groups["OrdererOrg"].Values["MSP"] = r.Groups["Application"].Groups["Org1"].Values["MSP"]
		}, "orderer org OrdererOrg attempted to change MSP ID from OrdererMSP to Org1MSP"},
		{"consortiums vanish", consortium("O", "Org1"), none, "current config has consortiums section, but new config does not"},
		{"consortium org's MSP id", consortium("O", "Org1"), consortium("O", "Org2"), "consortium C org O attempted to change MSP ID from Org1MSP to Org2MSP"},
		{"other consortium org", consortium("O", "Org1"), consortium("P", "Org2"), "OK"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if got := verdict(mustEdited(t, tc.from).ValidateNew(mustEdited(t, tc.to))); got != tc.want {
				t.Errorf("\n got %s\nwant %s", got, tc.want)
			}
		})
	}
}

// updateEnvelope is an unsigned CONFIG_UPDATE.
func updateEnvelope(u *common.ConfigUpdate) *common.Envelope {
	header := &common.ChannelHeader{Type: int32(common.HeaderType_CONFIG_UPDATE), ChannelId: u.ChannelId}
	return &common.Envelope{Payload: protoutil.Marshal(&common.Payload{
		Header: &common.Header{ChannelHeader: protoutil.Marshal(header)},
		Data:   protoutil.Marshal(&common.ConfigUpdateEnvelope{ConfigUpdate: protoutil.Marshal(u)}),
	})}
}

func TestInspectMigration(t *testing.T) {
	t.Parallel()
	const normal, maintenance = orderer.ConsensusType_STATE_NORMAL, orderer.ConsensusType_STATE_MAINTENANCE
	value := &common.ConfigValue{Version: 1}
	ordererOnly := &common.ConfigGroup{Groups: map[string]*common.ConfigGroup{"Orderer": {Values: map[string]*common.ConfigValue{"ConsensusType": value}}}}
	with := func(edit func(set, o *common.ConfigGroup)) *common.ConfigGroup {
		set := proto.CloneOf(ordererOnly)
		edit(set, set.Groups["Orderer"])
		return set
	}
	for _, tc := range []struct {
		name     string
		from, to *orderer.ConsensusType
		caps     []string
		set      *common.ConfigGroup
		want     string
	}{
		{name: "no change", from: &orderer.ConsensusType{Type: "solo"}, to: &orderer.ConsensusType{Type: "solo"}, want: "OK"},
		{name: "enter", from: &orderer.ConsensusType{Type: "solo"}, to: &orderer.ConsensusType{Type: "solo", State: maintenance}, want: "OK"},
		{name: "leave", from: &orderer.ConsensusType{Type: "kafka", State: maintenance}, to: &orderer.ConsensusType{Type: "kafka", State: normal}, want: "OK"},
		{name: "type in maintenance", from: &orderer.ConsensusType{Type: "kafka", State: maintenance}, to: &orderer.ConsensusType{Type: "etcdraft", State: maintenance, Metadata: protoutil.Marshal(&etcdraft.ConfigMetadata{})}, want: "OK"},
		{name: "bad metadata", from: &orderer.ConsensusType{Type: "kafka", State: maintenance}, to: &orderer.ConsensusType{Type: "etcdraft", State: maintenance, Metadata: []byte{7}}, want: "failed to unmarshal etcdraft metadata configuration: "},
		{name: "unknown type", from: &orderer.ConsensusType{Type: "kafka", State: maintenance}, to: &orderer.ConsensusType{Type: "foo", State: maintenance}, want: "attempted to change consensus type from kafka to foo, transition not supported"},
		{name: "type in normal state", from: &orderer.ConsensusType{Type: "kafka"}, to: &orderer.ConsensusType{Type: "solo"}, want: "attempted to change consensus type from kafka to solo, but current config ConsensusType.State is not in maintenance mode"},
		{name: "type and state", from: &orderer.ConsensusType{Type: "kafka"}, to: &orderer.ConsensusType{Type: "solo", State: maintenance}, want: "attempted to change ConsensusType.Type from kafka to solo, but ConsensusType.State is changing from STATE_NORMAL to STATE_MAINTENANCE"},
		{name: "metadata and state", from: &orderer.ConsensusType{Type: "kafka"}, to: &orderer.ConsensusType{Type: "kafka", Metadata: []byte("x"), State: maintenance}, want: "attempted to change ConsensusType.Metadata, but ConsensusType.State is changing from STATE_NORMAL to STATE_MAINTENANCE"},
		{name: "state without capability", caps: []string{"V1_1"}, from: &orderer.ConsensusType{Type: "solo"}, to: &orderer.ConsensusType{Type: "solo", State: maintenance}, want: "next config attempted to change ConsensusType.State to STATE_MAINTENANCE, but capability is disabled"},
		{name: "type without capability", caps: []string{"V1_1"}, from: &orderer.ConsensusType{Type: "solo"}, to: &orderer.ConsensusType{Type: "kafka"}, want: "next config attempted to change ConsensusType.Type from solo to kafka, but capability is disabled"},
		{name: "empty set", from: &orderer.ConsensusType{}, to: &orderer.ConsensusType{State: maintenance}, set: &common.ConfigGroup{}, want: "config update contains no changes"},
		{name: "channel value", from: &orderer.ConsensusType{}, to: &orderer.ConsensusType{State: maintenance}, set: with(func(s, _ *common.ConfigGroup) { s.Values = map[string]*common.ConfigValue{"X": value} }), want: "config update contains changes to values in group Channel"},
		{name: "two groups", from: &orderer.ConsensusType{}, to: &orderer.ConsensusType{State: maintenance}, set: with(func(s, _ *common.ConfigGroup) { s.Groups["X"] = &common.ConfigGroup{} }), want: "config update contains changes to more than one group"},
		{name: "other group", from: &orderer.ConsensusType{}, to: &orderer.ConsensusType{State: maintenance}, set: &common.ConfigGroup{Groups: map[string]*common.ConfigGroup{"X": {}}}, want: "update does not contain the Orderer group"},
		{name: "orderer org", from: &orderer.ConsensusType{}, to: &orderer.ConsensusType{State: maintenance}, set: with(func(_, o *common.ConfigGroup) { o.Groups = map[string]*common.ConfigGroup{"X": {}} }), want: "config update contains changes to groups within the Orderer group"},
		{name: "other value", from: &orderer.ConsensusType{}, to: &orderer.ConsensusType{State: maintenance}, set: with(func(_, o *common.ConfigGroup) { o.Values = map[string]*common.ConfigValue{"X": value} }), want: "config update does not contain the ConsensusType value"},
		{name: "two values", from: &orderer.ConsensusType{}, to: &orderer.ConsensusType{State: maintenance}, set: with(func(_, o *common.ConfigGroup) { o.Values["X"] = value }), want: "config update contain more then just the ConsensusType value in the Orderer group"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if tc.caps == nil {
				tc.caps = []string{"V1_4_2"}
			}
			if tc.set == nil {
				tc.set = ordererOnly
			}
			state := func(ct *orderer.ConsensusType) func(r *common.ConfigGroup) {
				return func(r *common.ConfigGroup) {
					setValue(r.Groups["Orderer"], "ConsensusType", ct)
					setValue(r.Groups["Orderer"], "Capabilities", capabilities(tc.caps...))
				}
			}
			env := &common.ConfigEnvelope{
				Config:     mustEdited(t, state(tc.to)).Config(),
				LastUpdate: updateEnvelope(&common.ConfigUpdate{WriteSet: tc.set}),
			}
			got := verdict(mustEdited(t, state(tc.from)).InspectMigration(env))
			if got != tc.want && (tc.name != "bad metadata" || !strings.HasPrefix(got, tc.want)) {
				t.Errorf("\n got %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestValidateRefuses(t *testing.T) {
	t.Parallel()
	var v updateVectors
	loadVectors(t, "apply_update.json.gz", &v)
	current := mustBundle(t, v.ChannelID, unmarshal(t, v.CurrentConfig, &common.Config{}))
	env, err := current.ProposeUpdate(unmarshal(t, v.Cases[0].Envelope, &common.Envelope{}))
	if err != nil {
		t.Fatal(err)
	}
	with := func(edit func(e *common.ConfigEnvelope)) *common.ConfigEnvelope {
		e := proto.CloneOf(env)
		edit(e)
		return e
	}
	for want, e := range map[string]*common.ConfigEnvelope{
		"config envelope is nil":         nil,
		"config envelope has nil config": {},
		"config currently at sequence 5, cannot validate config at sequence 7": with(func(e *common.ConfigEnvelope) { e.Config.Sequence = 7 }),
		"config envelope has nil last_update":                                  with(func(e *common.ConfigEnvelope) { e.LastUpdate = nil }),
		"envelope must have a Header":                                          with(func(e *common.ConfigEnvelope) { e.LastUpdate = &common.Envelope{} }),
		"ConfigEnvelope LastUpdate did not produce the supplied config result": with(func(e *common.ConfigEnvelope) { e.Config.ChannelGroup.ModPolicy = "X" }),
		"ConfigUpdate for channel 'other' but envelope for channel 'standalone'": with(func(e *common.ConfigEnvelope) {
			e.LastUpdate = updateEnvelope(&common.ConfigUpdate{ChannelId: "other"})
		}),
		"error validating DeltaSet: delta set was empty -- update would have no effect": with(func(e *common.ConfigEnvelope) {
			e.LastUpdate = updateEnvelope(&common.ConfigUpdate{ChannelId: "standalone"})
		}),
		"OK": env,
	} {
		if got := verdict(current.Validate(e)); got != want {
			t.Errorf("\n got %s\nwant %s", got, want)
		}
	}
	next, err := current.Next(env)
	if err != nil || next.Sequence() != 6 {
		t.Errorf("Next: %v %v", next, err)
	}
	again, _, err := current.ProposeNext(env.LastUpdate)
	if err != nil || !proto.Equal(again, env) {
		t.Errorf("ProposeNext: %v", err)
	}
}

// TestLegacyRepair: with orderer capabilities in the result, empty
// mod_policies become Admins; without, they stay.
func TestLegacyRepair(t *testing.T) {
	t.Parallel()
	for _, legacy := range []bool{false, true} {
		b := mustEdited(t, func(r *common.ConfigGroup) {
			r.Groups["Application"].Groups["Org1"].Values["AnchorPeers"].ModPolicy = ""
			r.Groups["Application"].Groups["Org2"].Policies["Readers"].ModPolicy = ""
			r.ModPolicy = ""
			r.Policies["Nobody"] = &common.ConfigPolicy{Policy: r.Policies["Readers"].Policy}
			if legacy {
				delete(r.Values, "Capabilities")
				delete(r.Groups["Orderer"].Values, "Capabilities")
				delete(r.Groups["Application"].Values, "Capabilities")
				delete(r.Groups["Application"].Values, "ACLs")
				delete(r.Groups["Orderer"].Groups["OrdererOrg"].Values, "Endpoints")
			}
		})
		// A new element needs no signature, and is dropped without a new version
		// of its group.
		env, err := b.ProposeUpdate(updateEnvelope(&common.ConfigUpdate{
			ChannelId: "standalone", ReadSet: &common.ConfigGroup{},
			WriteSet: &common.ConfigGroup{Values: map[string]*common.ConfigValue{"New": {ModPolicy: "Admins"}}},
		}))
		if err != nil {
			t.Fatal(err)
		}
		want := "Admins"
		if legacy {
			want = ""
		}
		root := env.Config.ChannelGroup
		orgs := root.Groups["Application"].Groups
		for _, got := range []string{root.ModPolicy, orgs["Org1"].Values["AnchorPeers"].ModPolicy, orgs["Org2"].Policies["Readers"].ModPolicy} {
			if got != want {
				t.Errorf("legacy %v: mod_policy %q, want %q", legacy, got, want)
			}
		}
		if root.Values["New"] != nil || b.Config().ChannelGroup.ModPolicy != "" {
			t.Error("element kept, or current configuration changed")
		}
	}
}

// TestLegacyTemplate: without the orderer capability versions stay and the root
// has no mod_policy. An empty consortium takes any member.
func TestLegacyTemplate(t *testing.T) {
	t.Parallel()
	system := mustEdited(t, func(r *common.ConfigGroup) {
		for _, g := range []*common.ConfigGroup{r, r.Groups["Orderer"]} {
			delete(g.Values, "Capabilities")
		}
		delete(r.Groups, "Application")
		delete(r.Groups["Orderer"].Groups["OrdererOrg"].Values, "Endpoints")
		r.Groups["Orderer"].Version = 3
		r.Groups["Consortiums"] = &common.ConfigGroup{Groups: map[string]*common.ConfigGroup{"C": {}}}
	})
	update := &common.ConfigUpdate{ChannelId: "new", WriteSet: &common.ConfigGroup{
		Groups: map[string]*common.ConfigGroup{"Application": {Version: 1, Groups: map[string]*common.ConfigGroup{"Any": {}}}},
		Values: map[string]*common.ConfigValue{"Consortium": {Value: protoutil.Marshal(&common.Consortium{Name: "C"})}},
	}}
	env := updateEnvelope(update)
	if _, err := chanconfig.NewChannelTemplate(system, env); err == nil {
		t.Fatal("a creation policy of unknown type was accepted")
	}
	system = mustEdited(t, func(r *common.ConfigGroup) {
		proto.Reset(r)
		proto.Merge(r, proto.CloneOf(system.Config().ChannelGroup))
		creation := &common.Policy{Type: int32(common.Policy_IMPLICIT_META), Value: protoutil.Marshal(&common.ImplicitMetaPolicy{SubPolicy: "Admins"})}
		r.Groups["Consortiums"].Groups["C"].Values = map[string]*common.ConfigValue{"ChannelCreationPolicy": {Value: protoutil.Marshal(creation)}}
	})
	b, err := chanconfig.NewChannelTemplate(system, env)
	if err != nil {
		t.Fatal(err)
	}
	root := b.Config().ChannelGroup
	if root.ModPolicy != "" || root.Groups["Orderer"].Version != 3 || len(root.Groups["Application"].Groups) != 0 {
		t.Errorf("template: mod_policy %q, orderer version %d, members %d", root.ModPolicy, root.Groups["Orderer"].Version, len(root.Groups["Application"].Groups))
	}
	for want, edit := range map[string]func(env *common.Envelope){
		"Failing initial channel config creation because of payload unmarshaling error: ": func(e *common.Envelope) { e.Payload = []byte{7} },
		"Failed initial channel config creation because config update header was missing": func(e *common.Envelope) { e.Payload = nil },
		"Failed initial channel config creation because channel header was malformed: ": func(e *common.Envelope) {
			e.Payload = protoutil.Marshal(&common.Payload{Header: &common.Header{ChannelHeader: []byte{7}}})
		},
		"Failing initial channel config creation because of config update envelope unmarsha": func(e *common.Envelope) { e.Payload = protoutil.Marshal(&common.Payload{Data: []byte{7}}) },
	} {
		broken := proto.CloneOf(env)
		edit(broken)
		if _, err := chanconfig.NewChannelTemplate(system, broken); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("\n got %v\nwant %s", err, want)
		}
	}
}

func TestVerifyBlockWithoutConfig(t *testing.T) {
	t.Parallel()
	env := updateEnvelope(&common.ConfigUpdate{ChannelId: "ch"})
	data := [][]byte{protoutil.Marshal(env)}
	block := protoutil.NewBlock(3, nil)
	block.Data, block.Header.DataHash = &common.BlockData{Data: data}, protoutil.DataHash(data)
	if got := verdict(chanconfig.VerifyBlock(nil, "ch", nil, block)); got != "Could not acquire policy manager for channel ch" {
		t.Error(got)
	}
	block.Metadata.Metadata[0] = protoutil.Marshal(&common.Metadata{Signatures: []*common.MetadataSignature{{SignatureHeader: []byte{7}}}})
	if err := chanconfig.VerifyBlock(standalone(t), "ch", nil, block); err == nil || !strings.HasPrefix(err.Error(), "Failed unmarshalling signature header for block with id [3]") {
		t.Error(err)
	}
	block.Metadata.Metadata[0] = nil
	noPolicy := mustEdited(t, func(r *common.ConfigGroup) { delete(r.Groups["Orderer"].Policies, "BlockValidation") })
	if got := verdict(chanconfig.VerifyBlock(noPolicy, "ch", nil, block)); !strings.HasPrefix(got, "No such policy: ") {
		t.Error(got)
	}
}

// TestComputeThenApply: what ComputeUpdate finds, applied, gives the updated
// configuration back.
func TestComputeThenApply(t *testing.T) {
	t.Parallel()
	open := func(r *common.ConfigGroup) { // everybody may change everything
		var walk func(g *common.ConfigGroup)
		accept := &common.Policy{Type: 1, Value: protoutil.Marshal(&common.SignaturePolicyEnvelope{Rule: &common.SignaturePolicy{Type: &common.SignaturePolicy_NOutOf_{NOutOf: &common.SignaturePolicy_NOutOf{}}}})}
		walk = func(g *common.ConfigGroup) {
			g.Policies["Admins"].Policy = accept
			for _, sub := range g.Groups {
				walk(sub)
			}
		}
		walk(r)
	}
	current := mustEdited(t, open)
	updated := mustEdited(t, func(r *common.ConfigGroup) {
		open(r)
		setValue(r.Groups["Orderer"], "BatchTimeout", &orderer.BatchTimeout{Timeout: "9s"})
		setValue(r.Groups["Application"].Groups["Org2"], "AnchorPeers", &peer.AnchorPeers{})
		r.Groups["Application"].Groups["Org3"] = r.Groups["Application"].Groups["Org1"]
		delete(r.Policies, "Writers")
	})
	update, err := chanconfig.ComputeUpdate(current.Config(), updated.Config())
	if err != nil {
		t.Fatal(err)
	}
	update.ChannelId = "standalone"
	env, err := current.ProposeUpdate(updateEnvelope(update))
	if err != nil {
		t.Fatal(err)
	}
	got, want := proto.CloneOf(env.Config), proto.CloneOf(updated.Config())
	got.Sequence = 0
	clearVersions(got.ChannelGroup)
	clearVersions(want.ChannelGroup)
	if !proto.Equal(got, want) {
		t.Error(cmp.Diff(protoutil.Text(want), protoutil.Text(got)))
	}
}

func clearVersions(g *common.ConfigGroup) {
	g.Version = 0
	for _, v := range g.Values {
		v.Version = 0
	}
	for _, p := range g.Policies {
		p.Version = 0
	}
	for _, sub := range g.Groups {
		clearVersions(sub)
	}
}

func TestBundleFromBlockRefuses(t *testing.T) {
	t.Parallel()
	for name, block := range map[string]*common.Block{
		"nil":          nil,
		"empty":        {},
		"garbage":      {Data: &common.BlockData{Data: [][]byte{{7}}}},
		"not a config": {Data: &common.BlockData{Data: [][]byte{protoutil.Marshal(updateEnvelope(&common.ConfigUpdate{}))}}},
	} {
		if _, err := chanconfig.BundleFromBlock(block, chanconfig.Options{}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
