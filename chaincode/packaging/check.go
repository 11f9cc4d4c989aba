package packaging

import (
	"errors"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
)

// CheckCode is the platform check of a deployment spec (CHAINCODE §6.2).
func CheckCode(cds *peer.ChaincodeDeploymentSpec) error { return errors.New("being written") }

// MetadataFile is an entry of a package below META-INF.
type MetadataFile struct {
	Name    string
	Content []byte
}

// StateDBFiles returns the entries below META-INF/statedb/ of a code package,
// unchecked ("nil code package", gzip and tar errors; CHAINCODE §7.2).
func StateDBFiles(cds *peer.ChaincodeDeploymentSpec) ([]MetadataFile, error) {
	return nil, errors.New("being written")
}

// CheckMetadataFile checks one metadata file (CHAINCODE §6.5).
func CheckMetadataFile(name string, content []byte) error { return errors.New("being written") }
