package qscc_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/chaincode/stream"
	"github.com/heddle-ledger/heddle/chaincode/support"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/peer/syscc/qscc"
)

var errAbsent = errors.New("Entry not found in index")

// chain is a ledger of three blocks; one transaction is in block 2.
type chain struct{}

func block(n uint64) *common.Block { return &common.Block{Header: &common.BlockHeader{Number: n}} }

func (chain) Info() *common.BlockchainInfo {
	return &common.BlockchainInfo{Height: 3, CurrentBlockHash: []byte("c"), PreviousBlockHash: []byte("p")}
}

func (chain) RawBlock(n uint64) ([]byte, error) {
	if n > 2 {
		return nil, errAbsent
	}
	return protoutil.Marshal(block(n)), nil
}

func (chain) BlockByHash(h []byte) (*common.Block, error) {
	if string(h) != "hash" {
		return nil, errAbsent
	}
	return block(1), nil
}

func (chain) BlockByTxID(id string) (*common.Block, error) {
	if id != "tx" {
		return nil, errAbsent
	}
	return block(2), nil
}

func (chain) TransactionByID(id string) (*peer.ProcessedTransaction, error) {
	if id != "tx" {
		return nil, errAbsent
	}
	return &peer.ProcessedTransaction{ValidationCode: 7}, nil
}

type access struct{}

func (access) CheckACL(resource, channelID string, _ *peer.SignedProposal) error {
	if strings.HasPrefix(resource, "qscc/No") {
		return errors.New("Unmapped policy for " + resource)
	}
	return nil
}

func call(args ...string) *peer.Response {
	q := qscc.New(qscc.Config{
		Access: access{},
		Ledger: func(id string, _ bool) (qscc.Ledger, bool) { return chain{}, id == "ch" },
	})
	inv := &support.Invocation{Name: "qscc", SignedProposal: &peer.SignedProposal{}}
	for _, a := range args {
		inv.Args = append(inv.Args, []byte(a))
	}
	return q.Invoke(context.Background(), inv)
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args []string
		want proto.Message
	}{
		{[]string{"GetChainInfo", "ch"}, chain{}.Info()},
		{[]string{"GetBlockByNumber", "ch", "1"}, block(1)},
		{[]string{"GetBlockByNumber", "ch", "18446744073709551615"}, block(2)},
		{[]string{"GetBlockByHash", "ch", "hash"}, block(1)},
		{[]string{"GetBlockByTxID", "ch", "tx"}, block(2)},
		{[]string{"GetTransactionByID", "ch", "tx"}, &peer.ProcessedTransaction{ValidationCode: 7}},
	} {
		if got := call(tc.args...); got.Status != 200 || string(got.Payload) != string(protoutil.Marshal(tc.want)) {
			t.Errorf("%v: got %v", tc.args, got)
		}
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		args []string
		want string
	}{
		{nil, "Incorrect number of arguments, 0"},
		{[]string{"GetChainInfo"}, "Incorrect number of arguments, 1"},
		{[]string{"GetBlockByHash", "ch"}, "missing 3rd argument for GetBlockByHash"},
		{[]string{"GetChainInfo", "other"}, "Invalid chain ID, other"},
		{[]string{"GetBlockByNumber", "ch", "3"}, "Failed to get block number 3, error Entry not found in index"},
		{[]string{"GetBlockByNumber", "ch", "-1"}, `Failed to parse block number with error strconv.ParseUint: parsing "-1": invalid syntax`},
		{[]string{"GetBlockByHash", "ch", "a\xff"}, "Failed to get block hash a\uFFFD, error Entry not found in index"},
		{[]string{"GetBlockByTxID", "ch", "z"}, "Failed to get block for txID z, error Entry not found in index"},
		{[]string{"GetTransactionByID", "ch", "z"}, "Failed to get transaction with id z, error Entry not found in index"},
		{[]string{"NoSuch", "ch", "z"}, "access denied for [NoSuch][ch]: [Unmapped policy for qscc/NoSuch]"},
		{[]string{"Mapped", "ch", "z"}, "Requested function Mapped not found."},
	} {
		if got := call(tc.args...); got.Status != 500 || got.Message != tc.want {
			t.Errorf("%v: got %v, want %q", tc.args, got, tc.want)
		}
	}
	q := qscc.New(qscc.Config{Access: access{}, Ledger: func(string, bool) (qscc.Ledger, bool) { return chain{}, true }})
	if got := q.Invoke(context.Background(), &support.Invocation{Args: [][]byte{[]byte("GetChainInfo"), []byte("ch")}}); got.Status != 500 {
		t.Errorf("a call without proposal is an error: %v", got)
	}
}

// TestWithinSimulation: a chaincode that calls is not to wait for commits.
func TestWithinSimulation(t *testing.T) {
	t.Parallel()
	for _, sim := range []stream.Simulator{nil, struct{ stream.Simulator }{}} {
		var simulating bool
		q := qscc.New(qscc.Config{Access: access{}, Ledger: func(_ string, s bool) (qscc.Ledger, bool) {
			simulating = s
			return chain{}, true
		}})
		inv := &support.Invocation{Args: [][]byte{[]byte("GetChainInfo"), []byte("ch")}, SignedProposal: &peer.SignedProposal{}, Simulator: sim}
		if got := q.Invoke(context.Background(), inv); got.Status != 200 || simulating != (sim != nil) {
			t.Errorf("%v: simulating %v with %v", got, simulating, sim)
		}
	}
}

func FuzzInvoke(f *testing.F) {
	f.Add("GetBlockByNumber", "ch", "1")
	f.Add("GetBlockByHash", "ch", "\xff")
	f.Fuzz(func(t *testing.T, function, channel, arg string) {
		for _, args := range [][]string{{function}, {function, channel}, {function, channel, arg}} {
			if _, err := proto.Marshal(call(args...)); err != nil {
				t.Error(err)
			}
		}
	})
}
