// Package validation judges the transactions of a block before it is committed
// (ENDORSE-VALIDATE §5-§7): syntax, signatures, endorsement policies, duplicate
// ids and upgrade conflicts. The result is one code per transaction; MVCC is the
// ledger's business.
//
// A block goes through in two steps. Scan decodes it and needs neither state nor
// configuration, so it may run while earlier blocks are still being judged or
// committed. Judge needs the state before the block — or a state from which it
// does not differ in anything this block looks at, which Scan.WaitFor tells.
// That is how validation runs ahead of commit (see peer/channel) with the
// verdicts of strictly serial processing.
//
// State owned: the caches of a Validator, one Validator per channel. Goroutines
// live only inside calls of Pool.Run. peer/channel and the composition root
// import it.
package validation

import (
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"

	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/msp"
	"github.com/heddle-ledger/heddle/peer/validation/vscc"
)

// Plugin judges transactions whose chaincode's definition names it
// (ENDORSE-VALIDATE §6.8). Validate returns nil, an *vscc.ExecutionError, which
// stops the channel, or the reason why the transaction is invalid.
type Plugin interface {
	Validate(c *vscc.Call) error
}

// Handlers are the plugins this program has, by the names that
// peer.handlers.validators uses; each entry makes one instance per channel.
func Handlers() map[string]func() Plugin {
	return map[string]func() Plugin{
		"DefaultValidation": func() Plugin { return vscc.Default{} },
	}
}

// DefaultPlugins is the table that applies when the configuration names none.
func DefaultPlugins() map[string]func() Plugin {
	return map[string]func() Plugin{"vscc": Handlers()["DefaultValidation"]}
}

// Config is what a Validator needs for its whole life.
type Config struct {
	ChannelID string
	Pool      *Pool                    // shared by all channels
	Plugins   map[string]func() Plugin // by the vscc name of chaincode definitions; nil: DefaultPlugins
	Log       *flog.Logger             // root logger; nil drops
}

// ChannelConfig is what judging needs of a channel's configuration. It is
// immutable; a changed configuration is a new value.
type ChannelConfig struct {
	Rules vscc.Rules
	// Identities finds the MSPs of a channel by the id a transaction claims.
	Identities func(channelID string) (msp.Deserializer, bool)
	// MSPs are those of this channel.
	MSPs msp.Deserializer
	// Members are the MSP ids of the application organisations.
	Members []string
	// CheckConfig holds a config transaction to IDENTITY-CONFIG §6.5.
	CheckConfig func(*common.ConfigEnvelope) error
}

// RulesOf are the rules that a channel's application capabilities switch on.
func RulesOf(caps chanconfig.ApplicationCapabilities) vscc.Rules {
	return vscc.Rules{
		ForbidDuplicateTxID: caps.ForbidDuplicateTxIDInBlock(),
		PrivateData:         caps.PrivateChannelData(),
		CollectionUpgrade:   caps.CollectionUpgrade(),
		V1_1:                caps.V1_1Validation(),
		V1_2:                caps.V1_2Validation(),
		V1_3:                caps.V1_3Validation(),
		KeyLevel:            caps.KeyLevelEndorsement(),
	}
}

// ConfigOf makes the ChannelConfig of a Bundle. Identities finds the MSPs of
// other channels.
func ConfigOf(b *chanconfig.Bundle, identities func(channelID string) (msp.Deserializer, bool)) *ChannelConfig {
	c := &ChannelConfig{
		Identities: identities,
		MSPs:       b.MSPManager(),
		CheckConfig: func(env *common.ConfigEnvelope) error {
			_, err := b.Next(env)
			return err
		},
	}
	if app, ok := b.Application(); ok {
		c.Rules = RulesOf(app.Capabilities)
		for _, org := range app.Orgs {
			c.Members = append(c.Members, org.MSPID)
		}
	}
	return c
}

// State is the committed state before a block.
type State = vscc.State

// TxIndex knows which transaction ids are in the ledger, whatever their codes.
type TxIndex interface {
	HasTx(id string) (bool, error)
}

// View is what a block is judged against.
type View struct {
	Config *ChannelConfig
	State  State
	Index  TxIndex
	// Pending are the scans of earlier blocks that may not be in Index yet.
	Pending []*Scan
}

// FatalError means that a block could not be judged. It must not be committed
// and processing of its channel ends (ENDORSE-VALIDATE §5 item 2).
type FatalError struct {
	Tx int
	// Execution tells an execution failure of a plugin from everything else.
	Execution bool
	Err       error
}

func (e *FatalError) Error() string { return e.Err.Error() }
func (e *FatalError) Unwrap() error { return e.Err }

// Validator judges the blocks of one channel, one at a time and in order.
type Validator struct {
	cfg     Config
	log     *flog.Logger
	plugins map[string]Plugin

	// What follows belongs to the goroutine that calls Judge; during the call
	// its workers share it.
	config      *ChannelConfig // of the last Judge
	stale       bool           // the last block changed what definitions and policies hold
	policies    *policyCache
	definitions *definitionCache
}

// New makes the validator of a channel.
func New(cfg Config) (*Validator, error) {
	if cfg.Log == nil {
		cfg.Log = flog.Nop()
	}
	if cfg.Pool == nil {
		cfg.Pool = NewPool(0)
	}
	if cfg.Plugins == nil {
		cfg.Plugins = DefaultPlugins()
	}
	v := &Validator{cfg: cfg, log: cfg.Log.Named("committer.txvalidator"), plugins: make(map[string]Plugin, len(cfg.Plugins))}
	for name, make := range cfg.Plugins {
		if make == nil {
			return nil, fmt.Errorf("validation plugin %s has no implementation", name)
		}
		v.plugins[name] = make()
	}
	return v, nil
}

// judgement is what is found out about one transaction.
type judgement struct {
	code   peer.TxValidationCode
	reason error       // why code is not VALID, for the log
	fatal  *FatalError // instead of a code
}

func invalid(code peer.TxValidationCode, reason error) judgement {
	return judgement{code: code, reason: reason}
}

func fatal(tx int, execution bool, err error) judgement {
	return judgement{code: peer.TxValidationCode_NOT_VALIDATED, fatal: &FatalError{Tx: tx, Execution: execution, Err: err}}
}
