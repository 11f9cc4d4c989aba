package x509msp

import (
	"fmt"

	"github.com/heddle-ledger/heddle/msp"
)

// OUsOf lists the OUs of an identity as name:certifiers.
func OUsOf(id msp.Identity) []string {
	var out []string
	for _, o := range id.(*identity).ous {
		out = append(out, fmt.Sprintf("%s:%x", o.name, o.certifiersID))
	}
	return out
}
