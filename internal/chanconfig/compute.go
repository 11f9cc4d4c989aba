package chanconfig

import (
	"errors"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"
)

// ErrNoDifferences is returned by ComputeUpdate for equal configurations.
var ErrNoDifferences = errors.New("no differences detected between original and updated config")

// ComputeUpdate returns the update that leads from one configuration to another
// (IDENTITY-CONFIG §6.6). Sequence numbers, and versions in updated, do not
// matter. The channel id of the result is empty.
func ComputeUpdate(original, updated *common.Config) (*common.ConfigUpdate, error) {
	if original.GetChannelGroup() == nil {
		return nil, errors.New("no channel group included for original config")
	}
	if updated.GetChannelGroup() == nil {
		return nil, errors.New("no channel group included for updated config")
	}
	read, write, changed := diffGroups(original.ChannelGroup, updated.ChannelGroup)
	if !changed {
		return nil, ErrNoDifferences
	}
	return &common.ConfigUpdate{ReadSet: read, WriteSet: write}, nil
}

// memberDiff sorts the members of one kind (values, policies or groups) of a
// group into those that go to the read set because they must stay, those that
// go to the write set because they stay, and those that changed or are new.
type memberDiff[M any] struct {
	same         map[string]M // version only
	changed      map[string]M // in both configurations
	changedReads map[string]M // what the read set says of changed members
	added        map[string]M
	removed      bool
}

func newMemberDiff[M any]() memberDiff[M] {
	return memberDiff[M]{make(map[string]M), make(map[string]M), make(map[string]M), make(map[string]M), false}
}

func (d memberDiff[M]) membershipChanged() bool { return d.removed || len(d.added) > 0 }

// sets returns the members for read and write set. Unchanged members are named
// only in a group that is itself modified, because there they would be removed
// otherwise.
func (d memberDiff[M]) sets(modified bool) (read, write map[string]M) {
	read, write = make(map[string]M), make(map[string]M)
	for k, m := range d.changedReads {
		read[k] = m
	}
	for k, m := range d.changed {
		write[k] = m
	}
	for k, m := range d.added {
		write[k] = m
	}
	if modified {
		for k, m := range d.same {
			read[k], write[k] = m, m
		}
	}
	return read, write
}

// diffGroups returns what the read and the write set say of a group that is in
// both configurations.
func diffGroups(original, updated *common.ConfigGroup) (read, write *common.ConfigGroup, changed bool) {
	values := diffValues(original.GetValues(), updated.GetValues())
	policies := diffPolicies(original.GetPolicies(), updated.GetPolicies())
	groups := diffSubGroups(original.GetGroups(), updated.GetGroups())

	modified := original.GetModPolicy() != updated.GetModPolicy() ||
		values.membershipChanged() || policies.membershipChanged() || groups.membershipChanged()
	if !modified && len(values.changed)+len(policies.changed)+len(groups.changed) == 0 {
		return nil, nil, false
	}
	read = &common.ConfigGroup{Version: original.GetVersion()}
	write = &common.ConfigGroup{Version: original.GetVersion()}
	if modified {
		write.Version++
		write.ModPolicy = updated.GetModPolicy()
	}
	read.Values, write.Values = values.sets(modified)
	read.Policies, write.Policies = policies.sets(modified)
	read.Groups, write.Groups = groups.sets(modified)
	return read, write, true
}

func diffValues(original, updated map[string]*common.ConfigValue) memberDiff[*common.ConfigValue] {
	d := newMemberDiff[*common.ConfigValue]()
	for key, was := range original {
		is, ok := updated[key]
		switch {
		case !ok:
			d.removed = true
		case is.GetModPolicy() == was.GetModPolicy() && string(is.GetValue()) == string(was.GetValue()):
			d.same[key] = &common.ConfigValue{Version: was.GetVersion()}
		default:
			d.changed[key] = &common.ConfigValue{
				Version: was.GetVersion() + 1, ModPolicy: is.GetModPolicy(), Value: is.GetValue(),
			}
		}
	}
	for key, is := range updated {
		if _, ok := original[key]; !ok {
			d.added[key] = &common.ConfigValue{ModPolicy: is.GetModPolicy(), Value: is.GetValue()}
		}
	}
	return d
}

func diffPolicies(original, updated map[string]*common.ConfigPolicy) memberDiff[*common.ConfigPolicy] {
	d := newMemberDiff[*common.ConfigPolicy]()
	for key, was := range original {
		is, ok := updated[key]
		switch {
		case !ok:
			d.removed = true
		case is.GetModPolicy() == was.GetModPolicy() && proto.Equal(is.GetPolicy(), was.GetPolicy()):
			d.same[key] = &common.ConfigPolicy{Version: was.GetVersion()}
		default:
			d.changed[key] = &common.ConfigPolicy{
				Version: was.GetVersion() + 1, ModPolicy: is.GetModPolicy(), Policy: is.GetPolicy(),
			}
		}
	}
	for key, is := range updated {
		if _, ok := original[key]; !ok {
			d.added[key] = &common.ConfigPolicy{ModPolicy: is.GetModPolicy(), Policy: is.GetPolicy()}
		}
	}
	return d
}

func diffSubGroups(original, updated map[string]*common.ConfigGroup) memberDiff[*common.ConfigGroup] {
	d := newMemberDiff[*common.ConfigGroup]()
	for key, was := range original {
		is, ok := updated[key]
		if !ok {
			d.removed = true
			continue
		}
		read, write, changed := diffGroups(was, is)
		if changed {
			d.changedReads[key], d.changed[key] = read, write
		} else {
			d.same[key] = &common.ConfigGroup{Version: was.GetVersion()}
		}
	}
	for key, is := range updated {
		if _, ok := original[key]; !ok {
			d.added[key] = newGroup(is)
		}
	}
	return d
}

// newGroup is what the write set says of a group that is new: all of it, at
// version 0.
func newGroup(g *common.ConfigGroup) *common.ConfigGroup {
	if g == nil {
		return &common.ConfigGroup{}
	}
	out := proto.CloneOf(g)
	zeroVersions(out)
	return out
}
