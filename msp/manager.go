package msp

import (
	"errors"
	"fmt"

	mspproto "github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"google.golang.org/protobuf/proto"
)

// Manager is the set of MSPs of one channel. It owns the memory of identities judged by them, which ends
// with the Manager: a config update makes a new one.
type Manager struct {
	*CachedDeserializer
	msps map[string]MSP
}

// NewManager makes the Deserializer of a channel out of its MSPs.
func NewManager(msps []MSP, opts ...CacheOption) *Manager {
	set := make(mspSet, len(msps))
	for _, p := range msps {
		set[p.ID()] = p
	}
	return &Manager{CachedDeserializer: NewCachedDeserializer(set, opts...), msps: set}
}

// MSPs returns the MSPs by their id. The map must not be changed.
func (m *Manager) MSPs() map[string]MSP { return m.msps }

// MSP returns the MSP with that id.
func (m *Manager) MSP(id string) (MSP, bool) {
	p, ok := m.msps[id]
	return p, ok
}

// mspSet finds the MSP an identity belongs to.
type mspSet map[string]MSP

// DeserializeIdentity implements Deserializer.
func (s mspSet) DeserializeIdentity(b []byte) (Identity, error) {
	sid := &mspproto.SerializedIdentity{}
	if err := proto.Unmarshal(b, sid); err != nil {
		return nil, fmt.Errorf("could not deserialize a SerializedIdentity: %w", err)
	}
	p, ok := s[sid.Mspid]
	if !ok {
		return nil, fmt.Errorf("MSP %s is unknown", sid.Mspid)
	}
	return p.DeserializeIdentity(b)
}

// IsWellFormed implements Deserializer. Form depends on the type of MSP only, so one MSP of each type is
// asked, whatever MSP the identity names; one that accepts is enough (IDENTITY-CONFIG §2.3).
func (s mspSet) IsWellFormed(b []byte) error {
	if err := proto.Unmarshal(b, &mspproto.SerializedIdentity{}); err != nil {
		return fmt.Errorf("could not deserialize a SerializedIdentity: %w", err)
	}
	asked := make(map[int32]bool, 2)
	for _, p := range s {
		if asked[p.Type()] {
			continue
		}
		asked[p.Type()] = true
		if p.IsWellFormed(b) == nil {
			return nil
		}
	}
	return errors.New("no MSP provider recognizes the identity")
}
