package lscc

import (
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/chaincode/packaging"
	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/policy"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/peer/proposal"
)

// Positions of the arguments of deploy and upgrade.
const (
	argChannel = iota + 1
	argSpec
	argPolicy
	argEscc
	argVscc
	argCollections
	maxArgs
)

// deployment is a deploy or upgrade call with its arguments.
type deployment struct {
	*call
	bundle      *chanconfig.Bundle
	app         *chanconfig.ApplicationGroup
	pkg         *packaging.Package
	record      *packaging.ChaincodeData // the new record
	collections []byte
}

// deployOrUpgrade writes the record of a chaincode (CHAINCODE §7.3). The
// endorser then runs the chaincode's Init in the same simulation.
func (l *LSCC) deployOrUpgrade(c *call) ([]byte, error) {
	d, err := l.parseDeployment(c)
	if err != nil {
		return nil, err
	}
	if c.function == "deploy" {
		err = l.deploy(d)
	} else {
		err = l.upgrade(d)
	}
	if err != nil {
		return nil, err
	}
	return d.record.Marshal(), nil
}

// parseDeployment makes the checks 1 to 5 and fills the new record except for
// its instantiation policy.
func (l *LSCC) parseDeployment(c *call) (*deployment, error) {
	if len(c.Args) < 3 {
		return nil, c.badCount()
	}
	d := &deployment{call: c}
	if err := l.findChannel(d); err != nil {
		return nil, err
	}
	if !d.app.Capabilities.PrivateChannelData() && len(c.Args) > argCollections {
		return nil, errors.New("as V1_2 or later capability is not enabled, private channel collections and data are not available")
	}
	if len(c.Args) > maxArgs {
		return nil, c.badCount()
	}
	cds := &peer.ChaincodeDeploymentSpec{}
	if err := proto.Unmarshal(c.Args[argSpec], cds); err != nil {
		return nil, fmt.Errorf("error unmarshaling ChaincodeDeploymentSpec: %w", err)
	}
	id := cds.GetChaincodeSpec().GetChaincodeId()
	if id == nil {
		return nil, errNoSpec
	}
	if err := checkNames(id.Name, id.Version); err != nil {
		return nil, err
	}
	var err error
	if d.pkg, err = l.cfg.Packages.Load(id.Name, id.Version); err != nil {
		return nil, fmt.Errorf("cannot get package for chaincode (%s:%s)", id.Name, id.Version)
	}
	d.record = d.newRecord(id)
	if len(c.Args) > argCollections {
		d.collections = c.Args[argCollections]
	}
	return d, nil
}

// findChannel finds the config of the channel argument. The reference takes the
// config from there and the state from the proposal's channel, whatever the two
// are; a deployment across channels is refused here.
func (l *LSCC) findChannel(d *deployment) error {
	id := d.arg(argChannel)
	if id == "" {
		return errors.New("invalid channel name: ")
	}
	if d.ChannelID != "" && d.ChannelID != id {
		return fmt.Errorf("channel name mismatch: argument %s, proposal %s", id, d.ChannelID)
	}
	bundle, ok := l.cfg.Channels(id)
	if !ok {
		return fmt.Errorf("channel %s does not exist on this peer", id)
	}
	app, ok := bundle.Application()
	if !ok {
		return fmt.Errorf("channel %s has no application config", id)
	}
	d.bundle, d.app = bundle, app
	return nil
}

// newRecord is the record of the package with the arguments' policy and plugin
// names. The policy is stored as given.
func (d *deployment) newRecord(id *peer.ChaincodeID) *packaging.ChaincodeData {
	r := &packaging.ChaincodeData{
		Name: id.Name, Version: id.Version, Data: d.pkg.Data(), ID: d.pkg.ID(),
		Policy: d.optional(argPolicy), Escc: string(d.optional(argEscc)), Vscc: string(d.optional(argVscc)),
	}
	if len(r.Policy) == 0 {
		r.Policy = protoutil.Marshal(policy.SignedByAnyMember(d.orgs()))
	}
	if r.Escc == "" {
		r.Escc = "escc"
	}
	if r.Vscc == "" {
		r.Vscc = "vscc"
	}
	return r
}

func (d *deployment) optional(i int) []byte {
	if i >= len(d.Args) {
		return nil
	}
	return d.Args[i]
}

// orgs are the MSP ids of the channel's application organisations, sorted.
func (d *deployment) orgs() []string {
	ids := make([]string, 0, len(d.app.Orgs))
	for _, org := range d.app.Orgs {
		ids = append(ids, org.MSPID)
	}
	slices.Sort(ids)
	return ids
}

func (l *LSCC) deploy(d *deployment) error {
	raw, err := d.GetState(d.record.Name)
	if err != nil {
		return fmt.Errorf("transaction not found: %w", err)
	}
	if len(raw) > 0 {
		return fmt.Errorf("chaincode with name '%s' already exists", d.record.Name)
	}
	if err := d.newInstantiationPolicy(l); err != nil {
		return err
	}
	if err := d.put(); err != nil {
		return err
	}
	return l.putCollections(d)
}

func (l *LSCC) upgrade(d *deployment) error {
	name := d.record.Name
	raw, err := stored(d.call, name)
	if err != nil {
		return err
	}
	old, err := parseStored(name, raw)
	if err != nil {
		return err
	}
	if old.Version == d.record.Version {
		return fmt.Errorf("version already exists for chaincode with name '%s'", name)
	}
	if len(old.InstantiationPolicy) == 0 {
		return errors.New("instantiation policy missing")
	}
	if err := d.checkCaller(l, old.InstantiationPolicy); err != nil {
		return err
	}
	if err := d.newInstantiationPolicy(l); err != nil {
		return err
	}
	if err := d.put(); err != nil {
		return err
	}
	if d.app.Capabilities.CollectionUpgrade() {
		if err := l.putCollections(d); err != nil {
			return err
		}
	} else if len(d.Args) > argCollections {
		return errors.New("as V1_2 capability is not enabled, collection upgrades are not allowed")
	}
	d.SetEvent("upgrade", protoutil.Marshal(&peer.LifecycleEvent{ChaincodeName: name}))
	return nil
}

// newInstantiationPolicy sets the policy of the package, or else any
// administrator of the channel's organisations, which the caller must satisfy.
func (d *deployment) newInstantiationPolicy(l *LSCC) error {
	p := d.pkg.InstantiationPolicy()
	if p == nil {
		p = protoutil.Marshal(policy.SignedByAnyAdmin(d.orgs()))
	}
	d.record.InstantiationPolicy = p
	return d.checkCaller(l, p)
}

// checkCaller evaluates an instantiation policy on the proposal.
func (d *deployment) checkCaller(l *LSCC, raw []byte) error {
	env := &common.SignaturePolicyEnvelope{}
	if err := proto.Unmarshal(raw, env); err != nil {
		return fmt.Errorf("error unmarshaling instantiation policy: %w", err)
	}
	p, err := policy.NewSignaturePolicy(env, d.bundle.MSPManager(), l.log)
	if err != nil {
		return err
	}
	v := proposal.Parse(d.SignedProposal)
	if _, err := v.SignatureHeader(); err != nil {
		return err
	}
	if err := p.Evaluate([]policy.SignedData{v.SignedData()}); err != nil {
		return fmt.Errorf("instantiation policy violation: %w", err)
	}
	return nil
}

// put stores the record. Plugin names are strings on the ledger, so they must be
// UTF-8.
func (d *deployment) put() error {
	if !utf8.ValidString(d.record.Escc) || !utf8.ValidString(d.record.Vscc) {
		return fmt.Errorf("error while marshalling: %s", d.record.Name)
	}
	return d.PutState(d.record.Name, d.record.Marshal())
}
