// Command old is the chaincode of the recorded calls in chaincode_cli2.txt: it
// answers "<mspid> <value of the key before the call>".
package main

import (
	"fmt"
	"os"

	"github.com/hyperledger/fabric-chaincode-go/v2/shim"
	"github.com/hyperledger/fabric-protos-go-apiv2/msp"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"
)

type chaincode struct{}

// Init does nothing.
func (chaincode) Init(shim.ChaincodeStubInterface) *peer.Response { return shim.Success(nil) }

// Invoke serves get KEY and put KEY VALUE.
func (chaincode) Invoke(s shim.ChaincodeStubInterface) *peer.Response {
	name, args := s.GetFunctionAndParameters()
	var id msp.SerializedIdentity
	creator, err := s.GetCreator()
	if err == nil {
		err = proto.Unmarshal(creator, &id)
	}
	if err != nil || len(args) == 0 {
		return shim.Error(fmt.Sprint("bad call: ", err))
	}
	before, err := s.GetState(args[0])
	if err == nil && name == "put" && len(args) == 2 {
		err = s.PutState(args[0], []byte(args[1]))
	}
	if err != nil {
		return shim.Error(err.Error())
	}
	return shim.Success(append([]byte(id.Mspid+" "), before...))
}

func main() {
	if err := shim.Start(chaincode{}); err != nil {
		fmt.Println("shim ended:", err)
		os.Exit(1)
	}
}
