// Package lint keeps the rules of the house that compilers do not: which
// package may import which (docs/architecture.md), no init functions, nothing
// but commands ending the process. Its test is part of `make test` and `make
// lint`. Nothing imports it.
package lint

import (
	"fmt"
	"slices"
	"strings"
)

const module = "github.com/heddle-ledger/heddle/"

// testLayer is the layer of test support and examples, on which nothing stands.
const testLayer = 7

// layers orders the rooms; a package imports lower layers and its own
// sub-folders only. The longest matching prefix decides.
func layers() map[string]int {
	return map[string]int{
		"protos": 0,

		"internal/flog": 1, "internal/metrics": 1, "internal/run": 1, "internal/vfs": 1,
		"internal/failpoint": 1, "internal/protoutil": 1, "internal/csp": 1, "internal/version": 1,
		"internal/progress": 1,

		"msp": 2, "internal/policy": 2, "internal/chanconfig": 2, "internal/rpc": 2, "internal/ops": 2,
		"internal/config": 2, "internal/txbuild": 2, "internal/cryptogen": 2, "internal/protolator": 2,

		"gossip": 3, "chaincode": 3, "ledger": 3, "internal/deliver": 3, "internal/blockpull": 3,

		"peer": 4, "orderer": 4,
		"peer/node": 5, "orderer/node": 5,
		"cmd": 6,

		"internal/testnet": testLayer, "internal/testpki": testLayer, "internal/golden": testLayer,
		"internal/lint": testLayer, "examples": testLayer, "test": testLayer,
	}
}

// siblings lists imports within one layer that are part of the design.
func siblings() map[string][]string {
	return map[string][]string{
		"internal/policy":     {"msp"},
		"internal/chanconfig": {"msp", "internal/policy", "internal/protolator"},
		"internal/txbuild":    {"msp"},
		"peer":                {"peer"},
		"orderer":             {"orderer"},
		"cmd":                 {"cmd"},
		"internal/metrics":    {"internal/flog"},
		"internal/run":        {"internal/flog"},
		"internal/config":     {},
		"internal/testnet":    {"internal/testpki", "internal/golden"},
	}
}

// libraries lists third-party modules and the only packages that may import
// them.
func libraries() map[string][]string {
	return map[string][]string{
		"github.com/spf13/viper":                  {"internal/config"},
		"github.com/spf13/cobra":                  {"cmd"},
		"github.com/spf13/pflag":                  {"cmd"},
		"gopkg.in/alecthomas/kingpin.v2":          {"cmd"},
		"github.com/schollz/progressbar":          {"internal/progress"},
		"github.com/syndtr/goleveldb":             {"ledger/kv"},
		"github.com/IBM/sarama":                   {"orderer/consensus/kafka"},
		"github.com/fsouza/go-dockerclient":       {"chaincode/runtime/docker"},
		"github.com/hyperledger/fabric-chaincode": {"examples", "chaincode"},
		"github.com/VictoriaMetrics/fastcache":    {"ledger/state/leveldb"},
		"github.com/greatroar/blobloom":           {"ledger/blockfile"},
		"github.com/go-json-experiment/json":      {"ledger/state/couchdb"},
	}
}

// room is the known prefix of a package path within the module, and its layer.
func room(path string) (string, int, bool) {
	known := layers()
	for p := path; p != "."; {
		if l, ok := known[p]; ok {
			return p, l, true
		}
		i := strings.LastIndexByte(p, '/')
		if i < 0 {
			break
		}
		p = p[:i]
	}
	return "", 0, false
}

// check tells what is wrong with package path importing another.
func check(path, imported string) error {
	if !strings.HasPrefix(imported, module) {
		return checkLibrary(path, imported)
	}
	imported = strings.TrimPrefix(imported, module)
	from, fromLayer, ok := room(path)
	if !ok {
		return fmt.Errorf("%s belongs to no room: add it to layers()", path)
	}
	to, toLayer, ok := room(imported)
	if !ok {
		return fmt.Errorf("%s imports %s, which belongs to no room", path, imported)
	}
	if under(path, "peer") && under(imported, "orderer") || under(path, "orderer") && under(imported, "peer") {
		return fmt.Errorf("%s imports %s: the daemons do not know each other", path, imported)
	}
	if under(path, "orderer") && under(imported, "ledger") && !under(imported, "ledger/blockfile") && !under(imported, "ledger/kv") {
		return fmt.Errorf("%s imports %s: the orderer uses the block store alone", path, imported)
	}
	if under(path, "cmd") && (under(imported, "peer") || under(imported, "orderer")) && toLayer != 5 {
		return fmt.Errorf("%s imports %s: commands know only the node packages of the daemons", path, imported)
	}
	switch {
	case from == to, toLayer < fromLayer, slices.Contains(siblings()[from], to):
		return nil
	}
	return fmt.Errorf("%s (layer %d) imports %s (layer %d)", path, fromLayer, imported, toLayer)
}

func checkLibrary(path, imported string) error {
	for lib, allowed := range libraries() {
		if !strings.HasPrefix(imported, lib) {
			continue
		}
		if !slices.ContainsFunc(allowed, func(p string) bool { return under(path, p) }) {
			return fmt.Errorf("%s imports %s, which only %s may", path, imported, strings.Join(allowed, ", "))
		}
	}
	return nil
}

func under(path, dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") }
