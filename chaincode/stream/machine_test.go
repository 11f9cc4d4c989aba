package stream

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
)

func TestParseTargetVectors(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/parse_name.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct{ In, Name, Version, Channel string }
	if err := json.Unmarshal(raw, &vectors); err != nil {
		t.Fatal(err)
	}
	for _, v := range vectors {
		if diff := cmp.Diff(Target{v.Name, v.Version, v.Channel}, ParseTarget(v.In)); diff != "" {
			t.Errorf("%q: %s", v.In, diff)
		}
	}
}

// The machine under any sequence of events: the inbox of a transaction never
// overflows, each gets at most one result, an unregistered stream has no
// transactions to serve, and an ended one does nothing.
func FuzzMachine(f *testing.F) {
	f.Add([]byte{1, 0, 200, 0, 8, 0, 8, 0, 201, 0, 6, 0, 6, 0})
	f.Add([]byte{1, 1, 200, 1, 200, 1, 9, 1, 7, 1, 202, 1, 9, 1})
	f.Fuzz(func(t *testing.T, events []byte) {
		m := newMachine()
		executing := map[txKey]*transaction{}
		outstanding := map[*transaction]int{}
		results := map[*transaction]int{}
		for ; len(events) >= 2; events = events[2:] {
			key := txKey{"ch", string(events[1] % 3)}
			switch ev := events[0]; ev {
			case 200: // a caller executes
				if m.phase != ready {
					continue // the registry gives out ready streams only
				}
				tx := newTransaction(&Call{ChannelID: key.channelID, TxID: key.txID})
				if err := m.begin(key, tx); (err == nil) == (executing[key] != nil) {
					t.Fatalf("begin: %v with %v", err, executing[key])
				} else if err == nil {
					executing[key] = tx
				}
			case 201: // a request has been carried out
				if tx := executing[key]; tx != nil && outstanding[tx] > 0 {
					outstanding[tx]--
					m.answered(tx)
				}
			case 202: // the caller leaves
				m.remove(key)
				delete(executing, key)
			case 203:
				m.terminate()
			default:
				before := m.phase
				v := m.receive(peer.ChaincodeMessage_Type(ev), key)
				switch v.action {
				case register:
					if before != created {
						t.Fatalf("register while %s", before)
					}
					m.registered()
				case request:
					if v.tx != executing[key] {
						t.Fatal("request for a transaction that is not executed")
					}
					if outstanding[v.tx]++; outstanding[v.tx] > 1 {
						t.Fatal("two requests outstanding")
					}
				case deliver:
					if results[v.tx]++; results[v.tx] > 1 || v.tx != executing[key] {
						t.Fatal("result for nobody, or a second one")
					}
				case end:
					if v.err == nil {
						t.Fatal("end without a reason")
					}
					m.terminate()
				}
				if before == ended && v.action != ignore {
					t.Fatalf("action %d after the end", v.action)
				}
			}
		}
	})
}

func TestRequestTypesAreTheReferences(t *testing.T) {
	t.Parallel()
	n := 0
	for value := range peer.ChaincodeMessage_Type_name {
		if isRequest(peer.ChaincodeMessage_Type(value)) {
			n++
		}
	}
	if n != 12 {
		t.Errorf("%d request types", n)
	}
}
