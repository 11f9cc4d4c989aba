package audit

import "testing"

const ledgerRoot = "../testdata/ledger_root.tar.gz"

func TestRecorded(t *testing.T) {
	dir := untar(t, ledgerRoot)
	r := verify(t, dir, Options{State: true})
	t.Log(show(r))
}
