package chanconfig

import (
	"slices"
	"strings"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/orderer"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/msp"
)

// Keys of the config tree (IDENTITY-CONFIG §5).
const (
	ChannelGroupKey     = "Channel"
	OrdererGroupKey     = "Orderer"
	ApplicationGroupKey = "Application"
	ConsortiumsGroupKey = "Consortiums"

	HashingAlgorithmKey          = "HashingAlgorithm"
	BlockDataHashingStructureKey = "BlockDataHashingStructure"
	OrdererAddressesKey          = "OrdererAddresses"
	ConsortiumKey                = "Consortium"
	CapabilitiesKey              = "Capabilities"
	ConsensusTypeKey             = "ConsensusType"
	BatchSizeKey                 = "BatchSize"
	BatchTimeoutKey              = "BatchTimeout"
	ChannelRestrictionsKey       = "ChannelRestrictions"
	KafkaBrokersKey              = "KafkaBrokers"
	MSPKey                       = "MSP"
	EndpointsKey                 = "Endpoints"
	ACLsKey                      = "ACLs"
	AnchorPeersKey               = "AnchorPeers"
	ChannelCreationPolicyKey     = "ChannelCreationPolicy"

	ReadersPolicyKey         = "Readers"
	WritersPolicyKey         = "Writers"
	AdminsPolicyKey          = "Admins"
	BlockValidationPolicyKey = "BlockValidation"
)

// Absolute names of standard policies (IDENTITY-CONFIG §4.4).
const (
	PolicyChannelReaders     = "/Channel/Readers"
	PolicyChannelWriters     = "/Channel/Writers"
	PolicyChannelAdmins      = "/Channel/Admins"
	PolicyApplicationReaders = "/Channel/Application/Readers"
	PolicyApplicationWriters = "/Channel/Application/Writers"
	PolicyApplicationAdmins  = "/Channel/Application/Admins"
	PolicyOrdererReaders     = "/Channel/Orderer/Readers"
	PolicyOrdererWriters     = "/Channel/Orderer/Writers"
	PolicyOrdererAdmins      = "/Channel/Orderer/Admins"
	PolicyBlockValidation    = "/Channel/Orderer/BlockValidation"
)

// ChannelGroup is the parsed /Channel group.
type ChannelGroup struct {
	HashingAlgorithm string
	OrdererAddresses []string
	ConsortiumName   string // empty on the system channel
	Capabilities     ChannelCapabilities
}

// OrdererGroup is the parsed /Channel/Orderer group.
type OrdererGroup struct {
	ConsensusType     string
	ConsensusMetadata []byte
	MigrationState    orderer.ConsensusType_State
	BatchSize         BatchSize
	BatchTimeout      time.Duration
	MaxChannelsCount  uint64 // 0: no limit
	KafkaBrokers      []string
	Capabilities      OrdererCapabilities
	Orgs              map[string]*OrdererOrg // by group name
}

// InMaintenance tells whether the channel is in the maintenance state in which
// normal transactions are refused (IDENTITY-CONFIG §5.3).
func (g *OrdererGroup) InMaintenance() bool {
	return g.Capabilities.ConsensusTypeMigration() && g.MigrationState != orderer.ConsensusType_STATE_NORMAL
}

// BatchSize limits the blocks that the orderer cuts.
type BatchSize struct {
	MaxMessageCount, AbsoluteMaxBytes, PreferredMaxBytes uint32
}

// OrdererOrg is an organization below /Channel/Orderer.
type OrdererOrg struct {
	Name      string // group name
	MSPID     string
	MSP       msp.MSP
	Endpoints []string
}

// ApplicationGroup is the parsed /Channel/Application group.
type ApplicationGroup struct {
	Orgs         map[string]*ApplicationOrg // by group name
	Capabilities ApplicationCapabilities

	acls map[string]string // resource -> absolute policy name
}

// ACLPolicy returns the absolute name of the policy that the configuration
// sets for a resource, or "" if the default applies (IDENTITY-CONFIG §4.6).
func (g *ApplicationGroup) ACLPolicy(resource string) string { return g.acls[resource] }

// ApplicationOrg is an organization below /Channel/Application.
type ApplicationOrg struct {
	Name        string // group name
	MSPID       string
	MSP         msp.MSP
	AnchorPeers []*peer.AnchorPeer
}

// ConsortiumsGroup is the parsed /Channel/Consortiums group; only the system
// channel has one.
type ConsortiumsGroup struct {
	Consortiums map[string]*Consortium
}

// Consortium is a set of organizations that may create channels.
type Consortium struct {
	Name string
	Orgs map[string]*ConsortiumOrg
}

// ConsortiumOrg is an organization of a consortium.
type ConsortiumOrg struct {
	Name  string // group name
	MSPID string
	MSP   msp.MSP
}

// OrdererEndpoints returns where to reach the ordering service: the addresses
// of the orderer organizations if there are any, by organization name, and the
// addresses of the channel.
func (b *Bundle) OrdererEndpoints() (byOrg map[string][]string, global []string) {
	byOrg = make(map[string][]string)
	if b.orderer != nil {
		for name, org := range b.orderer.Orgs {
			if len(org.Endpoints) > 0 {
				byOrg[name] = slices.Clone(org.Endpoints)
			}
		}
	}
	return byOrg, slices.Clone(b.channel.OrdererAddresses)
}

// absolutePolicy makes the policy name of an ACL absolute.
func absolutePolicy(name string) string {
	if strings.HasPrefix(name, "/") {
		return name
	}
	return "/" + ChannelGroupKey + "/" + ApplicationGroupKey + "/" + name
}
