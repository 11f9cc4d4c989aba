package chanconfig

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"github.com/hyperledger/fabric-protos-go-apiv2/orderer"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/msp"
	"github.com/heddle-ledger/heddle/msp/x509msp"
)

// The hashing algorithms that a configuration may name. Block hashes are
// SHA-256 whatever it says.
var hashingAlgorithms = []string{"SHA256", "SHA3_256"}

// preValidate holds the checks that come before anything is parsed.
func preValidate(cfg *common.Config) error {
	if cfg == nil {
		return errors.New("channelconfig Config cannot be nil")
	}
	if cfg.ChannelGroup == nil {
		return errors.New("config must contain a channel group")
	}
	ordererGroup, ok := cfg.ChannelGroup.Groups[OrdererGroupKey]
	if !ok {
		return nil
	}
	if _, ok := ordererGroup.GetValues()[CapabilitiesKey]; ok {
		return nil
	}
	if _, ok := cfg.ChannelGroup.Values[CapabilitiesKey]; ok {
		return errors.New("cannot enable channel capabilities without orderer support first")
	}
	if _, ok := cfg.ChannelGroup.Groups[ApplicationGroupKey].GetValues()[CapabilitiesKey]; ok {
		return errors.New("cannot enable application capabilities without orderer support first")
	}
	return nil
}

// unmarshalValues parses the values of a group into the messages given by key.
// A value that is not in the group leaves its message empty.
func unmarshalValues(group *common.ConfigGroup, into map[string]proto.Message) error {
	for _, key := range sortedKeys(group.GetValues()) {
		m, ok := into[key]
		if !ok {
			return fmt.Errorf("failed to deserialize values: Unexpected key %s", key)
		}
		if err := proto.Unmarshal(group.Values[key].GetValue(), m); err != nil {
			return fmt.Errorf("failed to deserialize values: %w", err)
		}
	}
	return nil
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// loadGroups parses and checks the whole tree except policies and keys.
func (b *Bundle) loadGroups() error {
	root := b.config.ChannelGroup
	var (
		hashing    common.HashingAlgorithm
		structure  common.BlockDataHashingStructure
		addresses  common.OrdererAddresses
		consortium common.Consortium
		caps       common.Capabilities
	)
	err := unmarshalValues(root, map[string]proto.Message{
		HashingAlgorithmKey: &hashing, BlockDataHashingStructureKey: &structure,
		OrdererAddressesKey: &addresses, ConsortiumKey: &consortium, CapabilitiesKey: &caps,
	})
	if err != nil {
		return err
	}
	b.channel = &ChannelGroup{
		HashingAlgorithm: hashing.Name,
		OrdererAddresses: addresses.Addresses,
		ConsortiumName:   consortium.Name,
		Capabilities:     NewChannelCapabilities(&caps),
	}
	switch {
	case !slices.Contains(hashingAlgorithms, hashing.Name):
		return fmt.Errorf("Unknown hashing algorithm type: %s", hashing.Name)
	case structure.Width != math.MaxUint32:
		return errors.New("BlockDataHashStructure width only supported at MaxUint32 in this version")
	case len(addresses.Addresses) == 0 && !b.channel.Capabilities.OrgSpecificOrdererEndpoints():
		return errors.New("Must set some OrdererAddresses")
	}
	return b.loadSubGroups()
}

func (b *Bundle) loadSubGroups() error {
	l := &groupLoader{
		bundle: b,
		msps:   newMSPSet(b.channel.Capabilities.MSPVersion(), b.opts.Log.Named("msp")),
	}
	groups := b.config.ChannelGroup.Groups
	for _, name := range sortedKeys(groups) {
		var err error
		switch name {
		case ApplicationGroupKey:
			b.application, err = l.application(groups[name])
		case OrdererGroupKey:
			b.orderer, err = l.orderer(groups[name])
		case ConsortiumsGroupKey:
			b.consortiums, err = l.consortiums(groups[name])
		default:
			return fmt.Errorf("Disallowed channel group: %s", protoutil.Text(groups[name]))
		}
		if err != nil {
			return fmt.Errorf("could not create channel %s sub-group config: %w", name, err)
		}
	}
	b.msps = msp.NewManager(l.msps.all(), b.opts.MSPManager...)
	return nil
}

// groupLoader parses the groups below /Channel and collects their MSPs.
type groupLoader struct {
	bundle *Bundle
	msps   mspSet
}

func (l *groupLoader) application(group *common.ConfigGroup) (*ApplicationGroup, error) {
	var (
		acls peer.ACLs
		caps common.Capabilities
	)
	err := unmarshalValues(group, map[string]proto.Message{ACLsKey: &acls, CapabilitiesKey: &caps})
	if err != nil {
		return nil, err
	}
	g := &ApplicationGroup{
		Orgs:         make(map[string]*ApplicationOrg, len(group.GetGroups())),
		Capabilities: NewApplicationCapabilities(&caps),
		acls:         make(map[string]string, len(acls.Acls)),
	}
	if _, ok := group.GetValues()[ACLsKey]; ok && !g.Capabilities.ACLs() {
		return nil, errors.New("ACLs may not be specified without the required capability")
	}
	for resource, ref := range acls.Acls {
		if ref.GetPolicyRef() == "" {
			l.bundle.opts.Log.Named("common.channelconfig").Warningf("Policy reference for resource '%s' is specified, but empty, using default", resource)
			continue
		}
		g.acls[resource] = absolutePolicy(ref.PolicyRef)
	}
	for _, name := range sortedKeys(group.GetGroups()) {
		org := group.Groups[name]
		if len(org.GetGroups()) > 0 {
			return nil, errors.New("ApplicationOrg config does not allow sub-groups")
		}
		var anchors peer.AnchorPeers
		p, err := l.org(name, org, map[string]proto.Message{AnchorPeersKey: &anchors})
		if err != nil {
			return nil, err
		}
		g.Orgs[name] = &ApplicationOrg{Name: name, MSPID: p.ID(), MSP: p, AnchorPeers: anchors.AnchorPeers}
	}
	return g, nil
}

func (l *groupLoader) orderer(group *common.ConfigGroup) (*OrdererGroup, error) {
	var (
		consensus    orderer.ConsensusType
		size         orderer.BatchSize
		timeout      orderer.BatchTimeout
		brokers      orderer.KafkaBrokers
		restrictions orderer.ChannelRestrictions
		caps         common.Capabilities
	)
	err := unmarshalValues(group, map[string]proto.Message{
		ConsensusTypeKey: &consensus, BatchSizeKey: &size, BatchTimeoutKey: &timeout,
		KafkaBrokersKey: &brokers, ChannelRestrictionsKey: &restrictions, CapabilitiesKey: &caps,
	})
	if err != nil {
		return nil, err
	}
	g := &OrdererGroup{
		ConsensusType:     consensus.Type,
		ConsensusMetadata: consensus.Metadata,
		MigrationState:    consensus.State,
		MaxChannelsCount:  restrictions.MaxCount,
		KafkaBrokers:      brokers.Brokers,
		Capabilities:      NewOrdererCapabilities(&caps),
		Orgs:              make(map[string]*OrdererOrg, len(group.GetGroups())),
		BatchSize: BatchSize{
			MaxMessageCount:   size.MaxMessageCount,
			AbsoluteMaxBytes:  size.AbsoluteMaxBytes,
			PreferredMaxBytes: size.PreferredMaxBytes,
		},
	}
	if err := g.checkValues(timeout.Timeout); err != nil {
		return nil, err
	}
	for _, name := range sortedKeys(group.GetGroups()) {
		if g.Orgs[name], err = l.ordererOrg(name, group.Groups[name]); err != nil {
			return nil, err
		}
	}
	return g, nil
}

func (l *groupLoader) ordererOrg(name string, group *common.ConfigGroup) (*OrdererOrg, error) {
	if len(group.GetGroups()) > 0 {
		return nil, errors.New("OrdererOrg config does not allow sub-groups")
	}
	if _, ok := group.GetValues()[EndpointsKey]; ok && !l.bundle.channel.Capabilities.OrgSpecificOrdererEndpoints() {
		return nil, fmt.Errorf("Orderer Org %s cannot contain endpoints value until V1_4_2+ capabilities have been enabled", name)
	}
	var endpoints common.OrdererAddresses
	p, err := l.org(name, group, map[string]proto.Message{EndpointsKey: &endpoints})
	if err != nil {
		return nil, err
	}
	return &OrdererOrg{Name: name, MSPID: p.ID(), MSP: p, Endpoints: endpoints.Addresses}, nil
}

func (l *groupLoader) consortiums(group *common.ConfigGroup) (*ConsortiumsGroup, error) {
	if err := unmarshalValues(group, nil); err != nil {
		return nil, err
	}
	g := &ConsortiumsGroup{Consortiums: make(map[string]*Consortium, len(group.GetGroups()))}
	for _, name := range sortedKeys(group.GetGroups()) {
		consortium := group.Groups[name]
		var creation common.Policy
		err := unmarshalValues(consortium, map[string]proto.Message{ChannelCreationPolicyKey: &creation})
		if err != nil {
			return nil, err
		}
		c := &Consortium{Name: name, Orgs: make(map[string]*ConsortiumOrg, len(consortium.GetGroups()))}
		for _, orgName := range sortedKeys(consortium.GetGroups()) {
			org := consortium.Groups[orgName]
			if len(org.GetGroups()) > 0 {
				return nil, errors.New("organizations do not support sub-groups")
			}
			p, err := l.org(orgName, org, nil)
			if err != nil {
				return nil, err
			}
			c.Orgs[orgName] = &ConsortiumOrg{Name: orgName, MSPID: p.ID(), MSP: p}
		}
		g.Consortiums[name] = c
	}
	return g, nil
}

// org parses the values of an organization's group, MSP and those given, and
// sets up its MSP.
func (l *groupLoader) org(name string, group *common.ConfigGroup, values map[string]proto.Message) (msp.MSP, error) {
	var conf mspproto.MSPConfig
	into := map[string]proto.Message{MSPKey: &conf}
	maps.Copy(into, values)
	if err := unmarshalValues(group, into); err != nil {
		return nil, err
	}
	p, err := l.msps.add(&conf)
	if err != nil {
		return nil, err
	}
	if p.ID() == "" {
		return nil, fmt.Errorf("MSP for org %s has empty MSP ID", name)
	}
	return p, nil
}

// checkValues checks the values of /Channel/Orderer and parses the timeout.
func (g *OrdererGroup) checkValues(timeout string) error {
	s := g.BatchSize
	switch {
	case s.MaxMessageCount == 0:
		return errors.New("Attempted to set the batch size max message count to an invalid value: 0")
	case s.AbsoluteMaxBytes == 0:
		return errors.New("Attempted to set the batch size absolute max bytes to an invalid value: 0")
	case s.PreferredMaxBytes == 0:
		return errors.New("Attempted to set the batch size preferred max bytes to an invalid value: 0")
	case s.PreferredMaxBytes > s.AbsoluteMaxBytes:
		return fmt.Errorf("Attempted to set the batch size preferred max bytes (%v) greater than the absolute max bytes (%v).", s.PreferredMaxBytes, s.AbsoluteMaxBytes)
	}
	var err error
	if g.BatchTimeout, err = time.ParseDuration(timeout); err != nil {
		return fmt.Errorf("Attempted to set the batch timeout to a invalid value: %w", err)
	}
	if g.BatchTimeout <= 0 {
		return fmt.Errorf("Attempted to set the batch timeout to a non-positive value: %s", g.BatchTimeout)
	}
	for _, broker := range g.KafkaBrokers {
		if !validBroker(broker) {
			return fmt.Errorf("Invalid broker entry: %s", broker)
		}
	}
	return nil
}

var brokerHost = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?$`)

// validBroker checks host:port of a kafka broker.
func validBroker(broker string) bool {
	host, port, ok := strings.Cut(broker, ":")
	if !ok || !brokerHost.MatchString(host) {
		return false
	}
	_, err := strconv.ParseUint(port, 10, 16)
	return err == nil
}

// mspSet collects the MSPs of one configuration. Two organizations may have the
// same MSP, but only with the same definition.
type mspSet struct {
	version      msp.Version
	log          *flog.Logger
	byID         map[string]msp.MSP
	byDefinition map[string]msp.MSP // marshalled MSPConfig -> MSP
}

func newMSPSet(version msp.Version, log *flog.Logger) mspSet {
	return mspSet{version: version, log: log, byID: make(map[string]msp.MSP), byDefinition: make(map[string]msp.MSP)}
}

func (s *mspSet) add(conf *mspproto.MSPConfig) (msp.MSP, error) {
	// Setting up an MSP is the most expensive part of loading a configuration,
	// so an equal definition is not set up twice.
	definition := string(protoutil.Marshal(conf))
	if p, ok := s.byDefinition[definition]; ok {
		return p, nil
	}
	p, err := x509msp.New(conf, s.version, x509msp.WithLogger(s.log))
	switch {
	case err != nil && conf.Type != msp.TypeX509:
		return nil, err // this node does not know such MSPs
	case err != nil:
		return nil, fmt.Errorf("setting up the MSP manager failed: %w", err)
	}
	if _, ok := s.byID[p.ID()]; ok {
		return nil, fmt.Errorf("Attempted to define two different versions of MSP: %s", p.ID())
	}
	s.byID[p.ID()], s.byDefinition[definition] = p, p
	return p, nil
}

func (s *mspSet) all() []msp.MSP {
	msps := make([]msp.MSP, 0, len(s.byID))
	for _, id := range sortedKeys(s.byID) {
		msps = append(msps, s.byID[id])
	}
	return msps
}
