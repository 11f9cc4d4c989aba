package msp

import "errors"

// Manager is the set of MSPs of one channel.
type Manager struct {
	msps map[string]MSP
}

// ManagerOption changes how NewManager builds a Manager.
type ManagerOption func(*Manager)

// NewManager makes the Deserializer of a channel out of its MSPs.
func NewManager(msps []MSP, opts ...ManagerOption) *Manager {
	m := &Manager{msps: make(map[string]MSP, len(msps))}
	for _, p := range msps {
		m.msps[p.ID()] = p
	}
	for _, o := range opts {
		o(m)
	}
	return m
}

// MSPs returns the MSPs by their id. The map must not be changed.
func (m *Manager) MSPs() map[string]MSP { return m.msps }

// MSP returns the MSP with that id.
func (m *Manager) MSP(id string) (MSP, bool) {
	p, ok := m.msps[id]
	return p, ok
}

// DeserializeIdentity implements Deserializer.
func (m *Manager) DeserializeIdentity(b []byte) (Identity, error) {
	return nil, errors.New("not ready")
}

// IsWellFormed implements Deserializer.
func (m *Manager) IsWellFormed(b []byte) error { return errors.New("not ready") }
