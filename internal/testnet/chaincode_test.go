package testnet

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hyperledger/fabric-chaincode-go/v2/shim"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/internal/txbuild"
)

// counter counts in one key, and sleeps when asked to.
type counter struct{}

func (counter) Init(shim.ChaincodeStubInterface) *peer.Response { return shim.Success(nil) }

func (counter) Invoke(s shim.ChaincodeStubInterface) *peer.Response {
	switch name, args := s.GetFunctionAndParameters(); name {
	case "sleep":
		d, err := time.ParseDuration(args[0])
		if err != nil {
			return shim.Error(err.Error())
		}
		time.Sleep(d)
		return shim.Success(nil)
	case "count":
		v, err := s.GetState("n")
		if err == nil {
			err = s.PutState("n", append(v, '|'))
		}
		if err != nil {
			return shim.Error(err.Error())
		}
		return shim.Success(v)
	default:
		v, err := s.GetState("n")
		if err != nil {
			return shim.Error(err.Error())
		}
		return shim.Success(v)
	}
}

// deployed is a network with the chaincode counter on one channel.
func deployed(ctx context.Context, t *testing.T, o Options) (*Net, *Client, <-chan Event) {
	t.Helper()
	o.NoTLS = true
	n, _, clients := joined(ctx, t, o)
	c := clients[0]
	events, err := c.Events(ctx, 0, "ch", 1)
	if err != nil {
		t.Fatal(err)
	}
	n.Install(ctx, c, 0, "counter", "1.0")
	n.StartChaincode(ctx, 0, "counter:1.0", counter{})
	synctest.Wait()
	id := n.Deploy(ctx, c, 0, "ch", "counter", "1.0", "OR('Org1MSP.member')")
	if e := <-events; e.TxID != id || e.Code != peer.TxValidationCode_VALID {
		t.Fatalf("deployment: %+v", e)
	}
	return n, c, events
}

// TestConflict endorses two transactions on the same state: the first in the
// block is valid, the second is not.
func TestConflict(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		_, c, events := deployed(ctx, t, Options{BatchTimeout: 10 * time.Second})
		var ids []string
		for range 2 {
			p, err := c.Proposal("ch", "counter", Args("count")...)
			if err != nil {
				t.Fatal(err)
			}
			rs, err := c.Endorse(ctx, p, 0)
			if err != nil {
				t.Fatal(err)
			}
			env, err := txbuild.Transaction(p.Proposal, c.Signer, rs...)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.Submit(ctx, env); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, p.TxID)
		}
		for i, want := range []peer.TxValidationCode{peer.TxValidationCode_VALID, peer.TxValidationCode_MVCC_READ_CONFLICT} {
			if e := <-events; e.TxID != ids[i] || e.Code != want {
				t.Errorf("transaction %d: %+v, want %s", i, e, want)
			}
		}
		if v, err := c.Call(ctx, 0, "ch", "counter", Args("get")...); err != nil || string(v) != "|" {
			t.Errorf("%q, %v", v, err)
		}
	})
}

// TestExecuteTimeout lets a chaincode sleep longer than the peer waits.
func TestExecuteTimeout(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		_, c, _ := deployed(ctx, t, Options{})
		start := time.Now()
		if _, err := c.Call(ctx, 0, "ch", "counter", Args("sleep", "29s")...); err != nil || time.Since(start) != 29*time.Second {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
		start = time.Now()
		_, err := c.Call(ctx, 0, "ch", "counter", Args("sleep", "31s")...)
		if err == nil || !strings.HasSuffix(err.Error(), "timeout expired while executing transaction") || time.Since(start) != 30*time.Second {
			t.Errorf("after %s: %v", time.Since(start), err)
		}
		time.Sleep(2 * time.Second) // its late answer does no harm
		if _, err := c.Call(ctx, 0, "ch", "counter", Args("get")...); err != nil {
			t.Error(err)
		}
	})
}

// startSilent registers a chaincode that never answers.
func startSilent(ctx context.Context, t *testing.T, n *Net, id string) {
	t.Helper()
	stream, err := peer.NewChaincodeSupportClient(n.connect(chaincodeAddress(0), n.Orgs[0])).Register(ctx)
	if err == nil {
		err = stream.Send(&peer.ChaincodeMessage{
			Type: peer.ChaincodeMessage_REGISTER, Payload: protoutil.Marshal(&peer.ChaincodeID{Name: id}),
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for err == nil {
			_, err = stream.Recv()
		}
	}()
}

// TestChaincodeGone ends the stream of a chaincode in the middle of a call; the
// caller learns of it at once, and the chaincode may come back.
func TestChaincodeGone(t *testing.T) {
	bubble(t, func(t *testing.T, ctx context.Context) {
		n, _, clients := joined(ctx, t, Options{NoTLS: true, BatchCount: 1})
		c := clients[0]
		n.Install(ctx, c, 0, "counter", "1.0")
		life, end := context.WithCancel(ctx)
		n.StartChaincode(life, 0, "counter:1.0", counter{})
		synctest.Wait()
		n.Deploy(ctx, c, 0, "ch", "counter", "1.0", "OR('Org1MSP.member')")
		end()
		synctest.Wait()
		if _, err := c.Call(ctx, 0, "ch", "counter", Args("get")...); err == nil || !strings.Contains(err.Error(), "could not launch chaincode counter:1.0: error starting container: ") {
			t.Errorf("without chaincode: %v", err)
		}

		life, end = context.WithCancel(ctx)
		startSilent(life, t, n, "counter:1.0")
		synctest.Wait()
		time.AfterFunc(5*time.Second, end)
		start := time.Now()
		_, err := c.Call(ctx, 0, "ch", "counter", Args("get")...)
		if err == nil || !strings.HasSuffix(err.Error(), "error sending: chaincode stream terminated") || time.Since(start) != 5*time.Second {
			t.Errorf("after %s: %v", time.Since(start), err)
		}

		n.StartChaincode(ctx, 0, "counter:1.0", counter{})
		synctest.Wait()
		if _, err := c.Call(ctx, 0, "ch", "counter", Args("get")...); err != nil {
			t.Error(err)
		}
	})
}
