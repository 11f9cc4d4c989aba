package support

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/chaincode/runtime"
	"github.com/heddle-ledger/heddle/chaincode/stream"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/metrics"
)

// Defaults and minima of the reference (SURFACE §3.2).
const (
	minStartupTimeout     = 5 * time.Second
	minExecuteTimeout     = time.Second
	defaultExecuteTimeout = 30 * time.Second
)

// Support runs chaincodes for the endorser. It implements the service
// protos.ChaincodeSupport.
type Support struct {
	cfg      Config
	registry *registry
	metrics  *launchMetrics
	streams  stream.Config
}

// TxParams is the transaction an execution belongs to.
type TxParams struct {
	ChannelID, TxID string
	SignedProposal  *peer.SignedProposal
	Proposal        *peer.Proposal
	Simulator       stream.Simulator     // nil: the chaincode has no ledger context
	History         stream.HistoryReader // nil without a simulator
}

// New wires a Support; it starts nothing.
func New(cfg Config) *Support {
	cfg.StartupTimeout = max(cfg.StartupTimeout, minStartupTimeout)
	if cfg.ExecuteTimeout < minExecuteTimeout {
		cfg.ExecuteTimeout = defaultExecuteTimeout
	}
	if cfg.Log == nil {
		cfg.Log = flog.Nop()
	}
	cfg.Log = cfg.Log.Named("chaincode")
	if cfg.Metrics == nil {
		cfg.Metrics = metrics.Disabled()
	}
	cfg.Environment.LogLevel = checkedLevel(cfg, "chaincode.logging.level", cfg.Environment.LogLevel)
	cfg.Environment.ShimLogLevel = checkedLevel(cfg, "chaincode.logging.shim", cfg.Environment.ShimLogLevel)
	s := &Support{cfg: cfg, registry: newRegistry(cfg.DevMode), metrics: newLaunchMetrics(cfg.Metrics)}
	s.streams = stream.Config{
		Host:            host{s},
		KeepAlive:       max(cfg.KeepAlive, 0),
		TotalQueryLimit: cfg.TotalQueryLimit,
		Metrics:         stream.NewMetrics(cfg.Metrics),
		Log:             cfg.Log,
	}
	return s
}

// checkedLevel replaces a log level that chaincodes would not understand.
func checkedLevel(cfg Config, key, level string) string {
	if runtime.ValidLogLevel(level) {
		return level
	}
	fallback := cfg.DefaultLogLevel
	if fallback == "" {
		fallback = "info"
	}
	cfg.Log.Warningf("%s has invalid log level %s. defaulting to %s", key, level, strings.ToUpper(fallback))
	return fallback
}

// Run blocks until ctx ends; then it gives up the launches in progress and
// returns when they are over. Chaincodes that run are left to their runtime.
func (s *Support) Run(ctx context.Context) error {
	<-ctx.Done()
	s.registry.close()
	return nil
}

// Execute runs a transaction on a chaincode, which is launched when it is not
// connected (CHAINCODE §2.4, §2.5). The errors are those that become the
// message of a proposal response with status 500.
func (s *Support) Execute(ctx context.Context, p *TxParams, name, version string, input *peer.ChaincodeInput) (*peer.Response, *peer.ChaincodeEvent, error) {
	if sys, ok := s.cfg.System[name]; ok && sys.Run != nil {
		inv := s.invocation(p, name, input)
		resp := sys.Run(ctx, inv)
		if resp == nil {
			return nil, nil, fmt.Errorf("nil response from transaction %s", p.TxID)
		}
		return resp, own(inv.event, name, p.TxID), nil
	}
	msg, err := s.transact(ctx, p, name, version, input)
	return s.result(p, name, msg, err)
}

// ExecuteInit launches the chaincode of a deployment and runs its Init. An
// answer of any status is accepted (CHAINCODE §7.3).
func (s *Support) ExecuteInit(ctx context.Context, p *TxParams, def *Definition, input *peer.ChaincodeInput) (*peer.Response, *peer.ChaincodeEvent, error) {
	st, err := s.acquire(ctx, def)
	if err != nil {
		return nil, nil, err
	}
	msg, err := s.send(ctx, st, peer.ChaincodeMessage_INIT, p, input)
	return s.result(p, def.Name, msg, err)
}

// IsSystem tells whether name belongs to a system chaincode, enabled or not,
// or is reserved for one (CHAINCODE §4.1).
func (s *Support) IsSystem(name string) bool {
	if name == "escc" || name == "vscc" {
		return true // no chaincodes any more
	}
	_, ok := s.cfg.System[name]
	return ok
}

// InvokableByProposal is false for system chaincodes closed to clients.
func (s *Support) InvokableByProposal(name string) bool {
	sys, ok := s.cfg.System[name]
	return ok && sys.External || !ok && !s.IsSystem(name)
}

// transact sends a TRANSACTION to an application chaincode. Its errors follow
// "failed to execute transaction TXID: " or "execute failed: ".
func (s *Support) transact(ctx context.Context, p *TxParams, name, version string, input *peer.ChaincodeInput) (*peer.ChaincodeMessage, error) {
	cname := name + ":" + version
	st := s.registry.connected(cname)
	if st == nil {
		def, err := s.cfg.Lifecycle.ContainerInfo(name, p.Simulator)
		if err != nil {
			if s.cfg.DevMode {
				s.cfg.Log.Error("You are attempting to perform an action other than Deploy on Chaincode that is not ready and you are in developer mode. Did you forget to Deploy your chaincode?")
			}
			return nil, fmt.Errorf("[channel %s] failed to get chaincode container info for %s: %w", p.ChannelID, cname, err)
		}
		if st, err = s.acquire(ctx, def); err != nil {
			return nil, fmt.Errorf("[channel %s] could not launch chaincode %s: %w", p.ChannelID, cname, err)
		}
	}
	return s.send(ctx, st, peer.ChaincodeMessage_TRANSACTION, p, input)
}

func (s *Support) send(ctx context.Context, st *stream.Stream, typ peer.ChaincodeMessage_Type, p *TxParams, input *peer.ChaincodeInput) (*peer.ChaincodeMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ExecuteTimeout)
	defer cancel()
	msg, err := st.Execute(ctx, &stream.Call{
		Type: typ, ChannelID: p.ChannelID, TxID: p.TxID, Input: input,
		SignedProposal: p.SignedProposal, Proposal: p.Proposal,
		Simulator: p.Simulator, History: p.History,
	})
	if err != nil {
		if stream.IsTimeout(err) {
			s.metrics.executeTimeouts.With("chaincode", st.CName()).Add(1)
		}
		return nil, fmt.Errorf("error sending: %w", err)
	}
	return msg, nil
}

// result turns what the chaincode sent into what the endorser is told.
func (s *Support) result(p *TxParams, name string, msg *peer.ChaincodeMessage, err error) (*peer.Response, *peer.ChaincodeEvent, error) {
	if err != nil {
		return nil, nil, fmt.Errorf("failed to execute transaction %s: %w", p.TxID, err)
	}
	switch msg.Type {
	case peer.ChaincodeMessage_COMPLETED:
		resp := &peer.Response{}
		if err := proto.Unmarshal(msg.Payload, resp); err != nil {
			return nil, nil, fmt.Errorf("failed to unmarshal response for transaction %s: %w", p.TxID, err)
		}
		return resp, own(msg.ChaincodeEvent, name, p.TxID), nil
	case peer.ChaincodeMessage_ERROR:
		return nil, nil, fmt.Errorf("transaction returned with failure: %s", msg.Payload)
	default:
		return nil, nil, fmt.Errorf("unexpected response type %d for transaction %s", msg.Type, p.TxID)
	}
}

// own overwrites what a chaincode may not say about its event.
func own(event *peer.ChaincodeEvent, name, txID string) *peer.ChaincodeEvent {
	if event != nil {
		event.ChaincodeId, event.TxId = name, txID
	}
	return event
}
