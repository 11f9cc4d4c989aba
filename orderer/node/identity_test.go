package node

import (
	"strings"
	"testing"
)

// TestForeignIdentity: an orderer with somebody else's MSP directory starts, as
// the reference does, but says what will come of it.
func TestForeignIdentity(t *testing.T) {
	t.Parallel()
	const warning = "Peers will refuse the blocks of this orderer: its identity does not satisfy /Channel/Orderer/BlockValidation"
	for _, tc := range []struct {
		dir, id string
		warned  bool
	}{{"testdata/orderer-msp", "OrdererMSP", false}, {"testdata/user1-msp", "Org1MSP", true}} {
		cfg := settings(t.TempDir())
		cfg.General.LocalMSPDir, cfg.General.LocalMSPID = tc.dir, tc.id
		var log buffer
		_, stop := startNode(t, cfg, &log)
		stop()
		if got := strings.Contains(log.String(), warning); got != tc.warned {
			t.Errorf("%s: warned %t:\n%s", tc.id, got, log.String())
		}
	}
}
