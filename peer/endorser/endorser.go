// Package endorser is the service protos.Endorser: it checks a proposal,
// simulates it and signs the result (ENDORSE-VALIDATE §2).
//
// State owned: metrics and, in the expiry filter, a bounded cache. It starts no
// goroutine; every call runs on that of its RPC, and a simulator is released
// before the result is signed. peer/node imports it.
package endorser

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"github.com/hyperledger/fabric-protos-go-apiv2/transientstore"

	"github.com/heddle-ledger/heddle/chaincode/packaging"
	"github.com/heddle-ledger/heddle/chaincode/stream"
	"github.com/heddle-ledger/heddle/chaincode/support"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/metrics"
	"github.com/heddle-ledger/heddle/internal/policy"
	"github.com/heddle-ledger/heddle/ledger"
	"github.com/heddle-ledger/heddle/peer/acl"
	"github.com/heddle-ledger/heddle/peer/proposal"
)

// Status thresholds of chaincode responses (ENDORSE-VALIDATE §2.4).
const (
	statusRefused = 400 // from here on there is nothing to endorse
	statusError   = 500
)

// Ledger is what endorsing needs of a channel's ledger; see OnLedger.
type Ledger interface {
	HasTx(txID string) (bool, error)
	Height() uint64
	Simulate(txID string) (Simulator, error)
	// SimulateHeld is Simulate for a transaction whose simulator has Moved. This
	// one does not, for which commits may have to wait.
	SimulateHeld(txID string) (Simulator, error)
	// History reads the history of keys up to the present block, opening the
	// store when first asked. It is called before Simulate, so that no value is
	// newer than the simulation's state.
	History() (h stream.HistoryReader, done func())
}

// Simulator is one simulation.
type Simulator interface {
	stream.Simulator
	Results() (*ledger.SimulationResults, error)
	// Moved tells whether the state was overtaken by commits, so that what was
	// simulated is of no use.
	Moved() bool
	Done()
}

// Access checks the sender; *acl.Checker is one.
type Access interface {
	Check(resource, channelID string, sd policy.SignedData) error
}

// Executor runs chaincodes; *support.Support is one.
type Executor interface {
	Execute(ctx context.Context, p *support.TxParams, name, version string, input *peer.ChaincodeInput) (*peer.Response, *peer.ChaincodeEvent, error)
	ExecuteInit(ctx context.Context, p *support.TxParams, def *support.Definition, input *peer.ChaincodeInput) (*peer.Response, *peer.ChaincodeEvent, error)
	IsSystem(name string) bool
	InvokableByProposal(name string) bool
}

// Lifecycle knows chaincode definitions; *lscc.LSCC is one.
type Lifecycle interface {
	Definition(name string, state interface {
		GetState(ns, key string) ([]byte, error)
	}) (*packaging.ChaincodeData, error)
	CheckInstalled(cd *packaging.ChaincodeData) error
}

// Packages gives installed packages; *packaging.Store is one.
type Packages interface {
	Load(name, version string) (*packaging.Package, error)
}

// PrivateData hands the private part of a simulation to the peers that are to
// have it, and keeps it for the commit, before the public part is endorsed.
type PrivateData interface {
	Distribute(ctx context.Context, channelID, txID string, set *transientstore.TxPvtReadWriteSetWithConfigInfo) error
}

// Config is what an Endorser needs.
type Config struct {
	Identities proposal.Identities
	// Ledger finds the ledger of a joined channel.
	Ledger    func(channelID string) (Ledger, bool)
	Access    Access
	Executor  Executor
	Lifecycle Lifecycle
	Packages  Packages
	Private   PrivateData // nil: private writes are refused

	Filters    []Filter
	Decorators []Decorator
	// Plugins are the endorsement plugins by the names that definitions use.
	Plugins map[string]Plugin
	// SystemVersion is the version of system chaincodes (CHAINCODE §4.1).
	SystemVersion string

	Log     *flog.Logger
	Metrics metrics.Provider
}

// Endorser implements protos.Endorser.
type Endorser struct {
	peer.UnimplementedEndorserServer

	cfg     Config
	log     *flog.Logger
	calls   flog.Hot
	reasons *flog.Logger // the reference names the causes of "access denied" under this logger
	metrics *endorserMetrics
}

// New returns an Endorser.
func New(cfg Config) *Endorser {
	if cfg.Log == nil {
		cfg.Log = flog.Nop()
	}
	if cfg.Metrics == nil {
		cfg.Metrics = metrics.Disabled()
	}
	return &Endorser{
		cfg:     cfg,
		log:     cfg.Log.Named("endorser"),
		calls:   flog.NewHot(cfg.Log.Named("endorser"), (*Endorser).callChaincode),
		reasons: cfg.Log.Named("protoutils"),
		metrics: newMetrics(cfg.Metrics),
	}
}

// request is one proposal on its way.
type request struct {
	view      *proposal.View
	channelID string
	txID      string
	chaincode *peer.ChaincodeID // as in the header extension
	system    bool
	ledger    Ledger // nil without a channel
}

// ProcessProposal endorses a proposal. Refusals before the simulation are gRPC
// errors, later ones are answers (ENDORSE-VALIDATE §2.2, §2.3).
func (e *Endorser) ProcessProposal(ctx context.Context, sp *peer.SignedProposal) (*peer.ProposalResponse, error) {
	view := proposal.Parse(sp)
	for _, filter := range e.cfg.Filters {
		if err := filter(ctx, view); err != nil {
			return nil, err
		}
	}
	start := time.Now()
	e.metrics.received.Add(1)
	r, err := e.admit(view)
	if err != nil {
		return nil, err
	}
	resp, ok := e.process(ctx, r)
	if ok {
		e.metrics.successful.Add(1)
	}
	e.metrics.observe(r, ok, time.Since(start))
	return resp, nil
}

// admit makes the checks of ENDORSE-VALIDATE §2.2 in their order.
func (e *Endorser) admit(view *proposal.View) (*request, error) {
	if err := view.Check(e.cfg.Identities); err != nil {
		e.metrics.invalid.Add(1)
		if denied, ok := errors.AsType[*proposal.AccessDenied](err); ok {
			e.reasons.Warningf("channel [%s]: %s", flog.Foreign(denied.ChannelID), flog.ForeignError(denied.Reason))
		}
		return nil, err
	}
	r := &request{view: view, channelID: view.ChannelID(), txID: view.TxID(), chaincode: view.ChaincodeID()}
	name := r.chaincode.Name
	if !e.cfg.Executor.InvokableByProposal(name) {
		return nil, fmt.Errorf("chaincode %s cannot be invoked through a proposal", name)
	}
	r.system = e.cfg.Executor.IsSystem(name)
	if r.channelID == "" {
		return r, nil
	}
	if err := e.findLedger(r); err != nil {
		return nil, err
	}
	if r.system {
		return r, nil // its functions check for themselves
	}
	if err := e.cfg.Access.Check(acl.Propose, r.channelID, view.SignedData()); err != nil {
		e.metrics.aclFailures.With(e.metrics.labels(r)...).Add(1)
		return nil, err
	}
	return r, nil
}

// findLedger finds the channel's ledger, which must not know the transaction
// yet. Only a transaction that is found refuses the proposal: a ledger that
// cannot be read fails later, where it says why.
func (e *Endorser) findLedger(r *request) error {
	l, ok := e.cfg.Ledger(r.channelID)
	if !ok {
		return nil // answered where the simulator is obtained
	}
	r.ledger = l
	if found, err := l.HasTx(r.txID); err == nil && found {
		e.metrics.duplicates.With(e.metrics.labels(r)...).Add(1)
		return fmt.Errorf("duplicate transaction found [%s]. Creator [%x]", r.txID, r.view.Creator())
	}
	return nil
}

// process simulates an admitted proposal and endorses the result. ok tells
// whether the proposal counts as successful.
func (e *Endorser) process(ctx context.Context, r *request) (resp *peer.ProposalResponse, ok bool) {
	sim, err := e.simulate(ctx, r)
	if err != nil {
		return proposal.Failure(err), false
	}
	status := sim.response.Status
	if status >= statusError {
		e.log.Errorf("[%s][%s] simulateProposal() resulted in chaincode %s response status %d for txid: %s",
			r.channelID, shortTxID(r.txID), r.chaincodeText(), status, r.txID)
		return e.unendorsed(r, sim), false
	}
	if r.channelID == "" {
		return &peer.ProposalResponse{Response: sim.response}, true
	}
	if status >= statusRefused {
		e.metrics.endorsementFailures.With(e.metrics.labels(r, "chaincodeerror", "true")...).Add(1)
		return &peer.ProposalResponse{Response: sim.response}, false
	}
	resp, err = e.endorse(r, sim)
	if err != nil {
		e.metrics.endorsementFailures.With(e.metrics.labels(r, "chaincodeerror", "false")...).Add(1)
		return proposal.Failure(err), false
	}
	return resp, true
}

// unendorsed is the answer for a chaincode's own error: the payload is there,
// but nobody signed it.
func (e *Endorser) unendorsed(r *request, sim *simulation) *peer.ProposalResponse {
	prp, err := e.payload(r, sim, r.chaincode, nil)
	if err != nil {
		return proposal.Failure(err)
	}
	return &peer.ProposalResponse{Response: sim.response, Payload: prp}
}

// endorse has the plugin of the chaincode's definition sign the result
// (ENDORSE-VALIDATE §2.5).
func (e *Endorser) endorse(r *request, sim *simulation) (*peer.ProposalResponse, error) {
	plugin, ok := e.cfg.Plugins[sim.plugin]
	if !ok {
		return nil, fmt.Errorf("plugin with name %s could not be used: plugin with name %s wasn't found", sim.plugin, sim.plugin)
	}
	prp, err := e.payload(r, sim, proposal.WithVersion(r.chaincode, sim.version), sim.event)
	if err != nil {
		return nil, err
	}
	endorsement, prp, err := plugin.Endorse(prp, r.view.Signed())
	if err != nil {
		return nil, fmt.Errorf("endorsing with plugin failed: %w", err)
	}
	return &peer.ProposalResponse{Version: 1, Endorsement: endorsement, Payload: prp, Response: sim.response}, nil
}

func (e *Endorser) payload(r *request, sim *simulation, id *peer.ChaincodeID, event *peer.ChaincodeEvent) ([]byte, error) {
	hash, err := r.view.Hash()
	if err != nil {
		return nil, err
	}
	o := proposal.Outcome{ProposalHash: hash, Response: sim.response, Results: sim.results, Event: event, ChaincodeID: id}
	return o.Payload()
}
