package packaging

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"
	"strings"

	"github.com/heddle-ledger/heddle/internal/flog"
)

// tempDir holds files being written. A reference peer ignores sub-directories
// of the store, but a stray file NAME.VERSION that is no package would make it
// publish no installed chaincode at all (CHAINCODE §6.4).
const tempDir = "tmp"

// Store is the directory of installed packages (CHAINCODE §6.4). It is safe
// for concurrent use: a file appears complete or not at all.
type Store struct {
	cfg StoreConfig
}

// StoreConfig says where the packages lie.
type StoreConfig struct {
	Dir     string           // PEERFS/chaincodes; made when missing, its parent must exist
	NewHash func() hash.Hash // the BCCSP's hash family; nil = SHA-256
	Log     *flog.Logger
}

// OpenStore opens the directory, making it when missing.
func OpenStore(cfg StoreConfig) (*Store, error) {
	if cfg.NewHash == nil {
		cfg.NewHash = sha256.New
	}
	if cfg.Log == nil {
		cfg.Log = flog.Nop()
	}
	if err := os.Mkdir(cfg.Dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("make chaincode install directory: %w", err)
	}
	// Left over by a crash while installing.
	if err := os.RemoveAll(filepath.Join(cfg.Dir, tempDir)); err != nil {
		return nil, fmt.Errorf("clear temporary files: %w", err)
	}
	return &Store{cfg: cfg}, nil
}

// Path returns the file of (name, version).
func (s *Store) Path(name, version string) string {
	return filepath.Join(s.cfg.Dir, name+"."+version)
}

// Parse decodes a package with the store's hash family.
func (s *Store) Parse(raw []byte) (*Package, error) { return ParseWith(raw, s.cfg.NewHash) }

// Save writes a package under NAME.VERSION. When there is one already, even
// the same, the error is "chaincode PATH exists". Order on disk: temporary
// file, sync, link to the final name, sync of the directory.
func (s *Store) Save(p *Package) error {
	if err := checkFileName(p.Name(), p.Version()); err != nil {
		return err
	}
	path := s.Path(p.Name(), p.Version())
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("chaincode %s exists", path)
	}
	temp, err := s.writeTemp(p.Raw())
	if err != nil {
		return err
	}
	defer os.Remove(temp) //nolint:errcheck // at worst cleared at the next open
	// Unlike a rename, a link never replaces a package that a concurrent
	// install has just put there.
	if err := os.Link(temp, path); err != nil {
		if errors.Is(err, os.ErrExist) {
			return fmt.Errorf("chaincode %s exists", path)
		}
		// File systems without links; installs of one chaincode do not race there.
		if err := os.Rename(temp, path); err != nil {
			return fmt.Errorf("install chaincode package: %w", err)
		}
	}
	return syncDir(s.cfg.Dir)
}

// Load reads and parses the package of (name, version).
func (s *Store) Load(name, version string) (*Package, error) {
	if err := checkFileName(name, version); err != nil {
		return nil, err
	}
	raw, err := os.ReadFile(s.Path(name, version))
	if err != nil {
		return nil, err
	}
	return s.Parse(raw)
}

// List returns the installed packages sorted by file name; files that cannot
// be read, or whose name is not that of their content, are logged and left out.
func (s *Store) List() ([]*Package, error) {
	entries, err := os.ReadDir(s.cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("list installed chaincodes: %w", err)
	}
	var list []*Package
	for _, e := range entries {
		name, version, ok := strings.Cut(e.Name(), ".")
		if !ok || !e.Type().IsRegular() {
			continue
		}
		p, err := s.Load(name, version)
		if err != nil {
			s.cfg.Log.Errorf("Unreadable chaincode file found on filesystem: %s: %s", e.Name(), err)
			continue
		}
		if p.Name() != name || p.Version() != version {
			s.cfg.Log.Errorf("Chaincode file's name/version has been modified on the filesystem: %s", e.Name())
			continue
		}
		list = append(list, p)
	}
	return list, nil
}

func (s *Store) writeTemp(raw []byte) (string, error) {
	dir := filepath.Join(s.cfg.Dir, tempDir)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return "", fmt.Errorf("make temporary directory: %w", err)
	}
	f, err := os.CreateTemp(dir, "install")
	if err != nil {
		return "", fmt.Errorf("make temporary file: %w", err)
	}
	_, err = f.Write(raw)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		os.Remove(f.Name()) //nolint:errcheck // the write error is the one to tell
		return "", fmt.Errorf("write chaincode package: %w", err)
	}
	return f.Name(), nil
}

// checkFileName keeps names that come from the ledger or from a chaincode call
// inside the directory.
func checkFileName(name, version string) error {
	if name == "" || strings.ContainsAny(name+version, "/\\\x00") {
		return fmt.Errorf("invalid chaincode %q version %q", name, version)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	defer d.Close() //nolint:errcheck // only read
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}
