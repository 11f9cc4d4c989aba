package chanconfig

import (
	"fmt"
	"slices"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"

	"github.com/heddle-ledger/heddle/msp"
)

// Names of capabilities (IDENTITY-CONFIG §5.4). A name that is not listed for
// its level makes a node refuse the configuration.
const (
	V1_1                         = "V1_1"
	V1_2                         = "V1_2"
	V1_3                         = "V1_3"
	V1_4_2                       = "V1_4_2"
	V1_4_3                       = "V1_4_3"
	V1_1PvtDataExperimental      = "V1_1_PVTDATA_EXPERIMENTAL"
	V1_1ResourceTreeExperimental = "V1_1_RESOURCETREE_EXPERIMENTAL"
)

// capabilitySet is the set of names that a configuration switches on.
type capabilitySet struct {
	level string
	known []string
	names []string // sorted
}

func newCapabilitySet(level string, known []string, c *common.Capabilities) capabilitySet {
	s := capabilitySet{level: level, known: known}
	for name := range c.GetCapabilities() {
		s.names = append(s.names, name)
	}
	slices.Sort(s.names)
	return s
}

// any tells whether at least one of the names is on.
func (s capabilitySet) any(names ...string) bool {
	for _, n := range names {
		if slices.Contains(s.names, n) {
			return true
		}
	}
	return false
}

// Supported returns an error when the configuration requires something that
// this binary does not implement.
func (s capabilitySet) Supported() error {
	for _, n := range s.names {
		if !slices.Contains(s.known, n) {
			return fmt.Errorf("%s capability %s is required but not supported", s.level, n)
		}
	}
	return nil
}

// Names returns the capabilities that are on, sorted.
func (s capabilitySet) Names() []string { return slices.Clone(s.names) }

// ChannelCapabilities says what the /Channel capabilities switch on
// (IDENTITY-CONFIG §5.4). The zero value has none.
type ChannelCapabilities struct{ capabilitySet }

// NewChannelCapabilities reads the capabilities of /Channel; nil means none.
func NewChannelCapabilities(c *common.Capabilities) ChannelCapabilities {
	return ChannelCapabilities{newCapabilitySet("Channel", []string{V1_1, V1_3, V1_4_2, V1_4_3}, c)}
}

// MSPVersion is the version of the rules by which the channel's MSPs judge
// (IDENTITY-CONFIG §2.5).
func (c ChannelCapabilities) MSPVersion() msp.Version {
	switch {
	case c.any(V1_4_3):
		return msp.V1_4_3
	case c.any(V1_4_2, V1_3):
		return msp.V1_3
	case c.any(V1_1):
		return msp.V1_1
	}
	return msp.V1_0
}

// ConsensusTypeMigration tells whether the consensus type may change.
func (c ChannelCapabilities) ConsensusTypeMigration() bool { return c.any(V1_4_2, V1_4_3) }

// OrgSpecificOrdererEndpoints tells whether orderer organizations may carry
// their own endpoints.
func (c ChannelCapabilities) OrgSpecificOrdererEndpoints() bool { return c.any(V1_4_2, V1_4_3) }

// OrdererCapabilities says what the /Channel/Orderer capabilities switch on
// (IDENTITY-CONFIG §5.4). The zero value has none.
type OrdererCapabilities struct{ capabilitySet }

// NewOrdererCapabilities reads the capabilities of /Channel/Orderer; nil means
// none.
func NewOrdererCapabilities(c *common.Capabilities) OrdererCapabilities {
	return OrdererCapabilities{newCapabilitySet("Orderer", []string{V1_1, V1_4_2}, c)}
}

// PredictableChannelTemplate tells whether templates of new channels have all
// versions at zero and keep the system channel's mod_policy (§7.2).
func (c OrdererCapabilities) PredictableChannelTemplate() bool { return c.any(V1_1, V1_4_2) }

// Resubmission tells whether messages that were validated under an older
// configuration are ordered again.
func (c OrdererCapabilities) Resubmission() bool { return c.any(V1_1, V1_4_2) }

// ExpirationCheck tells whether expired creators are refused on Broadcast.
func (c OrdererCapabilities) ExpirationCheck() bool { return c.any(V1_1, V1_4_2) }

// ConsensusTypeMigration tells whether the maintenance state exists (§5.3).
func (c OrdererCapabilities) ConsensusTypeMigration() bool { return c.any(V1_4_2) }

// ApplicationCapabilities says what the /Channel/Application capabilities
// switch on (IDENTITY-CONFIG §5.4). The zero value has none.
type ApplicationCapabilities struct{ capabilitySet }

// NewApplicationCapabilities reads the capabilities of /Channel/Application;
// nil means none.
func NewApplicationCapabilities(c *common.Capabilities) ApplicationCapabilities {
	known := []string{V1_1, V1_2, V1_3, V1_4_2, V1_1PvtDataExperimental, V1_1ResourceTreeExperimental}
	return ApplicationCapabilities{newCapabilitySet("Application", known, c)}
}

// ForbidDuplicateTxIDInBlock tells whether a second transaction with the same
// id in one block is invalid.
func (c ApplicationCapabilities) ForbidDuplicateTxIDInBlock() bool { return c.V1_1Validation() }

// V1_1Validation tells whether transactions are validated by the rules of 1.1
// or later.
func (c ApplicationCapabilities) V1_1Validation() bool { return c.any(V1_1, V1_2, V1_3, V1_4_2) }

// V1_2Validation tells whether transactions are validated by the rules of 1.2
// or later.
func (c ApplicationCapabilities) V1_2Validation() bool { return c.any(V1_2, V1_3, V1_4_2) }

// V1_3Validation tells whether transactions are validated by the rules of 1.3
// or later.
func (c ApplicationCapabilities) V1_3Validation() bool { return c.any(V1_3, V1_4_2) }

// ACLs tells whether the configuration may map resources to policies.
func (c ApplicationCapabilities) ACLs() bool { return c.V1_2Validation() }

// CollectionUpgrade tells whether an upgrade of a chaincode may change its
// collections.
func (c ApplicationCapabilities) CollectionUpgrade() bool { return c.V1_2Validation() }

// PrivateChannelData tells whether private data collections may be used.
func (c ApplicationCapabilities) PrivateChannelData() bool {
	return c.any(V1_2, V1_3, V1_4_2, V1_1PvtDataExperimental)
}

// KeyLevelEndorsement tells whether keys may carry endorsement policies.
func (c ApplicationCapabilities) KeyLevelEndorsement() bool { return c.V1_3Validation() }

// StorePvtDataOfInvalidTx tells whether private data of invalid transactions
// is kept.
func (c ApplicationCapabilities) StorePvtDataOfInvalidTx() bool { return c.any(V1_4_2) }
