package node

import (
	"github.com/hyperledger/fabric-protos-go-apiv2/common"

	"github.com/heddle-ledger/heddle/chaincode/support"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/peer/channel"
)

// newLifecycle is a preview of the reference that nobody can enable here: only
// its name is taken (CHAINCODE §4.1).
const newLifecycle = "+lifecycle"

// systemPath is where the reference has a system chaincode; log lines show it.
func systemPath(name string) string {
	const core = "github.com/hyperledger/fabric/core/"
	if name == newLifecycle {
		return core + "chaincode/lifecycle"
	}
	return core + "scc/" + name
}

// systemNames are the system chaincodes that the reference reports, in its
// order.
func systemNames() []string { return []string{"lscc", "cscc", "qscc", newLifecycle} }

// reportRegistered writes the lines of the start that tell which system
// chaincodes there are.
func (n *Node) reportRegistered(table map[string]support.System) {
	log := n.cfg.Logging.Logger("sccapi")
	for _, name := range systemNames() {
		if table[name].Run == nil {
			log.Infof("system chaincode (%s,%s,true) disabled", name, systemPath(name))
			continue
		}
		n.deployed = append(n.deployed, name)
		log.Infof("system chaincode %s(%s) registered", name, systemPath(name))
	}
}

// reportDeployed writes the lines that scripts wait for when a channel has been
// opened; "" is the peer itself.
func (n *Node) reportDeployed(channelID string) {
	log := n.cfg.Logging.Logger("sccapi")
	for _, name := range n.deployed {
		log.Infof("system chaincode %s/%s(%s) deployed", name, channelID, systemPath(name))
	}
}

// joining are the channels as cscc uses them.
type joining struct {
	*channel.Registry
	n *Node
}

// Join creates a channel and tells that its system chaincodes answer.
func (j joining) Join(genesis *common.Block) error {
	if err := j.Registry.Join(genesis); err != nil {
		return err
	}
	if id, err := protoutil.ChannelIDOfBlock(genesis); err == nil {
		j.n.reportDeployed(id)
	}
	return nil
}
