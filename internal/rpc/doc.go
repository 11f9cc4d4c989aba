// Package rpc makes the gRPC servers and client connections of both daemons
// and of the command line.
//
// It carries the transport rules of SURFACE §2.2: TLS versions and suites,
// client certificates that are asked for but not required, client roots that
// follow the channels' configuration, message size limits, keepalive, the
// handshake limit, and the interceptors for metrics, logging and throttling in
// this order. A Server owns its listener and the goroutines of the gRPC library
// until Serve returns. Daemons, client commands and the Deliver client import
// the package.
package rpc
