package audit

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestTornJournals: what cannot be built anew from the blocks is not said to be
// made good.
func TestTornJournals(t *testing.T) {
	for name, want := range map[string]string{
		dbHistory: "the next start cuts them off and makes good what they held",
		dbPrivate: "after damage of the disk they may have",
		dbList:    "after damage of the disk they may have",
	} {
		dir := peerCopy(t)
		all, err := filepath.Glob(filepath.Join(dir, "ledgersData", name, "*.log"))
		must(t, err)
		appendTo(t, all[len(all)-1], []byte("torn"))
		r := verify(t, dir, Options{})
		if len(r.Findings) != 1 || r.Findings[0].Severity != Repair || r.Findings[0].Database != name || !strings.Contains(r.Findings[0].Consequence, want) {
			t.Errorf("%s: %s", name, show(r.Findings))
		}
	}
}
