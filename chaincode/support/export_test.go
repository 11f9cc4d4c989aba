package support

import "github.com/heddle-ledger/heddle/chaincode/stream"

// Connected returns the stream of a chaincode that is ready.
func (s *Support) Connected(cname string) *stream.Stream { return s.registry.connected(cname) }
