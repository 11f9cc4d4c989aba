package packaging

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
)

// maxUnpacked bounds what is decompressed of one code package, and
// maxMetadata what is kept of it in memory, with metadataCost for each file
// beyond its name and content.
const (
	maxUnpacked  = 4 << 30
	maxMetadata  = 64 << 20
	metadataCost = 256
)

// allowedModes are the bits an entry's mode may have.
const allowedModes = 0o100666

// CheckCode is the platform check of a deployment spec: which files, with
// which modes, its code package may hold (CHAINCODE §6.2). An empty package
// passes.
func CheckCode(cds *peer.ChaincodeDeploymentSpec) error {
	typ := cds.GetChaincodeSpec().GetType()
	var allowed, forbidden *regexp.Regexp
	switch typ {
	case peer.ChaincodeSpec_GOLANG, peer.ChaincodeSpec_NODE:
		allowed = regexp.MustCompile(`^(/)?(src|META-INF)/.*`)
	case peer.ChaincodeSpec_JAVA:
		allowed = regexp.MustCompile(`^(/)?src/((src|META-INF)/.*|(build\.gradle|settings\.gradle|pom\.xml))`)
		forbidden = regexp.MustCompile(`.*\.class$`)
	case peer.ChaincodeSpec_CAR:
		return nil
	default:
		return unknownType(typ)
	}
	if len(cds.CodePackage) == 0 {
		return nil
	}
	archive, err := openCode(cds.CodePackage)
	if err != nil {
		return fmt.Errorf("failure opening codepackage gzip stream: %w", err)
	}
	packageJSON := false
	for {
		// The reference takes any error here for the end of the archive.
		h, err := archive.Next()
		if err != nil {
			break
		}
		if !allowed.MatchString(h.Name) || forbidden != nil && forbidden.MatchString(h.Name) {
			return fmt.Errorf("illegal file detected in payload: %q", h.Name)
		}
		if h.Mode&^allowedModes != 0 {
			return fmt.Errorf("illegal file mode detected for file %s: %o", h.Name, h.Mode)
		}
		packageJSON = packageJSON || h.Name == "src/package.json"
	}
	if typ == peer.ChaincodeSpec_NODE && !packageJSON {
		return errors.New("no package.json found at the root of the chaincode package")
	}
	return nil
}

// MetadataFile is an entry of a package below META-INF.
type MetadataFile struct {
	Name    string
	Content []byte
}

// StateDBFiles returns the entries below META-INF/statedb/ of a code package,
// unchecked (CHAINCODE §7.2).
func StateDBFiles(cds *peer.ChaincodeDeploymentSpec) ([]MetadataFile, error) {
	switch cds.GetChaincodeSpec().GetType() {
	case peer.ChaincodeSpec_GOLANG, peer.ChaincodeSpec_NODE, peer.ChaincodeSpec_JAVA:
	case peer.ChaincodeSpec_CAR:
		return nil, nil
	default:
		return nil, errors.New("invalid deployment spec")
	}
	if cds.CodePackage == nil {
		return nil, errors.New("nil code package")
	}
	archive, err := openCode(cds.CodePackage)
	if err != nil {
		return nil, fmt.Errorf("failure opening codepackage gzip stream: %w", err)
	}
	var files []MetadataFile
	for left := int64(maxMetadata); ; {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read code package: %w", err)
		}
		if !strings.HasPrefix(h.Name, "META-INF/statedb/") || h.Typeflag != tar.TypeReg {
			continue
		}
		if left -= h.Size + int64(len(h.Name)) + metadataCost; left < 0 {
			return nil, fmt.Errorf("metadata files exceed %d bytes", maxMetadata)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", h.Name, err)
		}
		files = append(files, MetadataFile{Name: h.Name, Content: content})
	}
}

func unknownType(typ peer.ChaincodeSpec_Type) error {
	return fmt.Errorf("Unknown chaincodeType: %s", typ) //nolint:staticcheck // the reference's text
}

func openCode(code []byte) (*tar.Reader, error) {
	gz, err := gzip.NewReader(bytes.NewReader(code))
	if err != nil {
		return nil, err
	}
	return tar.NewReader(io.LimitReader(gz, maxUnpacked)), nil
}
