package config

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/mitchellh/mapstructure"
	"go.yaml.in/yaml/v3"
)

// parseYAML11 reads a document as YAML 1.1 does: yes, no, on and off are
// booleans, and of a key that is written twice the last one wins.
func parseYAML11(raw []byte) (map[string]any, error) {
	var doc yaml.Node
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		return nil, err
	}
	if doc.Kind == 0 {
		return map[string]any{}, nil
	}
	nodes := 0
	v, err := yamlValue(doc.Content[0], &nodes, 0)
	if err != nil {
		return nil, err
	}
	switch m := v.(type) {
	case map[string]any:
		return m, nil
	case nil:
		return map[string]any{}, nil
	default:
		return nil, fmt.Errorf("the file holds a %T, not a map", v)
	}
}

// maxYAMLNodes bounds what anchors can blow a file up to.
const (
	maxYAMLNodes = 1 << 16
	maxYAMLDepth = 100
)

func yamlValue(n *yaml.Node, nodes *int, depth int) (any, error) {
	if *nodes++; *nodes > maxYAMLNodes || depth > maxYAMLDepth {
		return nil, fmt.Errorf("line %d: the file is too large", n.Line)
	}
	switch n.Kind {
	case yaml.AliasNode:
		return yamlValue(n.Alias, nodes, depth+1)
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for _, e := range n.Content {
			v, err := yamlValue(e, nodes, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, v)
		}
		return list, nil
	case yaml.MappingNode:
		return yamlMap(n, nodes, depth)
	}
	if n.Style == 0 { // plain
		switch strings.ToLower(n.Value) {
		case "yes", "on":
			return true, nil
		case "no", "off":
			return false, nil
		}
	}
	if tag := n.ShortTag(); tag == "!!timestamp" || tag == "!!str" {
		return n.Value, nil
	}
	var v any
	err := n.Decode(&v)
	return v, err
}

func yamlMap(n *yaml.Node, nodes *int, depth int) (map[string]any, error) {
	m := make(map[string]any, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		v, err := yamlValue(n.Content[i+1], nodes, depth+1)
		if err != nil {
			return nil, err
		}
		if n.Content[i].ShortTag() != "!!merge" {
			m[n.Content[i].Value] = v
			continue
		}
		if merged, ok := v.(map[string]any); ok {
			for k, e := range merged {
				m[k] = e
			}
		}
	}
	return m, nil
}

// decodeExact decodes a tree into a struct after applying the environment:
// PREFIX_SECTION_KEY for every field of the struct, whether the file has it or
// not. A key that the struct lacks is an error. The texts are those of the
// reference, which uses the same decoder (ORDERER §1.2).
func decodeExact(tree map[string]any, prefix string, into any) error {
	lowered := make(map[string]any, len(tree))
	for k, v := range tree {
		lowered[strings.ToLower(k)] = v
	}
	tree = overlay(reflect.TypeOf(into).Elem(), lowered, prefix)
	d, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		ErrorUnused: true, WeaklyTypedInput: true, Result: into,
		DecodeHook: mapstructure.ComposeDecodeHookFunc(contentHook, listHook, mapHook, durationHook, kafkaVersionHook),
	})
	if err != nil {
		return err
	}
	return d.Decode(tree)
}

// overlay returns the values of a section with the environment applied. Unknown
// keys are kept, for the decoder to complain about.
func overlay(t reflect.Type, section map[string]any, env string) map[string]any {
	out := make(map[string]any, len(section))
	for k, v := range section {
		out[k] = v
	}
	for i := range t.NumField() {
		f := t.Field(i)
		name := env + "_" + strings.ToUpper(f.Name)
		key, value := take(out, f.Name)
		switch {
		case f.Type == reflect.TypeFor[OrdererBCCSP]():
			sub, _ := value.(map[string]any)
			out[key] = known(f.Type, overlay(f.Type, sub, name))
		case f.Type.Kind() == reflect.Struct:
			sub, ok := value.(map[string]any)
			if ok || value == nil {
				value = overlay(f.Type, sub, name)
			}
			out[key] = value
		default:
			if value = leaf(f.Type, value, name); value != nil {
				out[key] = value
			}
		}
	}
	return out
}

// take removes a key, whatever its case, and returns it as the struct spells it.
func take(section map[string]any, name string) (string, any) {
	for k, v := range section {
		if strings.EqualFold(k, name) {
			delete(section, k)
			return name, v
		}
	}
	return name, nil
}

// leaf is the value of one key: the environment's, else the file's, else the
// content of the file that the environment names.
func leaf(t reflect.Type, value any, env string) any {
	if t.Kind() == reflect.Map {
		return freeMap(value, env)
	}
	if v := os.Getenv(env); v != "" {
		return v
	}
	if value == nil {
		if v := os.Getenv(env + "_FILE"); v != "" {
			return map[string]any{"File": v}
		}
	}
	return value
}

// freeMap is the value of Consensus. The environment may set the keys that engines
// know even when the file lacks them.
func freeMap(value any, env string) any {
	if v := os.Getenv(env); v != "" {
		return v
	}
	m, ok := value.(map[string]any)
	if !ok && value != nil {
		return value
	}
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = v
	}
	for _, k := range []string{"WALDir", "SnapDir", "EvictionSuspicion", "TickIntervalOverride"} {
		if _, v := take(out, k); v != nil {
			out[k] = v
		}
		if v := os.Getenv(env + "_" + strings.ToUpper(k)); v != "" {
			out[k] = v
		}
	}
	return out
}

// known drops the keys of a section that its struct lacks.
func known(t reflect.Type, section map[string]any) map[string]any {
	out := make(map[string]any, len(section))
	for i := range t.NumField() {
		f := t.Field(i)
		v, ok := section[f.Name]
		if sub, isMap := v.(map[string]any); isMap && f.Type.Kind() == reflect.Struct {
			v = known(f.Type, sub)
		}
		if ok {
			out[f.Name] = v
		}
	}
	return out
}

// contentHook replaces {File: path} by the content of the file: a text, or the
// list of its certificates.
func contentHook(_, to reflect.Type, data any) (any, error) {
	m, ok := data.(map[string]any)
	if !ok || (to.Kind() != reflect.String && to.Kind() != reflect.Slice) {
		return data, nil
	}
	_, v := take(m, "File")
	path, ok := v.(string)
	if !ok {
		return data, nil
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if to.Kind() == reflect.String {
		return string(raw), nil
	}
	var certs []string
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" && len(block.Headers) == 0 {
			certs = append(certs, string(pem.EncodeToMemory(block)))
		}
	}
	if certs == nil {
		return nil, fmt.Errorf("no certificates found in %s", path)
	}
	return certs, nil
}

// listHook turns "[a, b]" into a list.
func listHook(_, to reflect.Type, data any) (any, error) {
	s, ok := data.(string)
	if !ok || to.Kind() != reflect.Slice {
		return data, nil
	}
	if len(s) >= 2 && s[0] == '[' && s[len(s)-1] == ']' {
		list := []string{}
		for _, e := range strings.Split(s[1:len(s)-1], ",") {
			if e = strings.TrimSpace(e); e != "" {
				list = append(list, e)
			}
		}
		return list, nil
	}
	return data, nil
}

// mapHook turns a JSON text into a map.
func mapHook(_, to reflect.Type, data any) (any, error) {
	s, ok := data.(string)
	if !ok || to.Kind() != reflect.Map {
		return data, nil
	}
	m := map[string]any{}
	if err := json.Unmarshal([]byte(s), &m); err != nil {
		return data, nil
	}
	return m, nil
}

// durationHook leaves a text that is no duration to the decoder, which then
// complains about a number.
func durationHook(_, to reflect.Type, data any) (any, error) {
	if s, ok := data.(string); ok && to == reflect.TypeFor[time.Duration]() {
		if d, err := time.ParseDuration(s); err == nil {
			return d, nil
		}
	}
	return data, nil
}
