package e2e

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// crashes kills nodes while clients write, and checks that both peers end up
// with one chain in which nothing is missing that a client was told of.
func (r *running) crashes(t *testing.T) {
	c := r.client(0, "User1")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	events := watch(ctx, t, c, 0)

	// A peer dies, at any moment: whatever the orderer accepts must be
	// committed.
	l := startLoad(ctx, c, "a", 4)
	for range 4 {
		l.reach(t, 60+l.count())
		r.peers[1].kill()
		r.peers[1] = r.startPeer(1)
	}
	l.reach(t, 60+l.count())
	accepted := l.stop()
	events.all(t, accepted)

	// The orderer dies: whatever a peer has told of must stay. What it had
	// accepted and not yet put into a block is lost, as with any solo orderer.
	l = startLoad(ctx, c, "b", 4)
	l.reach(t, 100)
	r.orderer.kill()
	r.orderer = r.startOrderer()
	l.reach(t, 100+l.count())
	late := l.stop()
	last, err := c.invoke(ctx, "create", "last", "x", "1")
	if err != nil {
		t.Fatal(err)
	}
	events.all(t, []string{last})
	told := events.seen()
	t.Logf("%d accepted before the orderer's death and after, %d of them committed", len(late), len(late)-len(missing(late, told)))

	// Both peers die at once.
	l = startLoad(ctx, c, "c", 4)
	l.reach(t, 60)
	r.peers[0].kill()
	r.peers[1].kill()
	r.peers = [2]*daemon{r.startPeer(0), r.startPeer(1)}
	l.reach(t, 60+l.count())
	accepted = append(append(accepted, last), l.stop()...)
	final, err := c.invoke(ctx, "create", "final", "x", "1")
	if err != nil {
		t.Fatal(err)
	}
	r.compareChains(ctx, t, c, told, append(accepted, final))
}

// compareChains reads the whole chains of both peers; they end with the last
// accepted transaction.
func (r *running) compareChains(ctx context.Context, t *testing.T, c *client, told map[string]peer.TxValidationCode, accepted []string) {
	var chains [2][]*common.Block
	eventually(t, "all of both chains", func() bool {
		for i := range chains {
			var err error
			if chains[i], err = c.Blocks(ctx, i, "mychannel"); err != nil {
				return false
			}
		}
		view := protoutil.ParseBlock(chains[0][len(chains[0])-1])
		return len(chains[0]) == len(chains[1]) && view.Tx(view.Len()-1).ID() == accepted[len(accepted)-1]
	})
	codes := map[string]peer.TxValidationCode{}
	for n, b := range chains[0] {
		other := chains[1][n]
		if string(protoutil.BlockHash(b.Header)) != string(protoutil.BlockHash(other.Header)) {
			t.Fatalf("block %d differs", n)
		}
		for _, slot := range []common.BlockMetadataIndex{common.BlockMetadataIndex_TRANSACTIONS_FILTER, common.BlockMetadataIndex_COMMIT_HASH} {
			if string(b.Metadata.Metadata[slot]) != string(other.Metadata.Metadata[slot]) {
				t.Errorf("block %d: %s differs: %x, %x", n, slot, b.Metadata.Metadata[slot], other.Metadata.Metadata[slot])
			}
		}
		if n > 0 && string(b.Header.PreviousHash) != string(protoutil.BlockHash(chains[0][n-1].Header)) {
			t.Errorf("block %d does not follow its predecessor", n)
		}
		view := protoutil.ParseBlock(b)
		for i, code := range view.Flags() {
			id := view.Tx(i).ID()
			if id == "" {
				continue
			}
			if old, twice := codes[id]; twice && old == peer.TxValidationCode_VALID && code == byte(old) {
				t.Errorf("transaction %s is valid twice", id)
			}
			if _, twice := codes[id]; !twice {
				codes[id] = peer.TxValidationCode(code)
			}
		}
	}
	for id, code := range told {
		if got, ok := codes[id]; !ok || got != code {
			t.Errorf("transaction %s: an event said %s, the chain says %s (there: %t)", id, code, got, ok)
		}
	}
	for _, id := range accepted {
		if codes[id] != peer.TxValidationCode_VALID || !slices.Contains(keys(codes), id) {
			t.Errorf("accepted transaction %s: %s", id, codes[id])
		}
	}
	t.Logf("%d blocks, %d transactions", len(chains[0]), len(codes))
}

func keys(m map[string]peer.TxValidationCode) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	return out
}

// load writes new keys from several clients at once.
type load struct {
	cancel context.CancelFunc
	group  sync.WaitGroup

	mu       sync.Mutex // guards what follows
	accepted []string
	failures int
	lastErr  error
}

func startLoad(ctx context.Context, c *client, prefix string, clients int) *load {
	ctx, cancel := context.WithCancel(ctx)
	l := &load{cancel: cancel}
	for i := range clients {
		l.group.Go(func() {
			for k := 0; ctx.Err() == nil; k++ {
				// A transaction in flight when the load stops is let through.
				one, done := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
				id, err := c.invoke(one, "create", fmt.Sprintf("%s-%d-%d", prefix, i, k), "x", "1")
				done()
				l.add(id, err)
			}
		})
	}
	return l
}

func (l *load) add(id string, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.failures++
		l.lastErr = err
		return
	}
	l.accepted = append(l.accepted, id)
}

func (l *load) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.accepted)
}

// reach waits until so many transactions were accepted.
func (l *load) reach(t *testing.T, count int) {
	t.Helper()
	for end := time.Now().Add(patience); l.count() < count; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			l.mu.Lock()
			defer l.mu.Unlock()
			t.Fatalf("%d of %d transactions accepted, %d failures, the last: %v", len(l.accepted), count, l.failures, l.lastErr)
		}
	}
}

// stop ends the load and returns the ids of the accepted transactions.
func (l *load) stop() []string {
	l.cancel()
	l.group.Wait()
	return l.accepted
}

// eventLog holds the transactions that a peer has told of, with the code at
// their first appearance.
type eventLog struct {
	mu    sync.Mutex // guards codes
	codes map[string]peer.TxValidationCode
}

// watch follows the events of a peer until ctx ends or the peer dies.
func watch(ctx context.Context, t *testing.T, c *client, i int) *eventLog {
	t.Helper()
	events, err := c.Events(ctx, i, "mychannel", 0)
	if err != nil {
		t.Fatal(err)
	}
	l := &eventLog{codes: map[string]peer.TxValidationCode{}}
	go func() {
		for e := range events {
			l.mu.Lock()
			if _, again := l.codes[e.TxID]; e.TxID != "" && !again { // config transactions have no id
				l.codes[e.TxID] = e.Code
			}
			l.mu.Unlock()
		}
	}()
	return l
}

func (l *eventLog) seen() map[string]peer.TxValidationCode {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := map[string]peer.TxValidationCode{}
	for id, code := range l.codes {
		out[id] = code
	}
	return out
}

// all waits until every transaction was told of as valid.
func (l *eventLog) all(t *testing.T, ids []string) {
	t.Helper()
	eventually(t, fmt.Sprintf("events of %d transactions", len(ids)), func() bool { return len(missing(ids, l.seen())) == 0 })
	for _, id := range ids {
		if code := l.seen()[id]; code != peer.TxValidationCode_VALID {
			t.Errorf("transaction %s: %s", id, code)
		}
	}
}

func missing(ids []string, in map[string]peer.TxValidationCode) []string {
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool { _, ok := in[id]; return ok })
}
