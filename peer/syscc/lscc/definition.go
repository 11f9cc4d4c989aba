package lscc

import (
	"bytes"
	"fmt"
	"sync"

	"github.com/heddle-ledger/heddle/chaincode/packaging"
	"github.com/heddle-ledger/heddle/chaincode/stream"
	"github.com/heddle-ledger/heddle/chaincode/support"
)

// Definition reads the definition of a chaincode through the state given, so
// that a simulator records the read. An unknown one is the error
// "chaincode NAME not found" (CHAINCODE §3.7.6).
func (l *LSCC) Definition(name string, state StateReader) (*packaging.ChaincodeData, error) {
	raw, err := state.GetState(Namespace, name)
	if err != nil {
		return nil, fmt.Errorf("could not retrieve state for chaincode %s: %w", name, err)
	}
	if len(raw) == 0 {
		return nil, fmt.Errorf("chaincode %s not found", name)
	}
	cd, err := packaging.ParseChaincodeData(raw)
	if err != nil {
		return nil, fmt.Errorf("chaincode %s has bad definition: %w", name, err)
	}
	return cd, nil
}

// CheckInstalled checks that the package of a definition is installed here, and
// that the instantiation policy of a signed one is the one on the ledger
// (CHAINCODE §7.6).
func (l *LSCC) CheckInstalled(cd *packaging.ChaincodeData) error {
	want, err := l.policies.get(cd.Name, cd.Version, l.cfg.Packages)
	if err != nil {
		return fmt.Errorf("cannot retrieve package for chaincode %s/%s, error %w", cd.Name, cd.Version, err)
	}
	if want != nil && !bytes.Equal(want, cd.InstantiationPolicy) {
		return fmt.Errorf("Instantiation policy mismatch for cc %s/%s", cd.Name, cd.Version)
	}
	return nil
}

// ContainerInfo describes the installed package of a channel's chaincode for its
// launch.
func (l *LSCC) ContainerInfo(name string, sim stream.Simulator) (*support.Definition, error) {
	if sim == nil {
		return nil, fmt.Errorf("could not retrieve state for chaincode %s: no ledger context", name)
	}
	raw, err := sim.GetState(Namespace, name)
	if err != nil {
		return nil, fmt.Errorf("could not retrieve state for chaincode %s: %w", name, err)
	}
	if len(raw) == 0 {
		return nil, fmt.Errorf("chaincode %s not found", name)
	}
	pkg, err := l.code(name, raw)
	if err != nil {
		return nil, fmt.Errorf("could not get chaincode code: %w", err)
	}
	return LaunchDefinition(pkg), nil
}

// LaunchDefinition is what launching needs of a package.
func LaunchDefinition(pkg *packaging.Package) *support.Definition {
	return &support.Definition{Name: pkg.Name(), Version: pkg.Version(), Path: pkg.Path(), Type: pkg.Type()}
}

// Callee gives the definition of the target of a chaincode-to-chaincode call.
func (l *LSCC) Callee(_, name string, sim stream.Simulator) (*support.Definition, error) {
	cd, err := l.Definition(name, sim)
	if err != nil {
		return nil, err
	}
	if err := l.CheckInstalled(cd); err != nil {
		return nil, err
	}
	return &support.Definition{Name: cd.Name, Version: cd.Version}, nil
}

// maxPolicies and maxPolicyBytes bound the cache of instantiation policies.
const (
	maxPolicies    = 4096
	maxPolicyBytes = 4 << 20
)

// policyCache remembers the instantiation policy of each installed package that
// was asked for, nil for a package without one, so that an endorsement does not
// read the package. Packages never change once installed.
type policyCache struct {
	mu     sync.RWMutex // guards all below; not held while a package is read
	byName map[[2]string][]byte
	size   int
}

func (c *policyCache) get(name, version string, pkgs Packages) ([]byte, error) {
	key := [2]string{name, version}
	c.mu.RLock()
	p, ok := c.byName[key]
	c.mu.RUnlock()
	if ok {
		return p, nil
	}
	pkg, err := pkgs.Load(name, version)
	if err != nil {
		return nil, err
	}
	p = pkg.InstantiationPolicy()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.byName) >= maxPolicies || c.size+len(p) > maxPolicyBytes || c.byName == nil {
		c.byName, c.size = map[[2]string][]byte{}, 0
	}
	c.byName[key] = bytes.Clone(p)
	c.size += len(p)
	return p, nil
}
