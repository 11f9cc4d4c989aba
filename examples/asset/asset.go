// Command asset is a sample chaincode: assets with an owner and a value.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"

	"github.com/hyperledger/fabric-chaincode-go/v2/shim"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
)

// ownerIndex is the object type of the composite keys OWNER, ID.
const ownerIndex = "owner~id"

type asset struct {
	ID    string `json:"id"`
	Owner string `json:"owner"`
	Value int    `json:"value"`
}

// function is one function of the chaincode and the number of its arguments.
type function struct {
	args int
	run  func(stub shim.ChaincodeStubInterface, args []string) ([]byte, error)
}

func functions() map[string]function {
	return map[string]function{
		"create":    {3, create},
		"read":      {1, read},
		"transfer":  {2, transfer},
		"delete":    {1, remove},
		"byOwner":   {1, byOwner},
		"history":   {1, history},
		"page":      {2, page},
		"query":     {1, query},
		"queryPage": {3, queryPage},
		"ping":      {0, func(shim.ChaincodeStubInterface, []string) ([]byte, error) { return []byte("pong"), nil }},
	}
}

type chaincode struct{}

// Init creates nothing; it records the arguments of the deployment.
func (chaincode) Init(stub shim.ChaincodeStubInterface) *peer.Response {
	args, err := json.Marshal(stub.GetStringArgs())
	if err == nil {
		err = stub.PutState("deployment", args)
	}
	return respond(nil, err)
}

// Invoke calls the function named by the first argument.
func (chaincode) Invoke(stub shim.ChaincodeStubInterface) *peer.Response {
	name, args := stub.GetFunctionAndParameters()
	if name == "list" && (len(args) == 0 || len(args) == 2) {
		return respond(list(stub, append(args, "", "")[:2]))
	}
	f, ok := functions()[name]
	switch {
	case !ok:
		return respond(nil, fmt.Errorf("unknown function %q", name))
	case len(args) != f.args:
		return respond(nil, fmt.Errorf("%s takes %d arguments, not %d", name, f.args, len(args)))
	}
	return respond(f.run(stub, args))
}

func respond(payload []byte, err error) *peer.Response {
	if err != nil {
		return shim.Error(err.Error())
	}
	return shim.Success(payload)
}

func create(stub shim.ChaincodeStubInterface, args []string) ([]byte, error) {
	value, err := strconv.Atoi(args[2])
	if err != nil {
		return nil, fmt.Errorf("value: %w", err)
	}
	old, err := stub.GetState(args[0])
	if err != nil {
		return nil, err
	}
	if old != nil {
		return nil, fmt.Errorf("asset %s exists", args[0])
	}
	a := asset{ID: args[0], Owner: args[1], Value: value}
	return put(stub, a, "create")
}

func read(stub shim.ChaincodeStubInterface, args []string) ([]byte, error) {
	raw, err := stub.GetState(args[0])
	if err == nil && raw == nil {
		err = fmt.Errorf("asset %s does not exist", args[0])
	}
	return raw, err
}

func load(stub shim.ChaincodeStubInterface, id string) (asset, error) {
	var a asset
	raw, err := read(stub, []string{id})
	if err == nil {
		err = json.Unmarshal(raw, &a)
	}
	return a, err
}

func transfer(stub shim.ChaincodeStubInterface, args []string) ([]byte, error) {
	a, err := load(stub, args[0])
	if err != nil {
		return nil, err
	}
	if err := unindex(stub, a); err != nil {
		return nil, err
	}
	a.Owner = args[1]
	return put(stub, a, "transfer")
}

func remove(stub shim.ChaincodeStubInterface, args []string) ([]byte, error) {
	a, err := load(stub, args[0])
	if err != nil {
		return nil, err
	}
	if err := unindex(stub, a); err != nil {
		return nil, err
	}
	if err := stub.DelState(a.ID); err != nil {
		return nil, err
	}
	return nil, stub.SetEvent("delete", []byte(a.ID))
}

func put(stub shim.ChaincodeStubInterface, a asset, event string) ([]byte, error) {
	raw, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	key, err := stub.CreateCompositeKey(ownerIndex, []string{a.Owner, a.ID})
	if err != nil {
		return nil, err
	}
	if err := stub.PutState(key, []byte{0}); err != nil {
		return nil, err
	}
	if err := stub.PutState(a.ID, raw); err != nil {
		return nil, err
	}
	return raw, stub.SetEvent(event, raw)
}

func unindex(stub shim.ChaincodeStubInterface, a asset) error {
	key, err := stub.CreateCompositeKey(ownerIndex, []string{a.Owner, a.ID})
	if err != nil {
		return err
	}
	return stub.DelState(key)
}

func list(stub shim.ChaincodeStubInterface, args []string) ([]byte, error) {
	it, err := stub.GetStateByRange(args[0], args[1])
	if err != nil {
		return nil, err
	}
	return keys(it)
}

func page(stub shim.ChaincodeStubInterface, args []string) ([]byte, error) {
	size, err := strconv.ParseInt(args[0], 10, 32)
	if err != nil {
		return nil, fmt.Errorf("page size: %w", err)
	}
	it, metadata, err := stub.GetStateByRangeWithPagination("", "", int32(size), args[1])
	if err != nil {
		return nil, err
	}
	return pageOf(it, metadata)
}

func pageOf(it shim.StateQueryIteratorInterface, metadata *peer.QueryResponseMetadata) ([]byte, error) {
	found, err := keys(it)
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{
		"keys": json.RawMessage(found), "bookmark": metadata.GetBookmark(), "count": metadata.GetFetchedRecordsCount(),
	})
}

// query runs a rich query, which needs peers with CouchDB.
func query(stub shim.ChaincodeStubInterface, args []string) ([]byte, error) {
	it, err := stub.GetQueryResult(args[0])
	if err != nil {
		return nil, err
	}
	return keys(it)
}

func queryPage(stub shim.ChaincodeStubInterface, args []string) ([]byte, error) {
	size, err := strconv.ParseInt(args[1], 10, 32)
	if err != nil {
		return nil, fmt.Errorf("page size: %w", err)
	}
	it, metadata, err := stub.GetQueryResultWithPagination(args[0], int32(size), args[2])
	if err != nil {
		return nil, err
	}
	return pageOf(it, metadata)
}

func keys(it shim.StateQueryIteratorInterface) ([]byte, error) {
	defer it.Close()
	found := []string{}
	for it.HasNext() {
		kv, err := it.Next()
		if err != nil {
			return nil, err
		}
		found = append(found, kv.Key)
	}
	return json.Marshal(found)
}

func byOwner(stub shim.ChaincodeStubInterface, args []string) ([]byte, error) {
	it, err := stub.GetStateByPartialCompositeKey(ownerIndex, args)
	if err != nil {
		return nil, err
	}
	defer it.Close()
	ids := []string{}
	for it.HasNext() {
		kv, err := it.Next()
		if err != nil {
			return nil, err
		}
		_, parts, err := stub.SplitCompositeKey(kv.Key)
		if err != nil {
			return nil, err
		}
		ids = append(ids, parts[1])
	}
	return json.Marshal(ids)
}

func history(stub shim.ChaincodeStubInterface, args []string) ([]byte, error) {
	it, err := stub.GetHistoryForKey(args[0])
	if err != nil {
		return nil, err
	}
	defer it.Close()
	values := []string{}
	for it.HasNext() {
		mod, err := it.Next()
		if err != nil {
			return nil, err
		}
		values = append(values, string(mod.Value))
	}
	return json.Marshal(values)
}

func main() {
	if err := shim.Start(chaincode{}); err != nil {
		fmt.Fprintln(os.Stderr, "asset:", err)
		os.Exit(1)
	}
}
