package packaging

import "errors"

// ChaincodeData is the value of the lscc state key NAME (CHAINCODE §6.4). The
// message in the public proto module mistypes fields 5 and 8.
type ChaincodeData struct {
	Name, Version, Escc, Vscc string
	Policy, Data, ID          []byte
	InstantiationPolicy       []byte
}

// Marshal returns the canonical encoding.
func (d *ChaincodeData) Marshal() []byte { return nil }

// ParseChaincodeData decodes the value of an lscc state key.
func ParseChaincodeData(b []byte) (*ChaincodeData, error) { return nil, errors.New("being written") }
