package runtimetest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"embed"
	"fmt"
	"strings"
)

//go:embed probe
var probeFiles embed.FS

// Probe is a generation of the Go shim and the way its chaincodes are packed.
type Probe struct {
	Name             string
	shim, protos     string
	response, module string // module: prefix of the module files; empty for a GOPATH layout
}

// Probes returns the stock shims that must work: fabric-chaincode-go v2 and v1
// in the module layout, and the shim of the 1.4 tree in the GOPATH layout.
func Probes() []Probe {
	return []Probe{
		{Name: "shim-v2", shim: "github.com/hyperledger/fabric-chaincode-go/v2/shim", protos: "github.com/hyperledger/fabric-protos-go-apiv2/peer", response: "*pb.Response", module: "v2"},
		{Name: "shim-v1", shim: "github.com/hyperledger/fabric-chaincode-go/shim", protos: "github.com/hyperledger/fabric-protos-go/peer", response: "pb.Response", module: "v1"},
		{Name: "shim-1.4", shim: "github.com/hyperledger/fabric/core/chaincode/shim", protos: "github.com/hyperledger/fabric/protos/peer", response: "pb.Response"},
	}
}

// Path is the chaincode path the packages are for.
const Path = "example.com/probe"

// Code returns the code package of the probe.
func (p Probe) Code() ([]byte, error) {
	source, err := probeFiles.ReadFile("probe/probe.go.txt")
	if err != nil {
		return nil, err
	}
	main := strings.NewReplacer(`"SHIM"`, `"`+p.shim+`"`, `"PROTOS"`, `"`+p.protos+`"`, "RESPONSE", p.response).Replace(string(source))
	dir := "src/"
	if p.module == "" {
		dir += Path + "/"
	}
	files := [][2]string{{dir + "main.go", main}}
	if p.module != "" {
		for _, kind := range []string{"mod", "sum"} {
			content, err := probeFiles.ReadFile("probe/" + p.module + "." + kind + ".txt")
			if err != nil {
				return nil, err
			}
			files = append(files, [2]string{dir + "go." + kind, string(content)})
		}
	}
	return Archive(files...)
}

// Archive packs files, given as name and content, as a code package.
func Archive(files ...[2]string) ([]byte, error) {
	var b bytes.Buffer
	gz := gzip.NewWriter(&b)
	w := tar.NewWriter(gz)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f[0], Mode: 0o100644, Size: int64(len(f[1]))}); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f[0], err)
		}
		if _, err := w.Write([]byte(f[1])); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f[0], err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	if err := gz.Close(); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}
