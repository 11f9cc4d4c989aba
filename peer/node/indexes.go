package node

import (
	"bytes"
	"errors"
	"io/fs"

	"github.com/heddle-ledger/heddle/chaincode/packaging"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/ledger"
)

// artifacts implements ledger.Artifacts: at a deployment, the package of that
// name and version counts (LEDGER §5.9).
func (n *Node) artifacts(chaincode string, definition []byte) (map[string][]byte, bool, error) {
	if n.parts.packages == nil {
		return nil, false, nil // only the creation of a channel is completed before
	}
	cd, err := packaging.ParseChaincodeData(definition)
	if err != nil {
		return nil, false, err
	}
	p, err := n.parts.packages.Load(chaincode, cd.Version)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	files, err := packaging.StateDBFiles(p.Spec())
	if err != nil {
		return nil, true, err
	}
	return n.definitions(files), true, nil
}

// definitions are the files by name. What an installation would refuse, and some
// other program put here, is left out.
func (n *Node) definitions(files []packaging.MetadataFile) map[string][]byte {
	out := make(map[string][]byte, len(files))
	for _, f := range files {
		if err := packaging.CheckMetadataFile(f.Name, f.Content); err != nil {
			n.log.Warningf("File of an installed chaincode is passed over: %s", flog.ForeignError(err))
			continue
		}
		out[f.Name] = f.Content
	}
	return out
}

// installing brings the indexes of a package that is being installed to the
// channels where exactly it is deployed.
func (n *Node) installing(p *packaging.Package, files []packaging.MetadataFile) (done func()) {
	return n.parts.ledgers.Installing(ledger.Installation{
		Chaincode: p.Name(), Files: n.definitions(files),
		Matches: func(definition []byte) bool {
			cd, err := packaging.ParseChaincodeData(definition)
			return err == nil && cd.Name == p.Name() && cd.Version == p.Version() && bytes.Equal(cd.ID, p.ID())
		},
	})
}
