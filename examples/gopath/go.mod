// This file keeps the tree out of the module around it. It is no part of the
// chaincode: below a GOPATH only src/example.com/asset is packed.
module example.com/gopath

go 1.20
