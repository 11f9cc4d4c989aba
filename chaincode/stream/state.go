package stream

import (
	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/queryresult"
)

// Iterator, PageIterator and HistoryIterator are aliases of unnamed
// interfaces, so that the ledger's simulator satisfies Simulator although
// neither room may import the other.
type (
	// Iterator yields the results of a range or rich query; nil, nil at the end.
	Iterator = interface {
		Next() (*queryresult.KV, error)
		Close()
	}
	// PageIterator yields one page; Bookmark is valid once it has been read.
	PageIterator = interface {
		Next() (*queryresult.KV, error)
		Bookmark() string
		Close()
	}
	// HistoryIterator yields the committed values of a key; nil, nil at the end.
	HistoryIterator = interface {
		Next() (*queryresult.KeyModification, error)
		Close()
	}
)

// Simulator is what the requests of a chaincode need of the ledger. It is used
// by one goroutine at a time.
type Simulator interface {
	GetState(ns, key string) ([]byte, error)
	SetState(ns, key string, value []byte) error
	DeleteState(ns, key string) error
	GetStateMetadata(ns, key string) (map[string][]byte, error)
	SetStateMetadata(ns, key string, metadata map[string][]byte) error
	GetStateRange(ns, start, end string) (Iterator, error)
	GetStateRangePage(ns, start, end string, pageSize int32) (PageIterator, error)
	ExecuteQuery(ns, query string) (Iterator, error)
	ExecuteQueryPage(ns, query string, pageSize int32, bookmark string) (PageIterator, error)
}

// HistoryReader reads the history database of one channel.
type HistoryReader interface {
	GetHistoryForKey(ns, key string) (HistoryIterator, error)
}
