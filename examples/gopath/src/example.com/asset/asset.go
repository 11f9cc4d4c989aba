// Command asset is a sample chaincode on the shim of the Fabric 1.4 tree.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"

	"github.com/hyperledger/fabric/core/chaincode/shim"
	pb "github.com/hyperledger/fabric/protos/peer"
)

type asset struct {
	ID    string `json:"id"`
	Owner string `json:"owner"`
	Value int    `json:"value"`
}

type chaincode struct{}

// Init accepts any arguments.
func (chaincode) Init(stub shim.ChaincodeStubInterface) pb.Response { return shim.Success(nil) }

// Invoke calls the function named by the first argument.
func (chaincode) Invoke(stub shim.ChaincodeStubInterface) pb.Response {
	name, args := stub.GetFunctionAndParameters()
	var payload []byte
	err := fmt.Errorf("unknown function %q with %d arguments", name, len(args))
	switch {
	case name == "create" && len(args) == 3:
		payload, err = create(stub, args)
	case name == "read" && len(args) == 1:
		payload, err = read(stub, args[0])
	case name == "transfer" && len(args) == 2:
		payload, err = transfer(stub, args)
	case name == "delete" && len(args) == 1:
		if _, err = read(stub, args[0]); err == nil {
			err = stub.DelState(args[0])
		}
	case name == "list" && len(args) == 0:
		payload, err = list(stub, "", "")
	case name == "list" && len(args) == 2:
		payload, err = list(stub, args[0], args[1])
	}
	if err == nil && name != "read" && name != "list" {
		err = stub.SetEvent(name, []byte(args[0]))
	}
	if err != nil {
		return shim.Error(err.Error())
	}
	return shim.Success(payload)
}

func create(stub shim.ChaincodeStubInterface, args []string) ([]byte, error) {
	value, err := strconv.Atoi(args[2])
	if err != nil {
		return nil, err
	}
	return put(stub, asset{ID: args[0], Owner: args[1], Value: value})
}

func put(stub shim.ChaincodeStubInterface, a asset) ([]byte, error) {
	raw, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	return raw, stub.PutState(a.ID, raw)
}

func read(stub shim.ChaincodeStubInterface, id string) ([]byte, error) {
	raw, err := stub.GetState(id)
	if err == nil && raw == nil {
		err = fmt.Errorf("asset %s does not exist", id)
	}
	return raw, err
}

func transfer(stub shim.ChaincodeStubInterface, args []string) ([]byte, error) {
	raw, err := read(stub, args[0])
	if err != nil {
		return nil, err
	}
	var a asset
	if err := json.Unmarshal(raw, &a); err != nil {
		return nil, err
	}
	a.Owner = args[1]
	return put(stub, a)
}

func list(stub shim.ChaincodeStubInterface, from, to string) ([]byte, error) {
	it, err := stub.GetStateByRange(from, to)
	if err != nil {
		return nil, err
	}
	defer it.Close()
	keys := []string{}
	for it.HasNext() {
		kv, err := it.Next()
		if err != nil {
			return nil, err
		}
		keys = append(keys, kv.Key)
	}
	return json.Marshal(keys)
}

func main() {
	if err := shim.Start(chaincode{}); err != nil {
		fmt.Fprintln(os.Stderr, "asset:", err)
		os.Exit(1)
	}
}
