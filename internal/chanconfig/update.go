package chanconfig

import (
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"

	"github.com/heddle-ledger/heddle/internal/policy"
)

// ordererCapabilities is the element whose presence switches on the repair of
// empty mod_policies.
const ordererCapabilities = valuePrefix + "/Channel/Orderer/Capabilities"

// ProposeUpdate applies a CONFIG_UPDATE envelope to the configuration, if the
// update's signatures authorise it, and returns the next configuration
// (IDENTITY-CONFIG §6.3). The result is not yet checked by the rules of §5:
// see Next.
func (b *Bundle) ProposeUpdate(env *common.Envelope) (*common.ConfigEnvelope, error) {
	update, err := updateOfEnvelope(env)
	if err != nil {
		return nil, fmt.Errorf("error converting envelope to config update: %w", err)
	}
	group, err := b.applyUpdate(update)
	if err != nil {
		return nil, fmt.Errorf("error authorizing update: %w", err)
	}
	return &common.ConfigEnvelope{
		Config:     &common.Config{Sequence: b.Sequence() + 1, ChannelGroup: group},
		LastUpdate: env,
	}, nil
}

// ProposeNext is what an orderer does with a CONFIG_UPDATE envelope: apply,
// load, check capabilities and the rules between the two configurations
// (IDENTITY-CONFIG §6.4).
func (b *Bundle) ProposeNext(env *common.Envelope) (*common.ConfigEnvelope, *Bundle, error) {
	cfg, err := b.ProposeUpdate(env)
	if err != nil {
		return nil, nil, err
	}
	next, err := NewBundle(b.channelID, cfg.Config, b.opts)
	if err != nil {
		return nil, nil, err
	}
	if err := next.CheckOrderer(); err != nil {
		return nil, nil, fmt.Errorf("config update is not compatible: %w", err)
	}
	if err := b.ValidateNew(next); err != nil {
		return nil, nil, err
	}
	return cfg, next, nil
}

// Validate checks that a ConfigEnvelope is what its own last_update makes of
// this configuration (IDENTITY-CONFIG §6.5).
func (b *Bundle) Validate(env *common.ConfigEnvelope) error {
	switch {
	case env == nil:
		return errors.New("config envelope is nil")
	case env.Config == nil:
		return errors.New("config envelope has nil config")
	case env.Config.Sequence != b.Sequence()+1:
		return fmt.Errorf("config currently at sequence %d, cannot validate config at sequence %d", b.Sequence(), env.Config.Sequence)
	case env.LastUpdate == nil:
		return errors.New("config envelope has nil last_update")
	}
	update, err := updateOfEnvelope(env.LastUpdate)
	if err != nil {
		return err
	}
	group, err := b.applyUpdate(update)
	if err != nil {
		return err
	}
	if !proto.Equal(group, env.Config.ChannelGroup) {
		return errors.New("ConfigEnvelope LastUpdate did not produce the supplied config result")
	}
	return nil
}

// Next is what a node does with the ConfigEnvelope of a CONFIG transaction:
// Validate, load, ValidateNew. Capabilities are left to the caller (CheckPeer,
// CheckOrderer), because missing ones stop the node.
func (b *Bundle) Next(env *common.ConfigEnvelope) (*Bundle, error) {
	if err := b.Validate(env); err != nil {
		return nil, err
	}
	next, err := NewBundle(b.channelID, env.Config, b.opts)
	if err != nil {
		return nil, err
	}
	if err := b.ValidateNew(next); err != nil {
		return nil, err
	}
	return next, nil
}

// updateOfEnvelope takes the ConfigUpdateEnvelope out of a CONFIG_UPDATE
// envelope (IDENTITY-CONFIG §6.3 step 1).
func updateOfEnvelope(env *common.Envelope) (*common.ConfigUpdateEnvelope, error) {
	payload := &common.Payload{}
	if err := proto.Unmarshal(env.GetPayload(), payload); err != nil {
		return nil, fmt.Errorf("error unmarshaling Payload: %w", err)
	}
	if payload.Header == nil {
		return nil, errors.New("envelope must have a Header")
	}
	header := &common.ChannelHeader{}
	if err := proto.Unmarshal(payload.Header.ChannelHeader, header); err != nil {
		return nil, fmt.Errorf("error unmarshaling ChannelHeader: %w", err)
	}
	if header.Type != int32(common.HeaderType_CONFIG_UPDATE) {
		return nil, fmt.Errorf("invalid type %s, expected CONFIG_UPDATE", common.HeaderType(header.Type))
	}
	update := &common.ConfigUpdateEnvelope{}
	if err := proto.Unmarshal(payload.Data, update); err != nil {
		return nil, fmt.Errorf("error unmarshaling message for type CONFIG_UPDATE: %w", err)
	}
	return update, nil
}

// applyUpdate is steps 1b to 9 of IDENTITY-CONFIG §6.3.
func (b *Bundle) applyUpdate(env *common.ConfigUpdateEnvelope) (*common.ConfigGroup, error) {
	update := &common.ConfigUpdate{}
	if err := proto.Unmarshal(env.ConfigUpdate, update); err != nil {
		return nil, err
	}
	if update.ChannelId != b.channelID {
		return nil, fmt.Errorf("ConfigUpdate for channel '%s' but envelope for channel '%s'", update.ChannelId, b.channelID)
	}
	readSet, err := flatten(update.ReadSet)
	if err != nil {
		return nil, fmt.Errorf("error mapping ReadSet: %w", err)
	}
	if err := b.checkReadSet(readSet); err != nil {
		return nil, fmt.Errorf("error validating ReadSet: %w", err)
	}
	writeSet, err := flatten(update.WriteSet)
	if err != nil {
		return nil, fmt.Errorf("error mapping WriteSet: %w", err)
	}
	delta := make(configMap, len(writeSet))
	for name, e := range writeSet {
		if r, ok := readSet[name]; !ok || r.version() != e.version() {
			delta[name] = e
		}
	}
	signatures, err := signedDataOfUpdate(env)
	if err != nil {
		return nil, err
	}
	if err := b.checkDelta(delta, signatures); err != nil {
		return nil, fmt.Errorf("error validating DeltaSet: %w", err)
	}
	full := maps.Clone(b.elements)
	maps.Copy(full, delta)
	// Every element of the write set is now in the map: those of the delta have
	// just been put there, the others are in the read set, which was checked.
	_, repair := full[ordererCapabilities]
	return full.tree(repair)
}

func (b *Bundle) checkReadSet(readSet configMap) error {
	for _, name := range sortedKeys(readSet) {
		existing, ok := b.elements[name]
		if !ok {
			return fmt.Errorf("existing config does not contain element for %s but was in the read set", name)
		}
		if want, is := readSet[name].version(), existing.version(); want != is {
			return fmt.Errorf("proposed update requires that key %s be at version %d, but it is currently at version %d", name, want, is)
		}
	}
	return nil
}

// checkDelta checks that every change is well-formed and authorised (step 6).
// It goes through the elements in the order of their names.
func (b *Bundle) checkDelta(delta configMap, signatures []policy.SignedData) error {
	if len(delta) == 0 {
		return errors.New("delta set was empty -- update would have no effect")
	}
	for _, name := range sortedKeys(delta) {
		if err := b.checkChange(name, delta[name], signatures); err != nil {
			return err
		}
	}
	return nil
}

func (b *Bundle) checkChange(name string, e element, signatures []policy.SignedData) error {
	if err := validateModPolicy(e.modPolicy()); err != nil {
		return fmt.Errorf("invalid mod_policy for element %s: %w", name, err)
	}
	existing, ok := b.elements[name]
	if !ok {
		if e.version() != 0 {
			return fmt.Errorf("attempted to set key %s to version %d, but key does not exist", name, e.version())
		}
		return nil
	}
	if e.version() != existing.version()+1 {
		return fmt.Errorf("attempt to set key %s to version %d, but key is at version %d", name, e.version(), existing.version())
	}
	p, ok := b.policyFor(existing)
	if !ok {
		return fmt.Errorf("unexpected missing policy %s for item %s", existing.modPolicy(), name)
	}
	if err := p.Evaluate(signatures); err != nil {
		return fmt.Errorf("policy for %s not satisfied: %w", name, err)
	}
	return nil
}

// policyFor returns the policy that guards an element of the current
// configuration. A relative name is that of a policy of the group that contains
// the element, or of the group itself if the element is one.
func (b *Bundle) policyFor(e element) (policy.Policy, bool) {
	name := e.modPolicy()
	if name != "" && name[0] == '/' {
		return b.policies.Policy(name)
	}
	path := e.path
	if e.group != nil {
		path += "/" + e.key
	}
	manager := b.policies
	// "/Channel" is the manager's own place.
	if below, ok := strings.CutPrefix(path, "/"+ChannelGroupKey+"/"); ok {
		if manager, ok = b.policies.Sub(strings.Split(below, "/")...); !ok {
			return nil, false
		}
	}
	return manager.Policy(name)
}

// signedDataOfUpdate returns the signatures on an update in the form that
// policies evaluate (IDENTITY-CONFIG §6.1).
func signedDataOfUpdate(env *common.ConfigUpdateEnvelope) ([]policy.SignedData, error) {
	set := make([]policy.SignedData, 0, len(env.Signatures))
	for _, s := range env.Signatures {
		header := &common.SignatureHeader{}
		if err := proto.Unmarshal(s.GetSignatureHeader(), header); err != nil {
			return nil, err
		}
		data := make([]byte, 0, len(s.SignatureHeader)+len(env.ConfigUpdate))
		data = append(append(data, s.SignatureHeader...), env.ConfigUpdate...)
		set = append(set, policy.SignedData{Data: data, Identity: header.Creator, Signature: s.Signature})
	}
	return set, nil
}
