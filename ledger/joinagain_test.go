package ledger

import (
	"strings"
	"testing"
)

// TestJoinWithoutList: when the list of channels is lost, a channel that has blocks
// cannot be joined, and the attempt does not keep the peer from starting.
func TestJoinWithoutList(t *testing.T) {
	t.Parallel()
	fsys := untar(t, "ledger_root.tar.gz")
	p := openProvider(t, vectorConfig(t, fsys))
	genesis, err := openLedger(t, p, "vecch").BlockByNumber(0)
	must(t, err)
	must(t, p.Close())
	must(t, fsys.RemoveAll(testDir+"/ledgerProvider"))
	p = openProvider(t, vectorConfig(t, fsys))
	want := "block number should have been 11 but was 0: the list of channels does not know channel [vecch], of which there are blocks: take the directory " + testDir + "/ledgerProvider from a backup"
	for range 2 {
		if _, err := p.Create(genesis); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v", err)
		}
	}
	must(t, p.Close())
	must(t, openProvider(t, vectorConfig(t, fsys)).Close())
}
