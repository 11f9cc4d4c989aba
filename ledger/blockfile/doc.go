// Package blockfile stores the blocks of channels in append-only files with an
// index beside them (LEDGER §3, ORDERER §3). Peer and orderer use it alike; the
// directory can be shared in turn with the reference implementation.
//
// A Provider owns one directory tree and the index database of all channels; a
// Store owns the files of one channel. Append is serialised per Store, reads
// run beside it. The block file is synced once per block and is the only thing
// that is: the index is written lazily and rebuilt from the file after a crash
// (LEDGER §15.3). A Store that opens an index with transaction ids has a goroutine
// that reads them all once, and ends with Close at the latest. The package may be
// imported by ledger and by the orderer.
package blockfile
