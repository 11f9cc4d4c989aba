// Package vscc holds the rules by which a transaction's endorsements are judged
// at commit: the default validation plugin (ENDORSE-VALIDATE §6.5, §6.6), the
// extra rules for transactions of lscc (CHAINCODE §7.4, §7.5), and the types by
// which peer/validation calls any such plugin.
//
// It owns no state beyond the verdicts of the block being judged (Dependencies)
// and starts no goroutine. Only peer/validation and the composition root import
// it.
package vscc

import (
	"errors"
	"fmt"

	"github.com/heddle-ledger/heddle/internal/policy"
	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// Rules are the application capabilities as far as validation knows them
// (ENDORSE-VALIDATE §6.9).
type Rules struct {
	ForbidDuplicateTxID bool
	PrivateData         bool
	CollectionUpgrade   bool
	V1_1, V1_2, V1_3    bool
	KeyLevel            bool
}

// State is the committed state before the block.
type State interface {
	GetState(ns, key string) ([]byte, error)
	GetStateMetadata(ns, key string) (map[string][]byte, error)
	GetPrivateDataMetadataByHash(ns, coll string, keyHash []byte) (map[string][]byte, error)
}

// Evaluator evaluates marshalled signature policies against the identities of
// the channel.
type Evaluator interface {
	Evaluate(policy []byte, set []policy.SignedData) error
}

// Collections answers which collections a chaincode has in committed state.
type Collections interface {
	// Defines tells whether the chaincode has the collection.
	Defines(chaincode, collection string) (bool, error)
}

// Block is what all calls for one block share.
type Block struct {
	Number      uint64
	Rules       Rules
	State       State
	Policies    Evaluator
	Collections Collections
	Deps        *Dependencies
}

// Call is one transaction to be judged for one namespace.
type Call struct {
	Block     *Block
	TxNum     int
	Tx        *protoutil.Tx
	Namespace string
	Policy    []byte // marshalled SignaturePolicyEnvelope of the namespace's chaincode
}

// ExecutionError is a failure to judge, as opposed to a negative judgement. It
// stops the channel (ENDORSE-VALIDATE §5).
type ExecutionError struct{ Err error }

func (e *ExecutionError) Error() string { return e.Err.Error() }
func (e *ExecutionError) Unwrap() error { return e.Err }

func execution(format string, args ...any) error {
	return &ExecutionError{Err: fmt.Errorf(format, args...)}
}

// Default is the plugin DefaultValidation.
type Default struct{}

// Validate judges the call: nil, an *ExecutionError, or the reason why the
// transaction fails with ENDORSEMENT_POLICY_FAILURE.
func (Default) Validate(c *Call) error {
	err := c.validate()
	if c.Block.Rules.V1_3 {
		c.Block.Deps.Post(c.TxNum, c.Namespace, err == nil)
	}
	return err
}

func (c *Call) validate() error {
	if _, err := c.Tx.ResponsePayload(); err != nil {
		return err
	}
	check := c.checkPolicyOnce
	if c.Block.Rules.V1_3 {
		check = c.checkKeys
	}
	if err := check(); err != nil {
		return err
	}
	if c.Namespace == "lscc" {
		return c.checkLSCC()
	}
	return nil
}

// errDuplicates is the text of a failed policy after duplicates were dropped.
var errDuplicates = errors.New("VSCC error: endorsement policy evaluation failure might be caused by duplicated identities")

// checkPolicyOnce is the rule below V1_3: the policy, once, on endorsements of
// distinct endorsers (ENDORSE-VALIDATE §6.5).
func (c *Call) checkPolicyOnce() error {
	set, dropped, err := distinctSignatureSet(c.Tx)
	if err != nil {
		return err
	}
	if err := c.Block.Policies.Evaluate(c.Policy, set); err != nil {
		if dropped {
			return errDuplicates
		}
		return fmt.Errorf("VSCC error: endorsement policy failure, err: %w", err)
	}
	return nil
}
