package state

// IndexCreator is a DB that can be given indexes for rich queries (LEDGER §5.9).
type IndexCreator interface {
	// CreateIndexes creates the indexes that files define, by file name, in a
	// namespace: a chaincode's, or that of a collection's private data. A file
	// that is refused is logged and does not keep the others from being used;
	// an error means that none could be.
	CreateIndexes(ns string, files map[string][]byte) error
}
