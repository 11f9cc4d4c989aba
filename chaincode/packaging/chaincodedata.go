package packaging

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// ChaincodeData is the value of the lscc state key NAME (CHAINCODE §6.4). The
// message in the public proto module mistypes fields 5 and 8, and re-encoding
// through it could change bytes that must be compared exactly.
type ChaincodeData struct {
	Name, Version, Escc, Vscc string
	Policy, Data, ID          []byte
	InstantiationPolicy       []byte // nil when absent
}

// Marshal returns the canonical encoding.
func (d *ChaincodeData) Marshal() []byte {
	var b []byte
	for i, v := range [][]byte{[]byte(d.Name), []byte(d.Version), []byte(d.Escc), []byte(d.Vscc), d.Policy, d.Data, d.ID, d.InstantiationPolicy} {
		b = appendBytes(b, protowire.Number(i+1), v)
	}
	return b
}

// CName returns NAME:VERSION.
func (d *ChaincodeData) CName() string { return d.Name + ":" + d.Version }

// ParseChaincodeData decodes the value of an lscc state key.
func ParseChaincodeData(b []byte) (*ChaincodeData, error) {
	var fields [9][]byte
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return nil, fmt.Errorf("decode chaincode data: %w", protowire.ParseError(n))
		}
		b = b[n:]
		if num > 8 || typ != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
				return nil, fmt.Errorf("decode chaincode data: %w", protowire.ParseError(n))
			}
			b = b[n:]
			continue
		}
		v, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return nil, fmt.Errorf("decode chaincode data: %w", protowire.ParseError(n))
		}
		fields[num], b = v, b[n:]
	}
	return &ChaincodeData{
		Name: string(fields[1]), Version: string(fields[2]), Escc: string(fields[3]), Vscc: string(fields[4]),
		Policy: fields[5], Data: fields[6], ID: fields[7], InstantiationPolicy: fields[8],
	}, nil
}
