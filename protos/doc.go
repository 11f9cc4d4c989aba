// Package protos is the home of the protocol messages that the canonical module
// lacks. Its sub-folders hold .proto files and generated code only; `make gen`
// writes them anew.
package protos
