// Package stream is the peer's side of the chaincode protocol (CHAINCODE §2,
// §3; SURFACE §8.1): one Stream per connected chaincode.
//
// The core is Machine, a pure state machine: it decides what a message means
// in the present state and keeps the table of live transactions. Stream drives
// it. Two goroutines belong to a stream and end with it: Serve's own, which is
// the only sender, and the receiver. The requests of a transaction are carried
// out by the goroutine that called Execute, so a simulator is never used by two
// goroutines and a request costs no goroutine.
//
// The package owns the transaction contexts and the open query iterators; what
// is shared between streams (registration, launching, chaincode-to-chaincode
// calls) belongs to chaincode/support. Layers above the chaincode room may
// import it for the consumer interfaces.
package stream
