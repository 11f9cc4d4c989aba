// Package audit looks at the data directory of a peer or an orderer that is down
// and says whether it is sound, what is in it, and how it differs from another
// (LEDGER; docs/ledger-tool.md). It never writes to what it looks at: databases
// are opened read-only, nothing is repaired, and what has to be computed is kept
// in a temporary directory.
//
// A Dir owns the open databases and the lock of one directory until Close.
// Verify and Compare start goroutines that end before they return; memory is
// bounded by the blocks in flight. The package stands on the stores of ledger and
// is imported by commands only.
package audit
