package endorser

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/chaincode/packaging"
	"github.com/heddle-ledger/heddle/chaincode/stream"
	"github.com/heddle-ledger/heddle/chaincode/support"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/protoutil"
)

const (
	lifecycleChaincode = "lscc"
	defaultPlugin      = "escc"
)

// simulation is what a chaincode did and said.
type simulation struct {
	response *peer.Response // never nil
	event    *peer.ChaincodeEvent
	results  []byte // marshalled TxReadWriteSet, nil without a simulator
	version  string // of the chaincode that ran
	plugin   string // name of the endorsement plugin
}

// simulate runs the chaincode of a proposal (ENDORSE-VALIDATE §2.3). The
// simulator is released when it returns.
func (e *Endorser) simulate(ctx context.Context, r *request) (*simulation, error) {
	p := &support.TxParams{ChannelID: r.channelID, TxID: r.txID, SignedProposal: r.view.Signed()}
	p.Proposal, _ = r.view.Proposal() // was decoded by the checks
	if !r.needsSimulator() {
		out := &simulation{}
		if err := e.run(ctx, r, p, out); err != nil {
			return nil, e.reported(r, err)
		}
		return out, nil
	}
	if r.ledger == nil {
		return nil, fmt.Errorf("Channel does not exist: %s", r.channelID)
	}
	out, err := e.simulateOn(ctx, r, p, r.ledger.Simulate)
	if errors.Is(err, errMoved) {
		// Some state databases have no snapshots that last. In the reference commits
		// wait for simulations from the beginning, so the client must not notice.
		e.log.Debugf("[%s][%s] simulated again: %s", r.channelID, shortTxID(r.txID), err)
		out, err = e.simulateOn(ctx, r, p, r.ledger.SimulateHeld)
	}
	if err != nil {
		return nil, e.reported(r, err)
	}
	return out, nil
}

// errMoved ends a simulation whose state was overtaken by commits.
var errMoved = errors.New("the state was overtaken by commits while the transaction was simulated")

// simulateOn is one attempt to simulate.
func (e *Endorser) simulateOn(ctx context.Context, r *request, p *support.TxParams, open func(txID string) (Simulator, error)) (*simulation, error) {
	history, done := r.ledger.History()
	defer done()
	sim, err := open(r.txID)
	if err != nil {
		return nil, err
	}
	defer sim.Done()
	p.Simulator, p.History = sim, history
	out := &simulation{}
	err = moved(ctx, sim, e.run(ctx, r, p, out))
	if err != nil {
		return nil, err
	}
	return out, e.collect(ctx, r, sim, out)
}

// moved is errMoved if a simulation is to be made again, whatever the chaincode
// has made of what it could not read; else the error given. One that did not come
// to an end in time is not made again: the chaincode may still be at it.
func moved(ctx context.Context, sim Simulator, err error) error {
	switch {
	case !sim.Moved(), stream.IsTimeout(err):
		return err
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return errMoved
}

// callError is an error of calling a chaincode, which is logged.
type callError struct{ error }

func (e callError) Unwrap() error { return e.error }

// reported logs an error of calling a chaincode that is the answer.
func (e *Endorser) reported(r *request, err error) error {
	call, ok := errors.AsType[callError](err)
	if !ok {
		return err
	}
	e.log.Errorf("[%s][%s] failed to invoke chaincode %s, error: %s", r.channelID, shortTxID(r.txID), r.chaincodeText(), flog.ForeignError(call.error))
	if init, ok := errors.AsType[initError](err); ok {
		e.metrics.initFailures.With("channel", r.channelID, "chaincode", init.chaincode).Add(1)
	}
	return call.error
}

// initError is that the Init of a deployment failed.
type initError struct {
	error
	chaincode string
}

func (e initError) Unwrap() error { return e.error }

// needsSimulator is false for calls without a channel and for the system
// chaincodes that answer from outside the state.
func (r *request) needsSimulator() bool {
	return r.channelID != "" && r.chaincode.Name != "qscc" && r.chaincode.Name != "cscc"
}

// run finds the definition and calls the chaincode.
func (e *Endorser) run(ctx context.Context, r *request, p *support.TxParams, out *simulation) error {
	sent, err := r.view.Input()
	if err != nil {
		return err
	}
	if err := e.define(r, p, out); err != nil {
		return err
	}
	// What the client sent as decorations is not passed on.
	input := &peer.ChaincodeInput{Args: sent.Args, IsInit: sent.IsInit}
	for _, decorate := range e.cfg.Decorators {
		input = decorate(p.Proposal, input)
	}
	if err := e.callChaincode(ctx, r, p, input, out); err != nil {
		return callError{err}
	}
	return nil
}

// define finds version and endorsement plugin of the chaincode.
func (e *Endorser) define(r *request, p *support.TxParams, out *simulation) error {
	if r.system {
		out.version, out.plugin = e.cfg.SystemVersion, defaultPlugin
		return nil
	}
	cd, err := e.definition(r.chaincode.Name, p)
	if err != nil {
		return fmt.Errorf("make sure the chaincode %s has been successfully instantiated and try again: %w", r.chaincode.Name, err)
	}
	out.version, out.plugin = cd.Version, cd.Escc
	return e.cfg.Lifecycle.CheckInstalled(cd)
}

func (e *Endorser) definition(name string, p *support.TxParams) (*packaging.ChaincodeData, error) {
	if p.Simulator == nil {
		return nil, fmt.Errorf("could not get definition for chaincode %s without a ledger context\n", name)
	}
	return e.cfg.Lifecycle.Definition(name, p.Simulator)
}

// callChaincode executes the chaincode and, after a deployment, the Init of the deployed
// one.
func (e *Endorser) callChaincode(ctx context.Context, r *request, p *support.TxParams, input *peer.ChaincodeInput, out *simulation) error {
	start := time.Now()
	e.calls.Infof("[%s][%s] Entry chaincode: %s", r.channelID, shortTxID(r.txID), r)
	defer func() {
		e.calls.Infof("[%s][%s] Exit chaincode: %s (%dms)", r.channelID, shortTxID(r.txID), r, time.Since(start).Milliseconds())
	}()
	var err error
	out.response, out.event, err = e.cfg.Executor.Execute(ctx, p, r.chaincode.Name, out.version, input)
	switch {
	case err != nil:
		return err
	case out.response == nil:
		return fmt.Errorf("nil response from transaction %s", r.txID)
	case out.response.Status >= statusRefused:
		out.event = nil
		return nil
	}
	if isDeployment(r.chaincode.Name, input) {
		return e.initialize(ctx, r, p, input.Args[2])
	}
	return nil
}

func isDeployment(chaincode string, input *peer.ChaincodeInput) bool {
	if chaincode != lifecycleChaincode || len(input.Args) < 3 {
		return false
	}
	f := string(input.Args[0])
	return f == "deploy" || f == "upgrade"
}

// initialize runs the Init of the installed chaincode that a deployment names,
// with the input of the deployment spec in the argument. What Init answers is of
// no consequence unless it fails.
func (e *Endorser) initialize(ctx context.Context, r *request, p *support.TxParams, spec []byte) error {
	cds := &peer.ChaincodeDeploymentSpec{}
	if err := proto.Unmarshal(spec, cds); err != nil {
		return fmt.Errorf("error unmarshaling ChaincodeDeploymentSpec: %w", err)
	}
	id := cds.GetChaincodeSpec().GetChaincodeId()
	if id == nil {
		return errors.New("invalid deployment spec: no chaincode id")
	}
	if err := packaging.CheckCode(cds); err != nil {
		return err
	}
	pkg, err := e.cfg.Packages.Load(id.Name, id.Version)
	if err != nil {
		return fmt.Errorf("cannot deploy a chaincode which is not installed: could not get chaincode from fs: %w", err)
	}
	if e.cfg.Executor.IsSystem(id.Name) {
		return fmt.Errorf("attempting to deploy a system chaincode %s/%s", id.Name, r.channelID)
	}
	def := &support.Definition{Name: pkg.Name(), Version: pkg.Version(), Path: pkg.Path(), Type: pkg.Type()}
	input := cds.ChaincodeSpec.Input
	if input == nil {
		input = &peer.ChaincodeInput{}
	}
	if _, _, err := e.cfg.Executor.ExecuteInit(ctx, p, def, input); err != nil {
		return initError{err, def.CName()}
	}
	return nil
}

// collect takes the read-write set and hands on its private part.
func (e *Endorser) collect(ctx context.Context, r *request, sim Simulator, out *simulation) error {
	results, err := sim.Results()
	if err != nil {
		return err
	}
	out.results = results.Public
	if results.Private == nil {
		return nil
	}
	if r.chaincode.Name == lifecycleChaincode {
		return errors.New("Private data is forbidden to be used in instantiate")
	}
	set, err := withCollections(results.Private, sim)
	if err = moved(ctx, sim, err); err != nil {
		return err
	}
	if e.cfg.Private == nil {
		return errors.New("this peer does not handle private data")
	}
	// Other peers are not to be waited for with the state held.
	sim.Done()
	set.EndorsedAt = r.ledger.Height()
	return e.cfg.Private.Distribute(ctx, r.channelID, r.txID, set)
}

// String is the chaincode for the log lines that operators know. It is on
// request so that no text is made when the level is off.
func (r *request) String() string { return r.chaincodeText() }

func (r *request) chaincodeText() string { return protoutil.Text(r.chaincode) }

func shortTxID(id string) string { return id[:min(len(id), 8)] }
