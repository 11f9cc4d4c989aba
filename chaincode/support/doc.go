// Package support runs chaincodes for the endorser (CHAINCODE §1–§5): it
// serves the chaincode listener, launches chaincodes on demand, executes
// transactions on them and on the system chaincodes, and carries out the calls
// of one chaincode to another.
//
// It owns the registry of connected chaincodes and of launches in progress. A
// launch has one goroutine, which ends when the chaincode does or when Run
// ends. It may be imported by the layers above the chaincode room; what it
// needs of them (definitions, packages, access, channels) it declares in
// Config.
package support
