// Package profile turns configtx.yaml into channel configurations: genesis
// blocks, channel creation requests and anchor peer updates (IDENTITY-CONFIG
// §8).
//
// It owns no state and starts no goroutine. It reads configtx.yaml and the
// files that it names; the environment is passed in. configtxgen, the orderer
// (provisional bootstrap) and `peer channel create` use it.
package profile
