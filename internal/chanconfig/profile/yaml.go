package profile

import (
	"errors"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// Bounds on how much a file may grow by its anchors, and how deeply they may
// nest (an anchor may contain itself).
const (
	maxNodes = 1 << 18
	maxDepth = 200
)

var errTooLarge = errors.New("the file's anchors expand to too many values")

// parseYAML turns a document into maps, slices and scalars. Merge keys (<<) act
// where they stand: what follows in the map wins over them and they win over
// what precedes them, as in the reference.
func parseYAML(raw []byte) (map[string]any, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		return nil, err
	}
	if doc.Kind == 0 {
		return nil, nil // an empty file
	}
	c := &converter{}
	v, err := c.value(doc.Content[0])
	if err != nil {
		return nil, err
	}
	m, ok := v.(map[string]any)
	if !ok && v != nil {
		return nil, fmt.Errorf("the file holds a %T, not a map", v)
	}
	return m, nil
}

type converter struct{ nodes, depth int }

// enter counts a node; leave must follow.
func (c *converter) enter() error {
	c.nodes++
	c.depth++
	if c.nodes > maxNodes || c.depth > maxDepth {
		return errTooLarge
	}
	return nil
}

func (c *converter) leave() { c.depth-- }

func (c *converter) value(n *yaml.Node) (any, error) {
	defer c.leave()
	if err := c.enter(); err != nil {
		return nil, err
	}
	switch n.Kind {
	case yaml.AliasNode:
		return c.value(n.Alias)
	case yaml.MappingNode:
		m := make(map[string]any, len(n.Content)/2)
		return m, c.mapping(n, m)
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for _, e := range n.Content {
			v, err := c.value(e)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	}
	if n.ShortTag() == "!!timestamp" {
		return n.Value, nil
	}
	var v any
	if err := n.Decode(&v); err != nil {
		return nil, err
	}
	return v, nil
}

func (c *converter) mapping(n *yaml.Node, into map[string]any) error {
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.ShortTag() == "!!merge" {
			if err := c.merge(value, into); err != nil {
				return err
			}
			continue
		}
		if key.Kind != yaml.ScalarNode {
			return fmt.Errorf("line %d: a key must be a word", key.Line)
		}
		v, err := c.value(value)
		if err != nil {
			return err
		}
		into[key.Value] = v
	}
	return nil
}

// merge adds the members of a map, or of a list of maps of which the first
// wins.
func (c *converter) merge(n *yaml.Node, into map[string]any) error {
	defer c.leave()
	if err := c.enter(); err != nil {
		return err
	}
	switch n.Kind {
	case yaml.AliasNode:
		return c.merge(n.Alias, into)
	case yaml.MappingNode:
		return c.mapping(n, into)
	case yaml.SequenceNode:
		for i := len(n.Content) - 1; i >= 0; i-- {
			if err := c.merge(n.Content[i], into); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("line %d: map merge requires map or sequence of maps as the value", n.Line)
}
