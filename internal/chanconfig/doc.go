// Package chanconfig holds the configuration of a channel as a value.
//
// A Bundle is one configuration of one channel: the parsed config tree, its
// MSPs, its policies and its capabilities. It is immutable; a config update
// leads from Bundle n to Bundle n+1 and whoever holds the old one may go on
// using it. The package also knows the rules of that step (IDENTITY-CONFIG §6),
// of the creation of channels (§7), how to compute an update from two
// configurations (§6.6) and how to verify a block against a Bundle
// (ENDORSE-VALIDATE §4.4).
//
// It starts no goroutine and owns no file. Everything is safe for concurrent
// use. Any package from L2 upwards may import it; it imports msp and policy.
package chanconfig
