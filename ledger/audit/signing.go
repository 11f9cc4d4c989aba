package audit

import (
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"

	"github.com/heddle-ledger/heddle/internal/chanconfig"
	"github.com/heddle-ledger/heddle/internal/protoutil"
)

// signing is the configuration by which blocks are judged, and what has become of
// the signatures so far.
type signing struct {
	bundle *chanconfig.Bundle // nil if no configuration could be loaded
	number uint64             // of the block with the configuration
	known  bool               // no block that may hold another was passed over
}

// unsignedBlock is remembered until it is known whether others are signed.
type unsignedBlock struct{ finding Finding }

// signatures counts what the judging of signatures gave; verifier.mu guards it.
type signatures struct {
	signed, unsigned, unjudged uint64
	first                      []unsignedBlock
}

// configure takes note of the configuration in a block. It is called in the order
// of the blocks, and gives each block the configuration in force before it.
func (v *verifier) configure(j *job) {
	if j.gap {
		v.signing = &signing{bundle: v.signing.bundle, number: v.signing.number}
	}
	if last, ok := v.namedConfig(j); ok && !v.signing.known && last == v.signing.number {
		v.signing = &signing{bundle: v.signing.bundle, number: last, known: true} // none was missed
	}
	j.signing = v.signing
	if !j.isConf {
		return
	}
	next := &signing{number: j.number(), known: true}
	v.signing = next
	_, env, err := chanconfig.ConfigOfBlock(j.block)
	if err != nil {
		v.add(j.finding(Damage, checkConfig, "the configuration does not decode: %v", err))
		return
	}
	before := j.signing
	if before.bundle != nil && before.known {
		if next.bundle, err = before.bundle.Next(env); err == nil {
			return
		}
		f := j.finding(Damage, checkConfig, "the configuration does not follow from the one before it: %v", err)
		f.Consequence = "the block was changed, or an orderer accepted what it should not have"
		f.Remedy = "compare the block with that of other nodes (`peer ledger compare`)"
		if len(j.sigs.GetSignatures()) == 0 {
			f.Severity = Warning // of a test network; that it is not signed is said apart
		}
		v.add(f)
	}
	if next.bundle, err = chanconfig.NewBundle(v.id, env.GetConfig(), chanconfig.Options{}); err != nil {
		next.bundle = nil
		f := j.finding(Warning, checkConfig, "the configuration cannot be loaded: %v", err)
		f.Consequence = "signatures of the blocks after it cannot be judged"
		v.add(f)
	}
}

// namedConfig is the block that a block names as that of the last configuration.
func (v *verifier) namedConfig(j *job) (uint64, bool) {
	if slot(j.block, int(common.BlockMetadataIndex_LAST_CONFIG)) == nil {
		return 0, false
	}
	n, err := protoutil.LastConfigIndex(j.block)
	return n, err == nil
}

// lastConfig checks what the block says of the last configuration, in the slot of
// its own and among what is signed (ENDORSE-VALIDATE §4.2).
func (v *verifier) lastConfig(j *job) {
	n := j.number()
	if n == 0 || !v.signing.known {
		return
	}
	want := v.signing.number // that of the block itself, if it is one
	signed := len(j.sigs.GetSignatures()) > 0
	report := func(format string, args ...any) {
		f := j.finding(Damage, checkConfig, format, args...)
		f.Consequence = "a node that reads its configuration by this block takes the wrong one"
		f.Remedy = remedyCopy
		if !signed {
			f.Severity, f.Remedy = Warning, ""
		}
		v.add(f)
	}
	named, err := protoutil.LastConfigIndex(j.block)
	switch {
	case err != nil:
		report("LAST_CONFIG does not decode: %v", err)
	case named != want:
		report("LAST_CONFIG names block [%d], the last configuration is in block [%d]", named, want)
	}
	if len(j.sigs.GetValue()) == 0 {
		return // of an old orderer
	}
	inner := &common.OrdererBlockMetadata{}
	if err := unmarshal(j.sigs.GetValue(), inner); err != nil {
		report("the signed metadata do not decode: %v", err)
	} else if got := inner.GetLastConfig().GetIndex(); inner.GetLastConfig() != nil && got != want {
		report("the signed metadata name block [%d] as that of the last configuration, which is block [%d]", got, want)
	}
}

// verifySignatures judges the signatures of a block. It may run beside others.
func (v *verifier) verifySignatures(j *job) {
	if j.number() == 0 || j.sigs == nil {
		return // block 0 is signed by nobody
	}
	count := func(f func(s *signatures)) {
		v.mu.Lock()
		defer v.mu.Unlock()
		f(&v.signatures)
	}
	if len(j.sigs.GetSignatures()) == 0 {
		f := j.finding(Damage, checkSignatures, "the block has no signatures, though others of the channel have")
		f.Consequence, f.Remedy = "other nodes refuse the block", remedyCopy
		count(func(s *signatures) {
			s.unsigned++
			if len(s.first) < maxPerKind {
				s.first = append(s.first, unsignedBlock{f})
			}
		})
		return
	}
	if !j.signing.known || j.signing.bundle == nil {
		count(func(s *signatures) { s.unjudged++ })
		return
	}
	count(func(s *signatures) { s.signed++ })
	if err := j.signing.bundle.VerifySignatures(j.block.GetHeader(), j.sigs); err != nil {
		f := j.finding(Damage, checkSignatures, "the signatures do not satisfy the policy for blocks of the configuration in block [%d]: %v", j.signing.number, err)
		f.Consequence = "header or signatures were changed, or nobody who may has signed it; other nodes refuse the block"
		f.Remedy = remedyCopy
		v.add(f)
	}
}

// concludeSignatures tells what became of the signatures of all blocks.
func (v *verifier) concludeSignatures() {
	s := &v.signatures
	switch {
	case s.signed+s.unsigned+s.unjudged == 0:
		v.skip(checkSignatures, "there is no block that anybody signs")
		return
	case s.signed+s.unjudged == 0:
		v.findings.add(Finding{
			Severity: Warning, Kind: checkSignatures,
			Problem:     fmt.Sprintf("no signatures: none of the blocks after the first (%d) is signed", s.unsigned),
			Consequence: "nobody vouches for the blocks; only test networks have such",
		})
		v.skip(checkSignatures, "no block is signed")
		return
	}
	for _, u := range s.first {
		v.findings.add(u.finding)
	}
	if s.signed == 0 {
		v.skip(checkSignatures, fmt.Sprintf("the configuration by which to judge %d signed blocks is not known", s.unjudged))
		return
	}
	detail := fmt.Sprintf("%d blocks", s.signed)
	if s.unjudged > 0 {
		detail += fmt.Sprintf("; %d not judged: the configuration in force is not known", s.unjudged)
	}
	v.conclude(checkSignatures, detail)
}
