// Package platform packs the code of chaincodes on the machine of the command
// line (CHAINCODE §6.1), one sub-package per language. It holds no state and
// starts no goroutine; the command line and tests import it.
package platform

import (
	"errors"
	"fmt"
	"os"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/chaincode/platform/car"
	"github.com/heddle-ledger/heddle/chaincode/platform/golang"
	"github.com/heddle-ledger/heddle/chaincode/platform/java"
	"github.com/heddle-ledger/heddle/chaincode/platform/node"
)

// Code packs the code of a chaincode as install and package do. It returns the
// path to record in the chaincode id, which differs from the given one only
// for a directory inside a Go module. Errors follow "error getting chaincode
// code NAME: ".
func Code(typ peer.ChaincodeSpec_Type, path string) (code []byte, idPath string, err error) {
	var pack func() ([]byte, error)
	idPath = path
	switch typ {
	case peer.ChaincodeSpec_GOLANG:
		source, err := golang.Find(golang.Tool{}, path)
		if err != nil {
			return nil, "", err
		}
		idPath, pack = source.Path, source.Pack
	case peer.ChaincodeSpec_NODE:
		pack = func() ([]byte, error) { return node.Pack(path) }
	case peer.ChaincodeSpec_JAVA:
		pack = func() ([]byte, error) { return java.Pack(path) }
	case peer.ChaincodeSpec_CAR:
		pack = func() ([]byte, error) { return car.Pack(path) }
	default:
		return nil, "", fmt.Errorf("Unknown chaincodeType: %s", typ) //nolint:staticcheck // the reference's text
	}
	if typ != peer.ChaincodeSpec_GOLANG {
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return nil, "", fmt.Errorf("path to chaincode does not exist: %s", path)
		}
	}
	if code, err = pack(); err != nil {
		return nil, "", fmt.Errorf("error getting chaincode package bytes: %w", err)
	}
	return code, idPath, nil
}
