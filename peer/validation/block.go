package validation

import (
	"context"
	"fmt"
	"time"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"github.com/hyperledger/fabric-protos-go-apiv2/peer"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/chaincode/packaging"
	"github.com/heddle-ledger/heddle/internal/flog"
	"github.com/heddle-ledger/heddle/internal/protoutil"
	"github.com/heddle-ledger/heddle/peer/validation/vscc"
)

// Judge judges the transactions of a scanned block and writes their codes to its
// TRANSACTIONS_FILTER slot. The view must show the state before the block, or
// one that differs from it only in what Scan.WaitFor does not object to.
//
// The error is a *FatalError, or that of ctx.
func (v *Validator) Judge(ctx context.Context, s *Scan, view View) error {
	start := time.Now()
	v.refresh(s, view)
	j := &blockJudge{Validator: v, view: view, scan: s, block: &vscc.Block{
		Number: s.block.Number(), Rules: view.Config.Rules, State: view.State,
		Policies: v.policies, Collections: v.definitions, Deps: s.deps,
	}}
	n := s.block.Len()
	verdicts := make([]judgement, n)
	for i := range verdicts {
		verdicts[i].code = peer.TxValidationCode_NOT_VALIDATED
	}
	err := v.cfg.Pool.Run(ctx, n, 1, func(i int) {
		defer s.deps.Finish(i)
		verdicts[i] = j.judge(i)
	})
	if err != nil {
		return err
	}
	for i := range verdicts {
		if f := verdicts[i].fatal; f != nil {
			return f
		}
	}
	if view.Config.Rules.ForbidDuplicateTxID {
		markDuplicates(s.block, verdicts)
	}
	markUpgradeConflicts(s.block, verdicts)
	if err := v.record(s, verdicts); err != nil {
		return err
	}
	v.log.Infof("[%s] Validated block [%d] in %dms", v.cfg.ChannelID, s.block.Number(), (s.took + time.Since(start)).Milliseconds())
	return nil
}

// refresh drops what is cached of a configuration or of definitions that have
// changed since the last block.
func (v *Validator) refresh(s *Scan, view View) {
	if v.stale || v.config != view.Config {
		v.policies = &policyCache{msps: view.Config.MSPs, log: v.cfg.Log}
		v.definitions = newDefinitionCache(view.Config.Members)
	}
	v.config = view.Config
	v.stale = s.barrier
	v.definitions.state = view.State
}

// record writes the filter slot and logs why transactions are invalid.
func (v *Validator) record(s *Scan, verdicts []judgement) error {
	flags := make([]byte, len(verdicts))
	for i := range verdicts {
		switch code := verdicts[i].code; code {
		case peer.TxValidationCode_NOT_VALIDATED:
			return &FatalError{Tx: i, Err: fmt.Errorf("transaction %d in block %d has skipped validation", i, s.block.Number())}
		case peer.TxValidationCode_VALID:
		default:
			s.reasons[i] = verdicts[i].reason
			v.log.Warningf("[%s] Block [%d] transaction [%d] txId [%s] is invalid: %s: %s",
				v.cfg.ChannelID, s.block.Number(), i, flog.Foreign(s.block.Tx(i).ID()), code, flog.ForeignError(verdicts[i].reason))
		}
		flags[i] = byte(verdicts[i].code)
	}
	s.block.SetFlags(flags)
	return nil
}

// markDuplicates leaves only the first valid transaction of each id
// (ENDORSE-VALIDATE §5 item 3).
func markDuplicates(b *protoutil.Block, verdicts []judgement) {
	seen := make(map[string]struct{}, len(verdicts))
	for i := range verdicts {
		if verdicts[i].code != peer.TxValidationCode_VALID {
			continue
		}
		ch, err := b.Tx(i).ChannelHeader()
		if err != nil || ch.Type != int32(common.HeaderType_ENDORSER_TRANSACTION) {
			continue
		}
		if _, dup := seen[ch.TxId]; dup {
			verdicts[i] = invalid(peer.TxValidationCode_DUPLICATE_TXID, fmt.Errorf("txid %s appears twice in the block", ch.TxId))
			continue
		}
		seen[ch.TxId] = struct{}{}
	}
}

// markUpgradeConflicts applies ENDORSE-VALIDATE §5.2: of several upgrades of a
// chaincode the last one stays, and nobody else may have invoked it in the block.
func markUpgradeConflicts(b *protoutil.Block, verdicts []judgement) {
	targets := map[string]int{} // chaincode -> its last upgrade
	upgrades := map[int]string{}
	for i := range verdicts {
		if verdicts[i].code != peer.TxValidationCode_VALID {
			continue
		}
		if name, ok := upgradeTarget(b.Tx(i)); ok {
			targets[name], upgrades[i] = i, name
		}
	}
	if len(targets) == 0 {
		return
	}
	for i := range verdicts {
		if verdicts[i].code != peer.TxValidationCode_VALID {
			continue
		}
		name, isUpgrade := upgrades[i]
		if !isUpgrade {
			name = invoked(b.Tx(i))
		}
		if last, ok := targets[name]; ok && last != i {
			verdicts[i] = invalid(peer.TxValidationCode_CHAINCODE_VERSION_CONFLICT,
				fmt.Errorf("chaincode %s is upgraded by transaction %d of the block", name, last))
		}
	}
}

// invoked is the chaincode an endorser transaction names in its header, "" for
// everything else.
func invoked(tx *protoutil.Tx) string {
	ch, err := tx.ChannelHeader()
	if err != nil || ch.Type != int32(common.HeaderType_ENDORSER_TRANSACTION) {
		return ""
	}
	ext, err := tx.Extension()
	if err != nil {
		return ""
	}
	return ext.GetChaincodeId().GetName()
}

// upgradeTarget is the chaincode that a transaction of lscc upgrades. A package
// that is no Go chaincode counts as no upgrade, as in the reference.
func upgradeTarget(tx *protoutil.Tx) (string, bool) {
	if invoked(tx) != "lscc" {
		return "", false
	}
	inv, err := vscc.LSCCInvocation(tx)
	if err != nil || inv.Function != "upgrade" || len(inv.Args) < 2 {
		return "", false
	}
	cds := &peer.ChaincodeDeploymentSpec{}
	if err := proto.Unmarshal(inv.Args[1], cds); err != nil {
		return "", false
	}
	if cds.GetChaincodeSpec().GetType() != peer.ChaincodeSpec_GOLANG || packaging.CheckCode(cds) != nil {
		return "", false
	}
	return cds.GetChaincodeSpec().GetChaincodeId().GetName(), true
}
