package stream

import (
	"errors"
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
)

// lifecycleNamespace holds chaincode definitions and collection configs.
const lifecycleNamespace = "lscc"

// Private data is not served yet: a collection is answered as if it did not
// exist (CHAINCODE §3.3). The look-ups of the collection config are made all
// the same, because they belong to the read set.

func (s *Stream) getPrivateDataHash(tx *transaction, payload []byte) ([]byte, error) {
	req := &peer.GetState{}
	if err := decode(payload, req); err != nil {
		return nil, err
	}
	return nil, s.refusePrivateUse(tx, req.Collection)
}

// refusePrivateRead answers the requests whose access is checked first.
func (s *Stream) refusePrivateRead(tx *transaction, collection string) error {
	if err := privateAllowed(tx); err != nil {
		return err
	}
	if _, err := tx.call.Simulator.GetState(lifecycleNamespace, s.instance.Name+"~collection"); err != nil {
		return err
	}
	return fmt.Errorf("collection %s/%s/%s could not be found", tx.call.ChannelID, s.instance.Name, collection)
}

// refusePrivateUse answers the requests that go to the simulator directly.
func (s *Stream) refusePrivateUse(tx *transaction, collection string) error {
	if err := privateAllowed(tx); err != nil {
		return err
	}
	definition, err := tx.call.Simulator.GetState(lifecycleNamespace, s.instance.Name)
	if err != nil {
		return err
	}
	if len(definition) > 0 {
		if _, err := tx.call.Simulator.GetState(lifecycleNamespace, s.instance.Name+"~collection"); err != nil {
			return err
		}
	}
	return fmt.Errorf("collection [%s] not defined in the collection config for chaincode [%s]", collection, s.instance.Name)
}

func privateAllowed(tx *transaction) error {
	if tx.call.Type == peer.ChaincodeMessage_INIT {
		return errors.New("private data APIs are not allowed in chaincode Init()")
	}
	return nil
}
