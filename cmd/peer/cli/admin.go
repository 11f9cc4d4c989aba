package cli

import (
	"github.com/hyperledger/fabric-protos-go-apiv2/common"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/txbuild"
	"github.com/heddle-ledger/heddle/protos/admin"
)

// adminOperation is the header type PEER_ADMIN_OPERATION of 1.4, which the
// protocol module has dropped (SURFACE §2.3).
const adminOperation = 8

// AdminRequest is a signed request to the Admin service.
func AdminRequest(op *admin.AdminOperation, s txbuild.Signer) (*common.Envelope, error) {
	return txbuild.SignedEnvelope(txbuild.EnvelopeSpec{Type: adminOperation, Data: protoutil.Marshal(op)}, s)
}
