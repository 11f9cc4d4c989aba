// Package car packs chaincodes of type CAR: the file is the code package
// (CHAINCODE §6.1). Only chaincode/platform imports it.
package car

import "os"

// Pack returns the file.
func Pack(path string) ([]byte, error) { return os.ReadFile(path) }
