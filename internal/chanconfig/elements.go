package chanconfig

import (
	"errors"
	"fmt"

	"github.com/hyperledger/fabric-protos-go-apiv2/common"
	"google.golang.org/protobuf/proto"
)

// Kinds of config elements, as they show in element names (IDENTITY-CONFIG
// §6.2).
const (
	groupPrefix  = "[Group]  "
	valuePrefix  = "[Value]  "
	policyPrefix = "[Policy] "
)

// maxNames bounds the total length of the names of one tree's elements, which
// grows with the square of its depth. Legal trees have four levels and need a
// few kilobytes. An update may nest new groups as deep as it likes: they are
// dropped when no group that exists names them (IDENTITY-CONFIG §6.3 step 8), so
// a narrower bound here would refuse what the reference accepts.
const maxNames = 256 << 20

// element is one group, value or policy of a config tree. Exactly one of group,
// value and policy is set.
type element struct {
	path   string // group that contains it: "/Channel/Orderer"; of the root ""
	key    string
	group  *common.ConfigGroup
	value  *common.ConfigValue
	policy *common.ConfigPolicy
}

func (e element) version() uint64 {
	switch {
	case e.group != nil:
		return e.group.Version
	case e.value != nil:
		return e.value.Version
	}
	return e.policy.GetVersion()
}

func (e element) modPolicy() string {
	switch {
	case e.group != nil:
		return e.group.ModPolicy
	case e.value != nil:
		return e.value.ModPolicy
	}
	return e.policy.GetModPolicy()
}

// configMap holds the elements of a config tree by name, for example
// "[Value]  /Channel/Orderer/BatchSize".
type configMap map[string]element

// flatten turns a tree into a configMap. A nil tree gives an empty map.
func flatten(root *common.ConfigGroup) (configMap, error) {
	f := flattener{elements: make(configMap), left: maxNames}
	if root == nil {
		return f.elements, nil
	}
	if err := f.group("", ChannelGroupKey, root); err != nil {
		return nil, err
	}
	return f.elements, nil
}

// flattener collects the elements of one tree.
type flattener struct {
	elements configMap
	left     int // of maxNames
}

// add adds one element under its name.
func (f *flattener) add(kind string, e element) error {
	if validateConfigID(e.key) != nil {
		return fmt.Errorf("Illegal characters in key: %s", kind)
	}
	name := kind + e.path + "/" + e.key
	if f.left -= len(name); f.left < 0 {
		return errors.New("groups are nested too deeply")
	}
	f.elements[name] = e
	return nil
}

// group adds a group and all below it.
func (f *flattener) group(path, key string, g *common.ConfigGroup) error {
	if g == nil {
		g = &common.ConfigGroup{}
	}
	if err := f.add(groupPrefix, element{path: path, key: key, group: g}); err != nil {
		return err
	}
	path += "/" + key
	for _, k := range sortedKeys(g.Groups) {
		if err := f.group(path, k, g.Groups[k]); err != nil {
			return err
		}
	}
	for k, v := range g.Values {
		if v == nil {
			v = &common.ConfigValue{}
		}
		if err := f.add(valuePrefix, element{path: path, key: k, value: v}); err != nil {
			return err
		}
	}
	for k, p := range g.Policies {
		if p == nil {
			p = &common.ConfigPolicy{}
		}
		if err := f.add(policyPrefix, element{path: path, key: k, policy: p}); err != nil {
			return err
		}
	}
	return nil
}

// tree is the reverse of flatten: it builds the tree below the root group. The
// members of a group are those that the group's own element names, so elements
// of the map that their group does not name are dropped and members that it
// names and the map lacks are an error (IDENTITY-CONFIG §6.3 step 8). With
// repair, every empty mod_policy becomes Admins (step 9).
func (m configMap) tree(repair bool) (*common.ConfigGroup, error) {
	return m.subTree("/"+ChannelGroupKey, repair)
}

func (m configMap) subTree(path string, repair bool) (*common.ConfigGroup, error) {
	e, ok := m[groupPrefix+path]
	if !ok {
		return nil, fmt.Errorf("missing element: %s", groupPrefix+path)
	}
	out := &common.ConfigGroup{
		Version:   e.group.Version,
		ModPolicy: repaired(e.group.ModPolicy, repair),
		Groups:    make(map[string]*common.ConfigGroup, len(e.group.Groups)),
		Values:    make(map[string]*common.ConfigValue, len(e.group.Values)),
		Policies:  make(map[string]*common.ConfigPolicy, len(e.group.Policies)),
	}
	for key := range e.group.Groups {
		sub, err := m.subTree(path+"/"+key, repair)
		if err != nil {
			return nil, err
		}
		out.Groups[key] = sub
	}
	for key := range e.group.Values {
		v, ok := m[valuePrefix+path+"/"+key]
		if !ok {
			return nil, fmt.Errorf("missing element: %s", valuePrefix+path+"/"+key)
		}
		out.Values[key] = v.value
		if repair && v.value.ModPolicy == "" {
			out.Values[key] = proto.CloneOf(v.value)
			out.Values[key].ModPolicy = AdminsPolicyKey
		}
	}
	for key := range e.group.Policies {
		p, ok := m[policyPrefix+path+"/"+key]
		if !ok {
			return nil, fmt.Errorf("missing element: %s", policyPrefix+path+"/"+key)
		}
		out.Policies[key] = p.policy
		if repair && p.policy.ModPolicy == "" {
			out.Policies[key] = proto.CloneOf(p.policy)
			out.Policies[key].ModPolicy = AdminsPolicyKey
		}
	}
	return out, nil
}

func repaired(modPolicy string, repair bool) string {
	if repair && modPolicy == "" {
		return AdminsPolicyKey
	}
	return modPolicy
}
