package validation

import (
	"errors"
	"fmt"
	"slices"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/policy"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/peer/validation/vscc"
)

// isSystem tells the names of system chaincodes, including the retired ones and
// the one that is never enabled (ENDORSE-VALIDATE §2.7, CHAINCODE §4.1): to the
// reference they all are system chaincodes at commit.
func isSystem(name string) bool {
	switch name {
	case "lscc", "qscc", "cscc", "+lifecycle", "escc", "vscc":
		return true
	}
	return false
}

// isClosed tells the system chaincodes that cannot be called by proposals at
// all; nobody may invoke them in a transaction.
func isClosed(name string) bool { return name == "escc" || name == "vscc" }

// isUncallable tells the system chaincodes no other chaincode may call, so no
// application chaincode may write their namespaces.
func isUncallable(name string) bool { return name == "cscc" || isClosed(name) }

// anyMember is the policy of system chaincodes.
func anyMember(members []string) []byte {
	ids := slices.Clone(members)
	slices.Sort(ids)
	return protoutil.Marshal(policy.SignedByAnyMember(slices.Compact(ids)))
}

// invocation is what ENDORSE-VALIDATE §6.1 takes out of a transaction.
type invocation struct {
	name, version string
	set           *protoutil.TxRWSet
}

// extract reads the invocation; the code says what is wrong with it.
func (j *blockJudge) extract(tx *protoutil.Tx) (invocation, peer.TxValidationCode, error) {
	var none invocation
	ext, err := tx.Extension()
	if err != nil {
		return none, peer.TxValidationCode_BAD_HEADER_EXTENSION, err
	}
	action, err := tx.Action()
	if err != nil {
		return none, peer.TxValidationCode_BAD_RESPONSE_PAYLOAD, err
	}
	// An empty action decodes; it fails below.
	if r, err := tx.ResponsePayload(); err != nil || r.Extension == nil {
		return none, peer.TxValidationCode_BAD_RESPONSE_PAYLOAD, errors.New("response payload has no chaincode action")
	}
	set, err := tx.RWSet()
	if err != nil {
		return none, peer.TxValidationCode_BAD_RWSET, err
	}
	inv := invocation{name: ext.GetChaincodeId().GetName(), version: action.GetChaincodeId().GetVersion(), set: set}
	if err := consistentNames(ext, action); err != nil {
		return none, peer.TxValidationCode_INVALID_OTHER_REASON, err
	}
	if j.view.Config.Rules.V1_2 && len(action.Events) > 0 {
		if err := ownEvent(action.Events, inv.name); err != nil {
			return none, peer.TxValidationCode_INVALID_OTHER_REASON, err
		}
	}
	if ns, twice := repeated(set); twice {
		return none, peer.TxValidationCode_ILLEGAL_WRITESET, fmt.Errorf("duplicate namespace '%s' in txRWSet", ns)
	}
	return inv, peer.TxValidationCode_VALID, nil
}

func consistentNames(ext *peer.ChaincodeHeaderExtension, action *peer.ChaincodeAction) error {
	switch {
	case ext.ChaincodeId == nil:
		return errors.New("nil ChaincodeId in header extension")
	case action.ChaincodeId == nil:
		return errors.New("nil ChaincodeId in ChaincodeAction")
	case ext.ChaincodeId.Name == "":
		return errors.New("invalid chaincode ID")
	case ext.ChaincodeId.Name != action.ChaincodeId.Name:
		return fmt.Errorf("inconsistent ccid info (%s/%s)", ext.ChaincodeId.Name, action.ChaincodeId.Name)
	case action.ChaincodeId.Version == "":
		return errors.New("invalid chaincode version")
	}
	return nil
}

func ownEvent(raw []byte, name string) error {
	ev := &peer.ChaincodeEvent{}
	if err := proto.Unmarshal(raw, ev); err != nil {
		return fmt.Errorf("invalid chaincode event: %w", err)
	}
	if ev.ChaincodeId != name {
		return errors.New("chaincode event chaincode id does not match chaincode action chaincode id")
	}
	return nil
}

func repeated(set *protoutil.TxRWSet) (string, bool) {
	for i := range set.Namespaces {
		for k := range i {
			if set.Namespaces[k].Namespace == set.Namespaces[i].Namespace {
				return set.Namespaces[i].Namespace, true
			}
		}
	}
	return "", false
}

// writesTo tells whether the namespace counts as written (ENDORSE-VALIDATE §6.2).
func writesTo(ns *protoutil.NsRWSet, r vscc.Rules) bool {
	if len(ns.KV.GetWrites()) > 0 || (r.KeyLevel && len(ns.KV.GetMetadataWrites()) > 0) {
		return true
	}
	if !r.PrivateData {
		return false
	}
	for i := range ns.Collections {
		h := ns.Collections[i].Hashed
		if len(h.GetHashedWrites()) > 0 || (r.KeyLevel && len(h.GetMetadataWrites()) > 0) {
			return true
		}
	}
	return false
}

// dispatch has an endorsed transaction judged by the plugins of the namespaces
// it writes (ENDORSE-VALIDATE §6).
func (j *blockJudge) dispatch(i int, tx *protoutil.Tx) judgement {
	inv, code, err := j.extract(tx)
	if err != nil {
		return invalid(code, err)
	}
	if isSystem(inv.name) {
		if isClosed(inv.name) {
			return invalid(peer.TxValidationCode_ILLEGAL_WRITESET, fmt.Errorf("chaincode %s cannot be invoked", inv.name))
		}
		// Whatever else it writes is not looked at, except by the rules of lscc:
		// a weakness of the reference that is part of consensus (§6.4).
		return j.runPlugin(i, tx, inv.name, j.definitions.system)
	}
	return j.application(i, tx, inv)
}

// application judges a transaction that invokes an application chaincode
// (ENDORSE-VALIDATE §6.3).
func (j *blockJudge) application(i int, tx *protoutil.Tx, inv invocation) judgement {
	rules := j.view.Config.Rules
	written := make([]string, 0, 4)
	if rules.V1_2 {
		written = append(written, inv.name)
	}
	for n := range inv.set.Namespaces {
		ns := &inv.set.Namespaces[n]
		if !writesTo(ns, rules) {
			continue
		}
		if ns.Namespace == "lscc" || isUncallable(ns.Namespace) {
			return invalid(peer.TxValidationCode_ILLEGAL_WRITESET,
				fmt.Errorf("chaincode %s attempted to write to the namespace of %s", inv.name, ns.Namespace))
		}
		if !slices.Contains(written, ns.Namespace) {
			written = append(written, ns.Namespace)
		}
	}
	for _, ns := range written {
		def, err := j.definitions.lookup(ns)
		if err != nil {
			return fatal(i, true, err)
		}
		if def.err != nil {
			return invalid(peer.TxValidationCode_INVALID_OTHER_REASON, def.err)
		}
		if ns == inv.name && def.version != inv.version {
			return invalid(peer.TxValidationCode_EXPIRED_CHAINCODE, fmt.Errorf(
				"chaincode %s:%s/%s didn't match %s:%s/%s in lscc", ns, inv.version, j.cfg.ChannelID, ns, def.version, j.cfg.ChannelID))
		}
		if v := j.runPlugin(i, tx, ns, def); v.code != peer.TxValidationCode_VALID {
			return v
		}
	}
	return judgement{code: peer.TxValidationCode_VALID}
}

func (j *blockJudge) runPlugin(i int, tx *protoutil.Tx, ns string, def definition) judgement {
	plugin, ok := j.plugins[def.plugin]
	if !ok {
		return fatal(i, true, fmt.Errorf("plugin with name %s couldn't be used: plugin with name %s wasn't found", def.plugin, def.plugin))
	}
	err := plugin.Validate(&vscc.Call{Block: j.block, TxNum: i, Tx: tx, Namespace: ns, Policy: def.policy})
	if err == nil {
		return judgement{code: peer.TxValidationCode_VALID}
	}
	var execution *vscc.ExecutionError
	if errors.As(err, &execution) {
		return fatal(i, true, execution)
	}
	return invalid(peer.TxValidationCode_ENDORSEMENT_POLICY_FAILURE, err)
}
