package chanconfig

import (
	"errors"
	"fmt"
)

// ValidateNew checks what may not change from this configuration to the next
// (IDENTITY-CONFIG §5.2).
func (b *Bundle) ValidateNew(next *Bundle) error {
	if err := b.validateNewOrderer(next); err != nil {
		return err
	}
	if err := b.validateNewApplication(next); err != nil {
		return err
	}
	return b.validateNewConsortiums(next)
}

func (b *Bundle) validateNewOrderer(next *Bundle) error {
	if b.orderer == nil {
		return nil
	}
	if next.orderer == nil {
		return errors.New("current config has orderer section, but new config does not")
	}
	if !b.channel.Capabilities.ConsensusTypeMigration() && b.orderer.ConsensusType != next.orderer.ConsensusType {
		return fmt.Errorf("attempted to change consensus type from %s to %s", b.orderer.ConsensusType, next.orderer.ConsensusType)
	}
	for _, name := range sortedKeys(next.orderer.Orgs) {
		was, ok := b.orderer.Orgs[name]
		if is := next.orderer.Orgs[name]; ok && is.MSPID != was.MSPID {
			return fmt.Errorf("orderer org %s attempted to change MSP ID from %s to %s", name, was.MSPID, is.MSPID)
		}
	}
	return nil
}

func (b *Bundle) validateNewApplication(next *Bundle) error {
	if b.application == nil {
		return nil
	}
	if next.application == nil {
		return errors.New("current config has application section, but new config does not")
	}
	for _, name := range sortedKeys(next.application.Orgs) {
		was, ok := b.application.Orgs[name]
		if is := next.application.Orgs[name]; ok && is.MSPID != was.MSPID {
			return fmt.Errorf("application org %s attempted to change MSP ID from %s to %s", name, was.MSPID, is.MSPID)
		}
	}
	return nil
}

func (b *Bundle) validateNewConsortiums(next *Bundle) error {
	if b.consortiums == nil {
		if next.consortiums != nil {
			return errors.New("current config has no consortiums section, but new config does")
		}
		return nil
	}
	if next.consortiums == nil {
		return errors.New("current config has consortiums section, but new config does not")
	}
	for _, name := range sortedKeys(next.consortiums.Consortiums) {
		was, ok := b.consortiums.Consortiums[name]
		if !ok {
			continue
		}
		is := next.consortiums.Consortiums[name]
		for _, org := range sortedKeys(is.Orgs) {
			old, ok := was.Orgs[org]
			if ok && old.MSPID != is.Orgs[org].MSPID {
				return fmt.Errorf("consortium %s org %s attempted to change MSP ID from %s to %s", name, org, old.MSPID, is.Orgs[org].MSPID)
			}
		}
	}
	return nil
}
