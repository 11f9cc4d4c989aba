// Command vec is the recorded chaincode vec_chaincode.go.txt on the stock shim of
// this module.
package main

import (
	"fmt"
	"os"
	"strconv"

	"github.com/hyperledger/fabric-chaincode-go/v2/shim"
	pb "github.com/hyperledger/fabric-protos-go-apiv2/peer"
)

type cc struct{}

func (c *cc) Init(s shim.ChaincodeStubInterface) *pb.Response {
	f, a := s.GetFunctionAndParameters()
	switch f {
	case "fail":
		return shim.Error("init refused")
	case "status450":
		return &pb.Response{Status: 450, Message: "odd status"}
	case "priv":
		if err := s.PutPrivateData("collA", "k", []byte("v")); err != nil {
			return shim.Error(err.Error())
		}
	}
	s.PutState("init", []byte(fmt.Sprint(f, a)))
	s.SetEvent("initevent", []byte("x"))
	return shim.Success([]byte("initok"))
}

func e(err error) string {
	if err == nil {
		return "<nil>"
	}
	return err.Error()
}

func (c *cc) Invoke(s shim.ChaincodeStubInterface) *pb.Response {
	f, a := s.GetFunctionAndParameters()
	switch f {
	case "kv":
		s.PutState("a", []byte("1"))
		v, err := s.GetState("a")
		out := fmt.Sprintf("get a after put=%q %s\n", v, e(err))
		v, err = s.GetState("missing")
		out += fmt.Sprintf("missing=%v nil=%v %s\n", v, v == nil, e(err))
		s.PutState("empty", nil)
		s.DelState("b")
		return shim.Success([]byte(out))
	case "get":
		v, err := s.GetState(a[0])
		if err != nil {
			return shim.Error(err.Error())
		}
		return shim.Success(v)
	case "put":
		if err := s.PutState(a[0], []byte(a[1])); err != nil {
			return shim.Error(err.Error())
		}
		return shim.Success(nil)
	case "fill":
		n, _ := strconv.Atoi(a[0])
		for i := 0; i < n; i++ {
			s.PutState(fmt.Sprintf("k%04d", i), []byte(strconv.Itoa(i)))
		}
		ck, _ := s.CreateCompositeKey("ot", []string{"x", "y"})
		s.PutState(ck, []byte("comp"))
		return shim.Success(nil)
	case "range":
		it, err := s.GetStateByRange(a[0], a[1])
		if err != nil {
			return shim.Error(err.Error())
		}
		n := 0
		for it.HasNext() {
			if _, err := it.Next(); err != nil {
				return shim.Error(err.Error())
			}
			n++
		}
		err = it.Close()
		return shim.Success([]byte(fmt.Sprintf("%d %s", n, e(err))))
	case "rangeput":
		s.PutState("zzz", []byte("1"))
		it, err := s.GetStateByRange("", "")
		if err != nil {
			return shim.Error(err.Error())
		}
		it.Close()
		return shim.Success(nil)
	case "rangethenput":
		it, err := s.GetStateByRange("k0000", "k0002")
		if err != nil {
			return shim.Error(err.Error())
		}
		it.Close()
		err = s.PutState("zzz", []byte("1"))
		return shim.Success([]byte(e(err)))
	case "page":
		n, _ := strconv.Atoi(a[2])
		it, md, err := s.GetStateByRangeWithPagination(a[0], a[1], int32(n), a[3])
		if err != nil {
			return shim.Error(err.Error())
		}
		m := 0
		for it.HasNext() {
			it.Next()
			m++
		}
		it.Close()
		return shim.Success([]byte(fmt.Sprintf("%d %d %q", m, md.FetchedRecordsCount, md.Bookmark)))
	case "pageput":
		_, _, err := s.GetStateByRangeWithPagination("", "", 3, "")
		err2 := s.PutState("q", []byte("1"))
		return shim.Success([]byte(e(err) + "|" + e(err2)))
	case "partial":
		it, err := s.GetStateByPartialCompositeKey("ot", []string{"x"})
		if err != nil {
			return shim.Error(err.Error())
		}
		kv, _ := it.Next()
		it.Close()
		return shim.Success([]byte(fmt.Sprintf("%q", kv.Key)))
	case "history":
		it, err := s.GetHistoryForKey(a[0])
		if err != nil {
			return shim.Error(err.Error())
		}
		n := 0
		for it.HasNext() {
			it.Next()
			n++
		}
		it.Close()
		return shim.Success([]byte(strconv.Itoa(n)))
	case "rich":
		_, err := s.GetQueryResult(`{"selector":{}}`)
		return shim.Success([]byte(e(err)))
	case "privput":
		err := s.PutPrivateData(a[0], "pk", []byte("pv-"+a[1]))
		err2 := s.PutPrivateData(a[0], "pdel", []byte("x"))
		return shim.Success([]byte(e(err) + "|" + e(err2)))
	case "privget":
		v, err := s.GetPrivateData(a[0], "pk")
		h, err2 := s.GetPrivateDataHash(a[0], "pk")
		m, err3 := s.GetPrivateData(a[0], "nope")
		it, err4 := s.GetPrivateDataByRange(a[0], "", "")
		n := 0
		if err4 == nil {
			for it.HasNext() {
				it.Next()
				n++
			}
			it.Close()
		}
		return shim.Success([]byte(fmt.Sprintf("%q %s | %x %s | %v %s | %d %s", v, e(err), h, e(err2), m == nil, e(err3), n, e(err4))))
	case "privdel":
		err := s.DelPrivateData(a[0], "pdel")
		return shim.Success([]byte(e(err)))
	case "privmeta":
		err := s.SetPrivateDataValidationParameter(a[0], "pk", []byte("ep"))
		v, err2 := s.GetPrivateDataValidationParameter(a[0], "pk")
		return shim.Success([]byte(fmt.Sprintf("%s %q %s", e(err), v, e(err2))))
	case "meta":
		err := s.SetStateValidationParameter("a", []byte("ep"))
		v, err2 := s.GetStateValidationParameter("a")
		return shim.Success([]byte(fmt.Sprintf("%s %q %s", e(err), v, e(err2))))
	case "metaget":
		v, err2 := s.GetStateValidationParameter(a[0])
		return shim.Success([]byte(fmt.Sprintf("%q %s", v, e(err2))))
	case "event":
		s.PutState("ev", []byte("1"))
		s.SetEvent("myevent", []byte("payload"))
		return shim.Success([]byte("evok"))
	case "fail":
		s.PutState("never", []byte("1"))
		s.SetEvent("ev2", []byte("x"))
		return shim.Error("boom")
	case "status399":
		return &pb.Response{Status: 399, Message: "below threshold", Payload: []byte("pl")}
	case "status400":
		return &pb.Response{Status: 400, Message: "at threshold", Payload: []byte("pl")}
	case "call":
		var args [][]byte
		for _, x := range a[2:] {
			args = append(args, []byte(x))
		}
		r := s.InvokeChaincode(a[0], args, a[1])
		return shim.Success([]byte(fmt.Sprintf("%d|%s|%s", r.Status, r.Message, r.Payload)))
	case "transient":
		m, err := s.GetTransient()
		return shim.Success([]byte(fmt.Sprintf("%q %s dec=%d", m, e(err), len(s.GetDecorations()))))
	case "exit":
		os.Exit(7)
	}
	return shim.Error("unknown function " + f)
}

func main() {
	if err := shim.Start(new(cc)); err != nil {
		fmt.Println("shim ended:", err)
		os.Exit(1)
	}
}
