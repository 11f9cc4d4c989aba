// Package node packs Node.js chaincodes (CHAINCODE §6.1). Only
// chaincode/platform and its siblings import it.
package node

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/heddle-ledger/heddle/chaincode/packaging"
)

// Pack packs all files under path except the top node_modules directory.
func Pack(path string) ([]byte, error) {
	return Tree(path, func(rel string) bool { return strings.HasPrefix(rel, "node_modules/") })
}

// Tree packs all files under path, in lexical order, that excluded does not
// take out by their relative name. Paths with ".git" in them never go in, nor
// do hidden files below META-INF.
func Tree(path string, excluded func(rel string) bool) ([]byte, error) {
	a := packaging.NewArchive()
	files := 0
	err := filepath.WalkDir(path, func(file string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(path, file)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if strings.Contains(file, ".git") || excluded(rel) {
			return nil
		}
		if strings.HasPrefix(rel, "META-INF/") {
			if strings.HasPrefix(d.Name(), ".") {
				return nil
			}
			files++
			return a.AddMetadata(rel, file)
		}
		files++
		return a.Add("src/"+rel, file)
	})
	if err != nil {
		return nil, err
	}
	if files == 0 {
		return nil, fmt.Errorf("no source files found in '%s'", path)
	}
	return a.Close()
}
