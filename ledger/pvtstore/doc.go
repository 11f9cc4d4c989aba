// Package pvtstore keeps the private data of channels, the list of what is
// missing, and when data expire (LEDGER §8).
//
// A Provider owns the database of all channels; a Store is one channel's part.
// Prepare and Commit belong to the committer, which calls them one after the
// other; Cover and Settle replace them for blocks without private data.
// Everything else may be called beside them. The background work
// (purging what has expired, moving missing entries when this peer became
// eligible) is done by Provider.Run, or by Store.Work in the caller's
// goroutine. It may be imported by ledger only.
package pvtstore
