// Package java packs Java chaincodes (CHAINCODE §6.1). Only chaincode/platform
// imports it.
package java

import (
	"strings"

	"github.com/heddle-ledger/heddle/chaincode/platform/node"
)

// Pack packs all files under path except what a build has made.
func Pack(path string) ([]byte, error) {
	return node.Tree(path, func(rel string) bool {
		for _, dir := range []string{"target/", "build/", "out/"} {
			if strings.HasPrefix(rel, dir) {
				return true
			}
		}
		return strings.HasSuffix(rel, ".class")
	})
}
