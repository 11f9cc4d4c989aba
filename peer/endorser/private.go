package endorser

import (
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"github.com/hyperledger/fabric-protos-go-apiv2/transientstore"
	"google.golang.org/protobuf/proto"
)

// withCollections joins the private part of a simulation with the configs of the
// collections that it uses (ENDORSE-VALIDATE §2.3 item 7). The results have been
// taken already, so reading through the simulator leaves no trace.
func withCollections(sets *rwset.TxPvtReadWriteSet, state Simulator) (*transientstore.TxPvtReadWriteSetWithConfigInfo, error) {
	out := &transientstore.TxPvtReadWriteSetWithConfigInfo{
		PvtRwset:          sets,
		CollectionConfigs: map[string]*peer.CollectionConfigPackage{},
	}
	for _, ns := range sets.NsPvtRwset {
		all, err := collectionsOf(ns.Namespace, state)
		if err != nil {
			return nil, fmt.Errorf("failed to obtain collections config: %w", err)
		}
		out.CollectionConfigs[ns.Namespace] = used(all, ns)
	}
	return out, nil
}

func collectionsOf(chaincode string, state Simulator) (*peer.CollectionConfigPackage, error) {
	key := chaincode + "~collection"
	raw, err := state.GetState(lifecycleChaincode, key)
	if err != nil {
		return nil, err
	}
	if len(raw) == 0 {
		return nil, fmt.Errorf("no collection config for chaincode \"%s\"", chaincode)
	}
	all := &peer.CollectionConfigPackage{}
	if err := proto.Unmarshal(raw, all); err != nil {
		return nil, fmt.Errorf("invalid configuration for collection criteria %s: %w", chaincode, err)
	}
	return all, nil
}

// used leaves only the collections that a namespace's private writes are in.
func used(all *peer.CollectionConfigPackage, ns *rwset.NsPvtReadWriteSet) *peer.CollectionConfigPackage {
	names := map[string]bool{}
	for _, c := range ns.CollectionPvtRwset {
		names[c.CollectionName] = true
	}
	out := &peer.CollectionConfigPackage{}
	for _, c := range all.Config {
		if names[c.GetStaticCollectionConfig().GetName()] {
			out.Config = append(out.Config, c)
		}
	}
	return out
}
