package packaging

import (
	"errors"

	"github.com/heddle-ledger/heddle/internal/flog"
)

// Store is the directory of installed packages (CHAINCODE §6.4).
type Store struct{}

// StoreConfig says where the packages lie.
type StoreConfig struct {
	Dir string // PEERFS/chaincodes; made when missing
	Log *flog.Logger
}

// OpenStore opens the directory, making it when missing.
func OpenStore(cfg StoreConfig) (*Store, error) { return nil, errors.New("being written") }

// Save writes a package under NAME.VERSION; "chaincode PATH exists" if there.
func (s *Store) Save(p *Package) error { return errors.New("being written") }

// Load reads and parses the package of (name, version).
func (s *Store) Load(name, version string) (*Package, error) {
	return nil, errors.New("being written")
}

// List returns the installed packages, sorted by file name; unreadable and
// renamed files are left out.
func (s *Store) List() ([]*Package, error) { return nil, errors.New("being written") }
