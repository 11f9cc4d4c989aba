package validation

import (
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/protoutil"
)

func TestSystemNames(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name                       string
		system, closed, uncallable bool
	}{
		{"lscc", true, false, false},
		{"qscc", true, false, false},
		{"cscc", true, false, true},
		{"+lifecycle", true, false, false}, // disabled, but known
		{"escc", true, true, true},
		{"vscc", true, true, true},
		{"_lifecycle", false, false, false}, // of later versions
		{"mycc", false, false, false},
		{"", false, false, false},
	}
	for _, tc := range cases {
		if isSystem(tc.name) != tc.system || isClosed(tc.name) != tc.closed || isUncallable(tc.name) != tc.uncallable {
			t.Errorf("%s: %v %v %v", tc.name, isSystem(tc.name), isClosed(tc.name), isUncallable(tc.name))
		}
	}
}

// lsccState is a state with a chaincode whose collections are garbage.
type lsccState struct{ State }

func (lsccState) GetState(string, string) ([]byte, error) { return []byte("garbage"), nil }

func TestGarbageDefinesNoCollections(t *testing.T) {
	t.Parallel()
	c := newDefinitionCache(nil)
	c.state = lsccState{}
	if defined, err := c.Defines("cc", "coll"); defined || err != nil {
		t.Errorf("got %v, %v", defined, err)
	}
}

// TestEmptyAction: an action that is there but empty decodes, so what is wrong
// is that it names no chaincode (ENDORSE-VALIDATE §6.1).
func TestEmptyAction(t *testing.T) {
	for _, tc := range []struct {
		response []byte
		want     peer.TxValidationCode
	}{
		{nil, peer.TxValidationCode_BAD_RESPONSE_PAYLOAD},
		{[]byte{0x12, 0}, peer.TxValidationCode_INVALID_OTHER_REASON},
	} {
		tx := protoutil.ParseTx(protoutil.Marshal(&common.Envelope{Payload: protoutil.Marshal(&common.Payload{
			Header: &common.Header{ChannelHeader: protoutil.Marshal(&common.ChannelHeader{
				Extension: protoutil.Marshal(&peer.ChaincodeHeaderExtension{ChaincodeId: &peer.ChaincodeID{Name: "cc"}}),
			})},
			Data: protoutil.Marshal(&peer.Transaction{Actions: []*peer.TransactionAction{{
				Payload: protoutil.Marshal(&peer.ChaincodeActionPayload{Action: &peer.ChaincodeEndorsedAction{ProposalResponsePayload: tc.response}}),
			}}}),
		})}))
		if _, code, err := (&blockJudge{}).extract(tx); code != tc.want {
			t.Errorf("response %x: %s, %v", tc.response, code, err)
		}
	}
}
