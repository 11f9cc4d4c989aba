// Package packaging reads, checks, builds and stores chaincode packages of the
// 1.x lifecycle (CHAINCODE §6): the bare deployment spec (CDS) and the signed
// form around it.
//
// Packages are immutable values. Store owns the directory of installed files;
// it keeps no state in memory and starts no goroutine. Layers above the
// chaincode room and the command line may import it.
package packaging
