package chanconfig

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/orderer"
	"github.com/hyperledger/fabric-protos-go-apiv2/orderer/etcdraft"
	"google.golang.org/protobuf/proto"
)

// ConsensusTypeEtcdraft is the consensus type whose metadata is checked.
const ConsensusTypeEtcdraft = "etcdraft"

// migrationTargets are the types to which a channel in maintenance may change.
var migrationTargets = []string{"solo", "kafka", ConsensusTypeEtcdraft}

// InspectMigration checks a proposed configuration by the rules for changes of
// consensus type and maintenance state (IDENTITY-CONFIG §5.3). The orderer
// prefixes the error with `config transaction inspection failed: `.
func (b *Bundle) InspectMigration(env *common.ConfigEnvelope) error {
	next, err := NewBundle(b.channelID, env.GetConfig(), b.opts)
	if err != nil {
		return fmt.Errorf("failed to parse config: %w", err)
	}
	return b.InspectMigrationTo(next, env.GetLastUpdate())
}

// InspectMigrationTo is InspectMigration for a configuration that has been
// loaded already.
func (b *Bundle) InspectMigrationTo(next *Bundle, lastUpdate *common.Envelope) error {
	if b.orderer == nil {
		return errors.New("current config is missing orderer group")
	}
	if next.orderer == nil {
		return errors.New("next config is missing orderer group")
	}
	is, to := b.orderer, next.orderer
	if !is.Capabilities.ConsensusTypeMigration() {
		if to.MigrationState != orderer.ConsensusType_STATE_NORMAL {
			return fmt.Errorf("next config attempted to change ConsensusType.State to %s, but capability is disabled", to.MigrationState)
		}
		if is.ConsensusType != to.ConsensusType {
			return fmt.Errorf("next config attempted to change ConsensusType.Type from %s to %s, but capability is disabled", is.ConsensusType, to.ConsensusType)
		}
		return nil
	}
	if is.MigrationState != to.MigrationState {
		if err := stateChangeOnly(is, to, lastUpdate); err != nil {
			return err
		}
	}
	if is.ConsensusType != to.ConsensusType {
		return typeChange(is, to)
	}
	return nil
}

// stateChangeOnly makes sure that an update which enters or leaves maintenance
// does nothing else.
func stateChangeOnly(is, to *OrdererGroup, lastUpdate *common.Envelope) error {
	if err := writesConsensusTypeOnly(lastUpdate); err != nil {
		return err
	}
	if is.ConsensusType != to.ConsensusType {
		return fmt.Errorf("attempted to change ConsensusType.Type from %s to %s, but ConsensusType.State is changing from %s to %s",
			is.ConsensusType, to.ConsensusType, is.MigrationState, to.MigrationState)
	}
	if !bytes.Equal(is.ConsensusMetadata, to.ConsensusMetadata) {
		return fmt.Errorf("attempted to change ConsensusType.Metadata, but ConsensusType.State is changing from %s to %s",
			is.MigrationState, to.MigrationState)
	}
	return nil
}

func typeChange(is, to *OrdererGroup) error {
	change := fmt.Sprintf("attempted to change consensus type from %s to %s", is.ConsensusType, to.ConsensusType)
	switch {
	case is.MigrationState == orderer.ConsensusType_STATE_NORMAL:
		return fmt.Errorf("%s, but current config ConsensusType.State is not in maintenance mode", change)
	case to.MigrationState == orderer.ConsensusType_STATE_NORMAL:
		return fmt.Errorf("%s, but next config ConsensusType.State is not in maintenance mode", change)
	case !slices.Contains(migrationTargets, to.ConsensusType):
		return fmt.Errorf("%s, transition not supported", change)
	}
	if to.ConsensusType == ConsensusTypeEtcdraft {
		if err := proto.Unmarshal(to.ConsensusMetadata, &etcdraft.ConfigMetadata{}); err != nil {
			return fmt.Errorf("failed to unmarshal etcdraft metadata configuration: %w", err)
		}
	}
	return nil
}

// writesConsensusTypeOnly checks that the write set of an update holds nothing
// but Orderer/ConsensusType.
func writesConsensusTypeOnly(lastUpdate *common.Envelope) error {
	env, err := updateOfEnvelope(lastUpdate)
	if err != nil {
		return err
	}
	update := &common.ConfigUpdate{}
	if err := proto.Unmarshal(env.ConfigUpdate, update); err != nil {
		return err
	}
	set := update.GetWriteSet()
	switch {
	case len(set.GetGroups()) == 0:
		return errors.New("config update contains no changes")
	case len(set.GetValues()) > 0:
		return errors.New("config update contains changes to values in group Channel")
	case len(set.GetGroups()) > 1:
		return errors.New("config update contains changes to more than one group")
	}
	group, ok := set.Groups[OrdererGroupKey]
	if !ok {
		return errors.New("update does not contain the Orderer group")
	}
	if len(group.GetGroups()) > 0 {
		return errors.New("config update contains changes to groups within the Orderer group")
	}
	if _, ok := group.GetValues()[ConsensusTypeKey]; !ok {
		return errors.New("config update does not contain the ConsensusType value")
	}
	if len(group.Values) > 1 {
		return errors.New("config update contain more then just the ConsensusType value in the Orderer group")
	}
	return nil
}
