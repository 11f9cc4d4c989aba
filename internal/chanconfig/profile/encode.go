package profile

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"github.com/hyperledger/fabric-protos-go-apiv2/orderer"
	"github.com/hyperledger/fabric-protos-go-apiv2/orderer/etcdraft"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/policy"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/msp"
	"github.com/heddle-ledger/heddle/msp/x509msp"
)

const admins = chanconfig.AdminsPolicyKey

// noOrg tells of a null in a list of organizations.
const noOrg = "organization is empty"

// Encoder makes channel configurations of profiles.
type Encoder struct {
	// Log receives warnings; nil drops them.
	Log *flog.Logger
}

// warnPolicies says that a section has no policies of its own.
func (e Encoder) warnPolicies(section string) {
	if e.Log != nil {
		e.Log.Named("encoder").Warningf("Default policy emission is deprecated, please include policy specifications for the %s in configtx.yaml", section)
	}
}

// ChannelGroup makes the /Channel group of a profile (IDENTITY-CONFIG §8.1).
func (e Encoder) ChannelGroup(p *Profile) (*common.ConfigGroup, error) {
	g := newGroup(admins)
	if len(p.Policies) == 0 {
		e.warnPolicies("channel group")
		addMetaDefaults(g)
	} else if err := addPolicies(g, p.Policies); err != nil {
		return nil, fmt.Errorf("error adding policies to channel group: %w", err)
	}
	addValue(g, chanconfig.HashingAlgorithmKey, &common.HashingAlgorithm{Name: "SHA256"}, admins)
	addValue(g, chanconfig.BlockDataHashingStructureKey, &common.BlockDataHashingStructure{Width: math.MaxUint32}, admins)
	if p.Orderer != nil && len(p.Orderer.Addresses) > 0 {
		addValue(g, chanconfig.OrdererAddressesKey, &common.OrdererAddresses{Addresses: p.Orderer.Addresses}, chanconfig.PolicyOrdererAdmins)
	}
	if p.Consortium != "" {
		addValue(g, chanconfig.ConsortiumKey, &common.Consortium{Name: p.Consortium}, admins)
	}
	addCapabilities(g, p.Capabilities)

	var err error
	if p.Orderer != nil {
		if g.Groups[chanconfig.OrdererGroupKey], err = e.ordererGroup(p.Orderer); err != nil {
			return nil, fmt.Errorf("could not create orderer group: %w", err)
		}
	}
	if p.Application != nil {
		if g.Groups[chanconfig.ApplicationGroupKey], err = e.applicationGroup(p.Application); err != nil {
			return nil, fmt.Errorf("could not create application group: %w", err)
		}
	}
	if p.Consortiums != nil {
		if g.Groups[chanconfig.ConsortiumsGroupKey], err = e.consortiumsGroup(p.Consortiums); err != nil {
			return nil, fmt.Errorf("could not create consortiums group: %w", err)
		}
	}
	return g, nil
}

func (e Encoder) ordererGroup(o *Orderer) (*common.ConfigGroup, error) {
	g := newGroup(admins)
	if len(o.Policies) == 0 {
		e.warnPolicies("orderer group")
		addMetaDefaults(g)
		g.Policies[chanconfig.BlockValidationPolicyKey] = metaPolicy(common.ImplicitMetaPolicy_ANY, chanconfig.WritersPolicyKey)
	} else if err := addPolicies(g, o.Policies); err != nil {
		return nil, fmt.Errorf("error adding policies to orderer group: %w", err)
	}
	addValue(g, chanconfig.BatchSizeKey, &orderer.BatchSize{
		MaxMessageCount:   o.BatchSize.MaxMessageCount,
		AbsoluteMaxBytes:  o.BatchSize.AbsoluteMaxBytes,
		PreferredMaxBytes: o.BatchSize.PreferredMaxBytes,
	}, admins)
	addValue(g, chanconfig.BatchTimeoutKey, &orderer.BatchTimeout{Timeout: o.BatchTimeout.String()}, admins)
	addValue(g, chanconfig.ChannelRestrictionsKey, &orderer.ChannelRestrictions{MaxCount: o.MaxChannels}, admins)
	addCapabilities(g, o.Capabilities)

	consensus := &orderer.ConsensusType{Type: o.OrdererType}
	switch o.OrdererType {
	case typeSolo:
	case typeKafka:
		addValue(g, chanconfig.KafkaBrokersKey, &orderer.KafkaBrokers{Brokers: o.Kafka.Brokers}, admins)
	case typeEtcdraft:
		metadata, err := raftMetadata(o.EtcdRaft)
		if err != nil {
			return nil, fmt.Errorf("cannot marshal metadata for orderer type %s: %w", typeEtcdraft, err)
		}
		consensus.Metadata = protoutil.Marshal(metadata)
	default:
		return nil, fmt.Errorf("unknown orderer type: %s", o.OrdererType)
	}
	addValue(g, chanconfig.ConsensusTypeKey, consensus, admins)

	for _, org := range o.Organizations {
		og, err := e.ordererOrg(org)
		if err != nil {
			return nil, fmt.Errorf("failed to create orderer org: %w", err)
		}
		g.Groups[org.Name] = og
	}
	return g, nil
}

// raftMetadata reads the consenters' certificates.
func raftMetadata(r *EtcdRaft) (*etcdraft.ConfigMetadata, error) {
	if r == nil || r.Options == nil {
		return nil, errors.New("no settings")
	}
	m := &etcdraft.ConfigMetadata{Options: &etcdraft.Options{
		TickInterval:         r.Options.TickInterval,
		ElectionTick:         r.Options.ElectionTick,
		HeartbeatTick:        r.Options.HeartbeatTick,
		MaxInflightBlocks:    r.Options.MaxInflightBlocks,
		SnapshotIntervalSize: r.Options.SnapshotIntervalSize,
	}}
	for _, c := range r.Consenters {
		client, err := os.ReadFile(c.ClientTLSCert)
		if err != nil {
			return nil, fmt.Errorf("cannot load client cert for consenter %s:%d: %w", c.Host, c.Port, err)
		}
		server, err := os.ReadFile(c.ServerTLSCert)
		if err != nil {
			return nil, fmt.Errorf("cannot load server cert for consenter %s:%d: %w", c.Host, c.Port, err)
		}
		m.Consenters = append(m.Consenters, &etcdraft.Consenter{Host: c.Host, Port: c.Port, ClientTlsCert: client, ServerTlsCert: server})
	}
	return m, nil
}

func (e Encoder) ordererOrg(o *Organization) (*common.ConfigGroup, error) {
	g, err := e.org(o, "orderer org group", "for org: ", "'")
	if err == nil && len(o.OrdererEndpoints) > 0 {
		addValue(g, chanconfig.EndpointsKey, &common.OrdererAddresses{Addresses: o.OrdererEndpoints}, admins)
	}
	return g, err
}

func (e Encoder) applicationGroup(a *Application) (*common.ConfigGroup, error) {
	g := newGroup(admins)
	if len(a.Policies) == 0 {
		e.warnPolicies("application group")
		addMetaDefaults(g)
	} else if err := addPolicies(g, a.Policies); err != nil {
		return nil, fmt.Errorf("error adding policies to application group: %w", err)
	}
	if len(a.ACLs) > 0 {
		acls := &peer.ACLs{Acls: make(map[string]*peer.APIResource, len(a.ACLs))}
		for resource, ref := range a.ACLs {
			acls.Acls[resource] = &peer.APIResource{PolicyRef: ref}
		}
		addValue(g, chanconfig.ACLsKey, acls, admins)
	}
	addCapabilities(g, a.Capabilities)
	for _, org := range a.Organizations {
		og, err := e.org(org, "application org group", "for org ", "")
		if err != nil {
			return nil, fmt.Errorf("failed to create application org: %w", err)
		}
		if len(org.AnchorPeers) > 0 {
			addValue(og, chanconfig.AnchorPeersKey, anchorPeers(org), admins)
		}
		g.Groups[org.Name] = og
	}
	return g, nil
}

func anchorPeers(o *Organization) *peer.AnchorPeers {
	a := &peer.AnchorPeers{}
	for _, p := range o.AnchorPeers {
		a.AnchorPeers = append(a.AnchorPeers, &peer.AnchorPeer{Host: p.Host, Port: int32(p.Port)})
	}
	return a
}

func (e Encoder) consortiumsGroup(consortiums map[string]*Consortium) (*common.ConfigGroup, error) {
	g := newGroup(chanconfig.PolicyOrdererAdmins)
	// Nobody but the orderer's administrators may change consortiums; this policy
	// only satisfies the policies above that ask for Admins of all groups.
	g.Policies[admins] = &common.ConfigPolicy{Policy: signaturePolicy(policy.AcceptAll()), ModPolicy: chanconfig.PolicyOrdererAdmins}
	for _, name := range slices.Sorted(maps.Keys(consortiums)) {
		c := newGroup(chanconfig.PolicyOrdererAdmins)
		addValue(c, chanconfig.ChannelCreationPolicyKey, metaPolicy(common.ImplicitMetaPolicy_ANY, admins).Policy, chanconfig.PolicyOrdererAdmins)
		g.Groups[name] = c
		if consortiums[name] == nil {
			continue
		}
		for _, org := range consortiums[name].Organizations {
			og, err := e.ConsortiumOrg(org)
			if err != nil {
				return nil, fmt.Errorf("failed to create consortium %s: failed to create consortium org: %w", name, err)
			}
			c.Groups[org.Name] = og
		}
	}
	return g, nil
}

// ConsortiumOrg makes the group of an organization as a member of a consortium.
func (e Encoder) ConsortiumOrg(o *Organization) (*common.ConfigGroup, error) {
	return e.org(o, "orderer org group", "for org: ", "'")
}

// org makes the part of an organization's group that is the same everywhere.
// The other parameters are parts of error texts, which differ a little.
func (e Encoder) org(o *Organization, kind, forOrg, quote string) (*common.ConfigGroup, error) {
	if o == nil {
		return nil, errors.New(noOrg)
	}
	conf, err := mspConfig(o)
	if err != nil {
		return nil, fmt.Errorf("1 - Error loading MSP configuration %s%s: %w", forOrg, o.Name, err)
	}
	g := newGroup(admins)
	if len(o.Policies) == 0 {
		e.warnPolicies(kind + " " + o.Name)
		addSignatureDefaults(g, o)
	} else if err := addPolicies(g, o.Policies); err != nil {
		return nil, fmt.Errorf("error adding policies to %s %s: %w", kind, quote+o.Name+quote, err)
	}
	addValue(g, chanconfig.MSPKey, conf, admins)
	return g, nil
}

func mspConfig(o *Organization) (*mspproto.MSPConfig, error) {
	switch o.MSPType {
	case "", "bccsp":
		return x509msp.LoadConfig(o.MSPDir, o.ID)
	case "idemix":
		return idemixConfig(o.MSPDir, o.ID)
	default:
		return nil, fmt.Errorf("unknown MSP type '%s'", o.MSPType)
	}
}

// idemixConfig reads the verifying part of an idemix MSP directory
// (IDENTITY-CONFIG §3.5): nodes of ours cannot judge such identities
// (docs/adr/0002-idemix.md), those of others can.
func idemixConfig(dir, id string) (*mspproto.MSPConfig, error) {
	issuer, err := os.ReadFile(filepath.Join(dir, "msp", "IssuerPublicKey"))
	if err != nil {
		return nil, fmt.Errorf("failed to read issuer public key file: %w", err)
	}
	revocation, err := os.ReadFile(filepath.Join(dir, "msp", "RevocationPublicKey"))
	if err != nil {
		return nil, fmt.Errorf("failed to read revocation public key file: %w", err)
	}
	conf := &mspproto.IdemixMSPConfig{Name: id, Ipk: issuer, RevocationPk: revocation}
	return &mspproto.MSPConfig{Type: msp.TypeIdemix, Config: protoutil.Marshal(conf)}, nil
}

func newGroup(modPolicy string) *common.ConfigGroup {
	return &common.ConfigGroup{
		Groups:    make(map[string]*common.ConfigGroup),
		Values:    make(map[string]*common.ConfigValue),
		Policies:  make(map[string]*common.ConfigPolicy),
		ModPolicy: modPolicy,
	}
}

func addValue(g *common.ConfigGroup, key string, m proto.Message, modPolicy string) {
	g.Values[key] = &common.ConfigValue{Value: protoutil.Marshal(m), ModPolicy: modPolicy}
}

// addCapabilities adds those that are on. A section that switches all off gives
// an empty value, an empty section none.
func addCapabilities(g *common.ConfigGroup, section map[string]bool) {
	if len(section) == 0 {
		return
	}
	c := &common.Capabilities{Capabilities: make(map[string]*common.Capability)}
	for name, on := range section {
		if on {
			c.Capabilities[name] = &common.Capability{}
		}
	}
	addValue(g, chanconfig.CapabilitiesKey, c, admins)
}

func addPolicies(g *common.ConfigGroup, policies map[string]*Policy) error {
	for _, name := range slices.Sorted(maps.Keys(policies)) {
		p := policies[name]
		if p == nil {
			p = &Policy{}
		}
		switch p.Type {
		case "ImplicitMeta":
			m, err := policy.ImplicitMetaFromString(p.Rule)
			if err != nil {
				return fmt.Errorf("invalid implicit meta policy rule '%s': %w", p.Rule, err)
			}
			g.Policies[name] = metaPolicy(m.Rule, m.SubPolicy)
		case "Signature":
			s, err := policy.FromString(p.Rule)
			if err != nil {
				return fmt.Errorf("invalid signature policy rule '%s': %w", p.Rule, err)
			}
			g.Policies[name] = &common.ConfigPolicy{Policy: signaturePolicy(s), ModPolicy: admins}
		default:
			return fmt.Errorf("unknown policy type: %s", p.Type)
		}
	}
	return nil
}

func addMetaDefaults(g *common.ConfigGroup) {
	g.Policies[admins] = metaPolicy(common.ImplicitMetaPolicy_MAJORITY, admins)
	g.Policies[chanconfig.ReadersPolicyKey] = metaPolicy(common.ImplicitMetaPolicy_ANY, chanconfig.ReadersPolicyKey)
	g.Policies[chanconfig.WritersPolicyKey] = metaPolicy(common.ImplicitMetaPolicy_ANY, chanconfig.WritersPolicyKey)
}

// addSignatureDefaults adds the policies of an organization that has none.
func addSignatureDefaults(g *common.ConfigGroup, o *Organization) {
	admin := policy.SignedByMSPAdmin(o.ID)
	if o.AdminPrincipal != "" && o.AdminPrincipal != defaultAdminPrincipal {
		admin = policy.SignedByMSPMember(o.ID)
	}
	member := policy.SignedByMSPMember(o.ID)
	for name, p := range map[string]*common.SignaturePolicyEnvelope{
		admins: admin, chanconfig.ReadersPolicyKey: member, chanconfig.WritersPolicyKey: member,
	} {
		g.Policies[name] = &common.ConfigPolicy{Policy: signaturePolicy(p), ModPolicy: admins}
	}
}

func metaPolicy(rule common.ImplicitMetaPolicy_Rule, sub string) *common.ConfigPolicy {
	value := protoutil.Marshal(&common.ImplicitMetaPolicy{Rule: rule, SubPolicy: sub})
	return &common.ConfigPolicy{
		Policy:    &common.Policy{Type: int32(common.Policy_IMPLICIT_META), Value: value},
		ModPolicy: admins,
	}
}

func signaturePolicy(p *common.SignaturePolicyEnvelope) *common.Policy {
	return &common.Policy{Type: int32(common.Policy_SIGNATURE), Value: protoutil.Marshal(p)}
}
