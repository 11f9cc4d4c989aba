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

// maxDepth bounds the nesting of groups. Legal trees have four levels; the
// bound keeps the length of element names proportional to the message.
const maxDepth = 64

// element is one group, value or policy of a config tree. Exactly one of group,
// value and policy is set.
type element struct {
	path   []string // groups that contain it, from Channel down
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
	m := make(configMap)
	if root == nil {
		return m, nil
	}
	if err := m.addGroup(nil, "", ChannelGroupKey, root); err != nil {
		return nil, err
	}
	return m, nil
}

// addGroup adds a group and all below it. prefix is the text of path.
func (m configMap) addGroup(path []string, prefix, key string, g *common.ConfigGroup) error {
	if len(path) >= maxDepth {
		return errors.New("groups are nested too deeply")
	}
	if err := checkKey(groupPrefix, key); err != nil {
		return err
	}
	if g == nil {
		g = &common.ConfigGroup{}
	}
	m[groupPrefix+prefix+"/"+key] = element{path: path, key: key, group: g}

	inner := append(path[:len(path):len(path)], key)
	prefix += "/" + key
	for _, k := range sortedKeys(g.Groups) {
		if err := m.addGroup(inner, prefix, k, g.Groups[k]); err != nil {
			return err
		}
	}
	for k, v := range g.Values {
		if err := checkKey(valuePrefix, k); err != nil {
			return err
		}
		if v == nil {
			v = &common.ConfigValue{}
		}
		m[valuePrefix+prefix+"/"+k] = element{path: inner, key: k, value: v}
	}
	for k, p := range g.Policies {
		if err := checkKey(policyPrefix, k); err != nil {
			return err
		}
		if p == nil {
			p = &common.ConfigPolicy{}
		}
		m[policyPrefix+prefix+"/"+k] = element{path: inner, key: k, policy: p}
	}
	return nil
}

func checkKey(kind, key string) error {
	if validateConfigID(key) != nil {
		return fmt.Errorf("Illegal characters in key: %s", kind)
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
