package vscc

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"

	"github.com/hyperledger/fabric-protos-go-apiv2/ledger/rwset/kvrwset"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/chaincode/packaging"
	"github.com/heddle-ledger/heddle/internal/policy"
	"github.com/heddle-ledger/heddle/internal/protoutil"
)

var (
	chaincodeName    = regexp.MustCompile(`^[a-zA-Z0-9]+([-_][a-zA-Z0-9]+)*$`)
	chaincodeVersion = regexp.MustCompile(`^[A-Za-z0-9_.+-]+$`)
)

// reserved are the names no application chaincode may have.
func reserved(name string) bool {
	switch name {
	case "cscc", "escc", "lscc", "qscc", "vscc":
		return true
	}
	return false
}

const (
	deploy  = "deploy"
	upgrade = "upgrade"
)

// Invocation is the decoded call of lscc that a transaction carries.
type Invocation struct {
	Function string
	Args     [][]byte // without the function
}

// LSCCInvocation decodes function and arguments from the transaction's proposal
// payload.
func LSCCInvocation(tx *protoutil.Tx) (*Invocation, error) {
	ap, err := tx.ActionPayload()
	if err != nil {
		return nil, err
	}
	cpp := &peer.ChaincodeProposalPayload{}
	if err := proto.Unmarshal(ap.ChaincodeProposalPayload, cpp); err != nil {
		return nil, fmt.Errorf("error unmarshaling ChaincodeProposalPayload: %w", err)
	}
	cis := &peer.ChaincodeInvocationSpec{}
	if err := proto.Unmarshal(cpp.Input, cis); err != nil {
		return nil, fmt.Errorf("error unmarshaling ChaincodeInvocationSpec: %w", err)
	}
	args := cis.GetChaincodeSpec().GetInput().GetArgs()
	if len(args) == 0 {
		return nil, errors.New("malformed chaincode invocation spec")
	}
	return &Invocation{Function: string(args[0]), Args: args[1:]}, nil
}

// lsccCheck is what is known of a deploy or upgrade while it is checked
// (CHAINCODE §7.4).
type lsccCheck struct {
	*Call
	inv    *Invocation
	spec   *peer.ChaincodeID
	writes []*kvrwset.KVWrite // of namespace lscc, at least one
	data   *packaging.ChaincodeData
}

// checkLSCC holds a transaction of lscc to the rules of CHAINCODE §7.4.
func (c *Call) checkLSCC() error {
	inv, err := LSCCInvocation(c.Tx)
	if err != nil {
		return err
	}
	if inv.Function != deploy && inv.Function != upgrade {
		return fmt.Errorf("VSCC error: committing an invocation of function %s of lscc is invalid", inv.Function)
	}
	lc := &lsccCheck{Call: c, inv: inv}
	for _, step := range []func() error{lc.arguments, lc.deploymentSpec, lc.writeSet} {
		if err := step(); err != nil {
			return err
		}
	}
	if inv.Function == deploy {
		return lc.deploy()
	}
	return lc.upgrade()
}

func (lc *lsccCheck) arguments() error {
	highest := 5
	if lc.Block.Rules.PrivateData {
		highest = 6
	}
	switch n := len(lc.inv.Args); {
	case n < 2:
		return fmt.Errorf("Wrong number of arguments for invocation lscc(%s): expected at least 2, received %d", lc.inv.Function, n)
	case n > highest:
		return fmt.Errorf("Wrong number of arguments for invocation lscc(%s): expected between 2 and %d, received %d", lc.inv.Function, highest, n)
	}
	return nil
}

func (lc *lsccCheck) deploymentSpec() error {
	cds := &peer.ChaincodeDeploymentSpec{}
	err := proto.Unmarshal(lc.inv.Args[1], cds)
	if err == nil {
		err = packaging.CheckCode(cds)
	}
	if err != nil {
		return fmt.Errorf("GetChaincodeDeploymentSpec error %w", err)
	}
	lc.spec = cds.GetChaincodeSpec().GetChaincodeId()
	ap, err := lc.Tx.ActionPayload()
	if err != nil || lc.spec == nil || ap.GetAction().GetProposalResponsePayload() == nil {
		return fmt.Errorf("VSCC error: invocation of lscc(%s) does not have appropriate arguments", lc.inv.Function)
	}
	if !chaincodeName.MatchString(lc.spec.Name) {
		return fmt.Errorf("invalid chaincode name '%s'", lc.spec.Name)
	}
	if reserved(lc.spec.Name) {
		return fmt.Errorf("chaincode name '%s' is reserved for system chaincodes", lc.spec.Name)
	}
	if !chaincodeVersion.MatchString(lc.spec.Version) {
		return fmt.Errorf("invalid chaincode version '%s'", lc.spec.Version)
	}
	return nil
}

func (lc *lsccCheck) writeSet() error {
	set, err := lc.Tx.RWSet()
	if err != nil {
		return err
	}
	var own *protoutil.NsRWSet
	for i := range set.Namespaces {
		if set.Namespaces[i].Namespace == "lscc" {
			own = &set.Namespaces[i]
		}
	}
	if own == nil {
		return errors.New("No read write set for lscc was found")
	}
	lc.writes = own.KV.GetWrites()
	if len(lc.writes) == 0 {
		return errors.New("LSCC must issue at least one single putState upon deploy/upgrade")
	}
	if k := lc.writes[0].GetKey(); k != lc.spec.Name {
		return fmt.Errorf("expected key %s, found %s", lc.spec.Name, k)
	}
	if lc.data, err = packaging.ParseChaincodeData(lc.writes[0].GetValue()); err != nil {
		return fmt.Errorf("unmarshalling of ChaincodeData failed, error %w", err)
	}
	if lc.data.Name != lc.spec.Name {
		return fmt.Errorf("expected cc name %s, found %s", lc.spec.Name, lc.data.Name)
	}
	if lc.data.Version != lc.spec.Version {
		return fmt.Errorf("expected cc version %s, found %s", lc.spec.Version, lc.data.Version)
	}
	for i := range set.Namespaces {
		ns := &set.Namespaces[i]
		if ns.Namespace != "lscc" && ns.Namespace != lc.data.Name && len(ns.KV.GetWrites()) > 0 {
			return fmt.Errorf("LSCC invocation is attempting to write to namespace %s", ns.Namespace)
		}
	}
	return nil
}

func (lc *lsccCheck) deploy() error {
	old, err := lc.onLedger()
	if err != nil {
		return err
	}
	if old != nil {
		return fmt.Errorf("Chaincode %s is already instantiated", lc.data.Name)
	}
	if lc.Block.Rules.PrivateData {
		err = lc.collections()
	} else {
		err = lc.singleWrite()
	}
	if err != nil {
		return err
	}
	return lc.instantiationPolicy(lc.data.InstantiationPolicy)
}

func (lc *lsccCheck) upgrade() error {
	old, err := lc.onLedger()
	if err != nil {
		return err
	}
	if old == nil {
		return fmt.Errorf("Upgrading non-existent chaincode %s", lc.data.Name)
	}
	if old.Version == lc.data.Version {
		return fmt.Errorf("Existing version of the cc on the ledger (%s) should be different from the upgraded one", lc.data.Version)
	}
	if lc.Block.Rules.CollectionUpgrade {
		err = lc.collections()
	} else {
		err = lc.singleWrite()
	}
	if err != nil {
		return err
	}
	if err := lc.instantiationPolicy(old.InstantiationPolicy); err != nil {
		return err
	}
	if !lc.Block.Rules.V1_1 {
		return nil
	}
	if lc.data.InstantiationPolicy != nil && bytes.Equal(lc.data.InstantiationPolicy, old.InstantiationPolicy) {
		return nil
	}
	return lc.instantiationPolicy(lc.data.InstantiationPolicy)
}

// onLedger is the chaincode's definition in committed state, nil if there is
// none.
func (lc *lsccCheck) onLedger() (*packaging.ChaincodeData, error) {
	raw, err := lc.Block.State.GetState("lscc", lc.data.Name)
	if err != nil {
		return nil, execution("could not retrieve state for chaincode %s, error %w", lc.data.Name, err)
	}
	if len(raw) == 0 {
		return nil, nil
	}
	old, err := packaging.ParseChaincodeData(raw)
	if err != nil {
		return nil, fmt.Errorf("unmarshalling ChaincodeData failed, error %w", err)
	}
	return old, nil
}

func (lc *lsccCheck) singleWrite() error {
	if len(lc.writes) != 1 {
		return fmt.Errorf("LSCC can only issue a single putState upon %s", lc.inv.Function)
	}
	return nil
}

// instantiationPolicy wants the transaction's creator to satisfy the policy.
func (lc *lsccCheck) instantiationPolicy(pol []byte) error {
	if len(pol) == 0 {
		return errors.New("no instantiation policy was specified")
	}
	env, err := lc.Tx.Envelope()
	if err != nil {
		return err
	}
	sh, err := lc.Tx.SignatureHeader()
	if err != nil {
		return err
	}
	set := []policy.SignedData{{Data: env.Payload, Identity: sh.Creator, Signature: env.Signature}}
	if err := lc.Block.Policies.Evaluate(pol, set); err != nil {
		return fmt.Errorf("chaincode instantiation policy violated, error %w", err)
	}
	return nil
}
