package ledger

import (
	"encoding/binary"
	"fmt"
	"path"
	"strconv"
	"strings"
	"testing"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"

	"github.com/heddle-ledger/heddle/internal/vfs"
	"github.com/heddle-ledger/heddle/ledger/blockfile"
	"github.com/heddle-ledger/heddle/ledger/kv"
)

// tellRecorded lives through the recorded chain of one channel with its
// reconciliations.
func tellRecorded(t testing.TB) *story { return tellScript(t, readScript(t)) }

// tellAnnounced announces blocks without private data before they come. After a
// crash the private store has them covered, and data that expire with them are
// gone early, so that the stores are as they should be once it has caught up.
func tellAnnounced(t testing.TB) *story {
	script := readScript(t)
	script.ahead = 3
	st := tellScript(t, script)
	st.toTheEnd = true
	return st
}

func tellScript(t testing.TB, script *chainScript) *story {
	s := newTeller(t, 1<<20) // one file: the genesis block alone is larger than a small one
	defer func() { must(t, s.stop()) }()
	s.create("vecch", script.blocks[0])
	for i := range script.steps {
		st := &script.steps[i]
		if st.Block == nil {
			s.reconcile(fmt.Sprintf("block %d", st.Supplied.Block), "vecch", 0, ReconciledData{
				Block: st.Supplied.Block,
				Sets:  map[uint64]*rwset.TxPvtReadWriteSet{st.Supplied.Tx: privateSet(t, st.Supplied.Set)},
			})
			continue
		}
		n := *st.Block
		if n == 0 {
			continue
		}
		s.step(storyStep{name: fmt.Sprintf("block %d", n), do: func(r *peerRun) error {
			l, err := r.p.Open("vecch")
			if err != nil {
				return err
			}
			if l.Height() <= n {
				if err := script.announce(l, n); err != nil {
					return err
				}
				if err := script.commit(r.t, l, st); err != nil {
					return err
				}
			}
			return l.private.Work(r.t.Context())
		}})
	}
	return s.story
}

// atHeight is what a directory held when a channel first had so many blocks.
func (st *story) atHeight(channel string, height uint64) vault {
	for i, heights := range st.heights {
		if heights[channel] == height {
			return st.wants[i]
		}
	}
	return nil
}

// crashedDirectory is what lies on the disk after a crash, seen by a 1.4 peer
// that opens it instead of us.
type crashedDirectory struct {
	t      *testing.T
	what   string
	raw    map[string][]byte // by vaultKey
	blocks map[string]uint64 // heights of the block files
	last   map[string]uint64 // numbers of the last block files that hold anything
}

func openCrashed(t *testing.T, m moment) *crashedDirectory {
	fsys := m.fs.Crash(vfs.KeepUnsynced, 0) // a copy to look into
	c := &crashedDirectory{t: t, what: m.what, raw: map[string][]byte{}, blocks: map[string]uint64{}, last: map[string]uint64{}}
	for _, db := range databases {
		readDatabase(t, fsys, path.Join(testDir, db), func(key, value []byte) {
			c.raw[vaultKey(db, string(key))] = append([]byte{}, value...)
		})
	}
	readDatabase(t, fsys, transientDir, func(key, _ []byte) { c.raw[vaultKey("transientStore", withoutUUID(t, key))] = nil })
	chains := path.Join(testDir, "chains/chains")
	for _, channel := range names(t, fsys, chains) {
		for _, name := range names(t, fsys, path.Join(chains, channel)) {
			info, err := fsys.Stat(path.Join(chains, channel, name))
			must(t, err)
			digits, isBlockFile := strings.CutPrefix(name, "blockfile_")
			if n, err := strconv.ParseUint(digits, 10, 64); isBlockFile && err == nil && info.Size() > 0 {
				c.last[channel] = max(c.last[channel], n)
			}
		}
	}
	blocks, err := blockfile.OpenProvider(blockfile.Config{Dir: path.Join(testDir, dirChains), FS: fsys})
	must(t, err)
	defer blocks.Close()
	ids, err := blocks.List()
	must(t, err)
	for _, id := range ids {
		chain, err := blocks.Open(id)
		if err != nil {
			t.Errorf("%s: block files of %s: %v", m.what, id, err)
			continue
		}
		c.blocks[id] = chain.Height()
	}
	return c
}

func (c *crashedDirectory) errorf(format string, args ...any) {
	c.t.Helper()
	c.t.Errorf("%s: %s", c.what, fmt.Sprintf(format, args...))
}

// savepoint is the number of blocks that a database knows by its savepoint.
func (c *crashedDirectory) savepoint(db, channel string) uint64 {
	raw, ok := c.raw[vaultKey(db, channel+"\x00\x00")]
	if !ok {
		return 0
	}
	h, _, err := kv.ReadHeight(raw)
	must(c.t, err)
	return h.Block + 1
}

// checkRules checks what a 1.4 peer needs of a directory as a crash left it in a
// step (LEDGER §15.3).
func (st *story) checkRules(t *testing.T, m moment, step int) {
	t.Helper()
	c := openCrashed(t, m)
	for channel, height := range c.blocks {
		c.checkPrivateAhead(channel, height)
		c.checkBehind(channel, height)
		c.checkCheckpoint(channel)
		if state := c.savepoint("stateLeveldb", channel); state > 0 {
			if want := st.atHeight(channel, state); want != nil {
				c.checkBesideState(channel, state, want)
			}
		}
	}
	if step > 0 {
		c.checkTransient(st.wants[step-1], st.wants[step])
		c.checkReconciled(st, step)
	}
}

// checkPrivateAhead is rule a: the private store may be ahead of the block file
// but not behind it, or a 1.4 peer could neither replay nor go on.
func (c *crashedDirectory) checkPrivateAhead(channel string, height uint64) {
	c.t.Helper()
	covered := uint64(0)
	if last, ok := c.raw[vaultKey(dirPrivate, channel+"\x00\x01")]; ok {
		n, _ := binary.Uvarint(last)
		covered = n + 1
	}
	if _, pending := c.raw[vaultKey(dirPrivate, channel+"\x00\x00")]; pending {
		covered++
	}
	if covered < height {
		c.errorf("the block files of %s hold %d blocks, the private store covers %d", channel, height, covered)
	}
}

// checkCheckpoint: the checkpoint names the last file that holds anything, since a
// 1.4 peer looks for blocks in no other (LEDGER §3.1, §3.8).
func (c *crashedDirectory) checkCheckpoint(channel string) {
	c.t.Helper()
	raw, ok := c.raw[vaultKey("chains/index", channel+"\x00blkMgrInfo")]
	if file, _ := binary.Uvarint(raw); ok && file < c.last[channel] {
		c.errorf("the checkpoint of %s is in file %d, file %d holds something", channel, file, c.last[channel])
	}
}

// checkBehind is rule b: what is made from the block file is not ahead of it.
func (c *crashedDirectory) checkBehind(channel string, height uint64) {
	c.t.Helper()
	for _, db := range []string{dirState, dirHistory} {
		if n := c.savepoint(db, channel); n > height {
			c.errorf("the block files of %s hold %d blocks, %s has %d", channel, height, db, n)
		}
	}
	if last, ok := c.raw[vaultKey("chains/index", channel+"\x00indexCheckpointKey")]; ok {
		if n, _ := binary.Uvarint(last); n >= height {
			c.errorf("the block files of %s hold %d blocks, the index knows block %d", channel, height, n)
		}
	}
}

// checkBesideState is rules c and d: what is rebuilt only along with the state is
// there if the state is, and what a block has processed is not gone before the
// state has the block.
func (c *crashedDirectory) checkBesideState(channel string, height uint64, want vault) {
	c.t.Helper()
	schedule := vaultKey(dirBookkeeper, channel+"/0\x00")
	hints := vaultKey(dirBookkeeper, channel+"/1\x00")
	conf := vaultKey(dirConfHistory, channel+"\x00")
	for k, w := range want {
		switch {
		case strings.HasPrefix(k, schedule):
			got := meaning(c.t, dirBookkeeper, strings.TrimPrefix(k, dirBookkeeper+"|"), c.raw[k])
			for _, line := range strings.Split(w, "\n") {
				hash := line[:strings.LastIndexByte(line, ' ')]
				if !strings.Contains("\n"+got, "\n"+hash) {
					c.errorf("the state of %s has block %d, the schedule lacks %q: %s", channel, height-1, k, hash)
				}
			}
		case strings.HasPrefix(k, hints), strings.HasPrefix(k, conf):
			if got, ok := c.raw[k]; !ok || string(got) != w {
				c.errorf("the state of %s has block %d, %q is missing", channel, height-1, k)
			}
		}
	}
	event, moved := false, true
	for k := range c.raw {
		if strings.HasPrefix(k, vaultKey(dirPrivate, channel+"\x00\x06")) {
			event = true
		}
		if _, ok := want[k]; ok || !strings.HasPrefix(k, vaultKey(dirPrivate, channel+"\x00\x05")) {
			continue
		}
		if block, _, err := kv.ReadRPV([]byte(k[len(k)-2:])); err != nil || block < height {
			moved = false
		}
	}
	if !event && !moved {
		c.errorf("the state of %s has block %d, missing data are not listed as the peer's due", channel, height-1)
	}
}

// checkTransient: what an endorser was told to be stored is.
func (c *crashedDirectory) checkTransient(before, after vault) {
	c.t.Helper()
	for k := range before {
		if _, stays := after[k]; !stays || !strings.HasPrefix(k, "transientStore|") {
			continue
		}
		if _, ok := c.raw[k]; !ok {
			c.errorf("%q is lost", k)
		}
	}
}

// checkReconciled is rule e: reconciled data are in the state, or noted as still
// to be brought there.
func (c *crashedDirectory) checkReconciled(st *story, step int) {
	c.t.Helper()
	if !strings.HasPrefix(st.steps[step].name, "reconcile") || st.toTheEnd { // there they may have expired early
		return
	}
	before, after := st.wants[step-1], st.wants[step]
	for channel, height := range c.blocks {
		if c.savepoint(dirState, channel) != height {
			continue // the replay brings them
		}
		if _, noted := c.raw[vaultKey(dirPrivate, channel+"\x00\x07")]; noted {
			continue
		}
		stored := false
		for k := range after {
			if _, old := before[k]; !old && strings.HasPrefix(k, vaultKey(dirPrivate, channel+"\x00\x02")) {
				_, there := c.raw[k]
				stored = stored || there
			}
		}
		if !stored {
			continue
		}
		for k, w := range after {
			if strings.HasPrefix(k, vaultKey(dirState, channel+"\x00")) && before[k] != w && string(c.raw[k]) != w {
				c.errorf("reconciled data are stored and not noted, but %q is not in the state", k)
			}
		}
	}
}
