package lscc

import (
	"errors"
	"fmt"

	"github.com/heddle-ledger/heddle/chaincode/packaging"
	"github.com/heddle-ledger/heddle/peer/acl"
)

// install saves a package (CHAINCODE §7.2).
func (l *LSCC) install(c *call) ([]byte, error) {
	if len(c.Args) < 2 {
		return nil, c.badCount()
	}
	if err := l.cfg.Access.CheckLocal(acl.Admins, c.SignedProposal); err != nil {
		return nil, fmt.Errorf("access denied for [%s]: %w", c.function, err)
	}
	pkg, err := l.cfg.Packages.Parse(c.Args[1])
	if err != nil {
		return nil, err
	}
	name, version := pkg.Name(), pkg.Version()
	if err := checkNames(name, version); err != nil {
		return nil, err
	}
	if l.cfg.IsSystem(name) {
		return nil, fmt.Errorf("cannot install: %s is the name of a system chaincode", name)
	}
	files, err := stateDBFiles(pkg)
	if err != nil {
		return nil, err
	}
	if l.cfg.Installing != nil {
		defer l.cfg.Installing(pkg, files)()
	}
	if err := l.save(pkg); err != nil {
		return nil, fmt.Errorf("error installing chaincode code %s:%s(%w)", name, version, err)
	}
	l.log.Infof("Installed Chaincode [%s] Version [%s] to peer", name, version)
	return []byte("OK"), nil
}

func (l *LSCC) save(pkg *packaging.Package) error {
	if pkg.Kind() == packaging.KindSignedCDS && len(pkg.InstantiationPolicy()) == 0 {
		return fmt.Errorf("instantiation policy cannot be nil for chaincode (%s:%s)", pkg.Name(), pkg.Version())
	}
	return l.cfg.Packages.Save(pkg)
}

// stateDBFiles gives the checked files for the state database.
func stateDBFiles(pkg *packaging.Package) ([]packaging.MetadataFile, error) {
	files, err := packaging.StateDBFiles(pkg.Spec())
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if err := packaging.CheckMetadataFile(f.Name, f.Content); err != nil {
			return nil, fmt.Errorf("invalid state database artifact: %w", err)
		}
	}
	return files, nil
}

// checkNames checks the forms of a chaincode's name and version.
func checkNames(name, version string) error {
	if !validName(name) {
		return fmt.Errorf("invalid chaincode name '%s'. Names must start with an alphanumeric character and can only consist of alphanumerics, '_', and '-'", name)
	}
	if !validVersion(version) {
		return fmt.Errorf("invalid chaincode version '%s'. Versions must not be empty and can only consist of alphanumerics, '_',  '-', '+', and '.'", version)
	}
	return nil
}

func alphanumeric(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9'
}

// validName matches ^[a-zA-Z0-9]+([-_][a-zA-Z0-9]+)*$: words joined by single
// dashes or underscores.
func validName(s string) bool {
	word := false
	for i := range len(s) {
		switch c := s[i]; {
		case alphanumeric(c):
			word = true
		case (c == '-' || c == '_') && word:
			word = false
		default:
			return false
		}
	}
	return word
}

// validVersion matches ^[A-Za-z0-9_.+-]+$.
func validVersion(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case alphanumeric(c), c == '_', c == '.', c == '+', c == '-':
		default:
			return false
		}
	}
	return s != ""
}

var errNoSpec = errors.New("invalid deployment spec: no chaincode id")
