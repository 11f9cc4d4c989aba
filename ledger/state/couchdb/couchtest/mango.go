package couchtest

import (
	"cmp"
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// field finds a member by a path with dots.
func field(v any, path string) (any, bool) {
	for _, name := range strings.Split(path, ".") {
		m, isObject := v.(map[string]any)
		if !isObject {
			return nil, false
		}
		var ok bool
		if v, ok = m[name]; !ok {
			return nil, false
		}
	}
	return v, true
}

// matches applies a selector to a document, or to a part of one.
func matches(selector map[string]any, v any) (bool, error) {
	for _, name := range slices.Sorted(maps.Keys(selector)) {
		ok, err := matchesOne(name, selector[name], v)
		if err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

func matchesOne(name string, arg, v any) (bool, error) {
	switch name {
	case "$and", "$or", "$nor":
		return combine(name, arg, v)
	case "$not":
		sub, isObject := arg.(map[string]any)
		if !isObject {
			return false, badOperator(name)
		}
		ok, err := matches(sub, v)
		return !ok, err
	}
	if strings.HasPrefix(name, "$") {
		return operator(name, arg, v, true)
	}
	value, exists := field(v, name)
	conditions, isObject := arg.(map[string]any)
	if !isObject {
		return exists && compare(value, arg) == 0, nil
	}
	for _, op := range slices.Sorted(maps.Keys(conditions)) {
		if !strings.HasPrefix(op, "$") {
			ok, err := matches(map[string]any{op: conditions[op]}, value)
			if err != nil || !ok || !exists {
				return false, err
			}
			continue
		}
		ok, err := operator(op, conditions[op], value, exists)
		if err != nil || !ok {
			return false, err
		}
	}
	return true, nil
}

func combine(name string, arg, v any) (bool, error) {
	list, isList := arg.([]any)
	if !isList {
		return false, badOperator(name)
	}
	count := 0
	for _, e := range list {
		sub, isObject := e.(map[string]any)
		if !isObject {
			return false, badOperator(name)
		}
		ok, err := matches(sub, v)
		if err != nil {
			return false, err
		}
		if ok {
			count++
		}
	}
	switch name {
	case "$and":
		return count == len(list), nil
	case "$or":
		return count > 0, nil
	}
	return count == 0, nil
}

func badOperator(name string) error {
	return &refusal{400, "invalid_operator", "Invalid operator: " + name}
}

var comparisons = []string{"$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$regex", "$elemMatch"}

func operator(name string, arg, v any, exists bool) (bool, error) {
	if name == "$exists" {
		want, isBool := arg.(bool)
		if !isBool {
			return false, badOperator(name)
		}
		return exists == want, nil
	}
	if name == "$not" {
		sub, isObject := arg.(map[string]any)
		if !isObject {
			return false, badOperator(name)
		}
		for _, op := range slices.Sorted(maps.Keys(sub)) {
			if ok, err := operator(op, sub[op], v, exists); err != nil || !ok {
				return err == nil, err
			}
		}
		return false, nil
	}
	if !slices.Contains(comparisons, name) {
		return false, badOperator(name)
	}
	if !exists {
		return false, nil
	}
	order := compare(v, arg)
	switch name {
	case "$eq":
		return order == 0, nil
	case "$ne":
		return order != 0, nil
	case "$gt":
		return order > 0, nil
	case "$gte":
		return order >= 0, nil
	case "$lt":
		return order < 0, nil
	case "$lte":
		return order <= 0, nil
	case "$in", "$nin":
		list, isList := arg.([]any)
		if !isList {
			return false, badOperator(name)
		}
		in := slices.ContainsFunc(list, func(e any) bool { return compare(e, v) == 0 })
		return in == (name == "$in"), nil
	case "$regex":
		text, isText := arg.(string)
		re, err := regexp.Compile(text)
		if !isText || err != nil {
			return false, badOperator(name)
		}
		s, isText := v.(string)
		return isText && re.MatchString(s), nil
	case "$elemMatch":
		return elemMatch(arg, v)
	}
	return false, badOperator(name)
}

func elemMatch(arg, v any) (bool, error) {
	sub, isObject := arg.(map[string]any)
	if !isObject {
		return false, badOperator("$elemMatch")
	}
	list, _ := v.([]any)
	for _, e := range list {
		if ok, err := matches(sub, e); ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// compare is the order of values of different types: null, false, true, numbers,
// texts, lists, objects. Texts are compared by bytes, where CouchDB has a
// collation.
func compare(a, b any) int {
	if n := cmp.Compare(rank(a), rank(b)); n != 0 {
		return n
	}
	switch a := a.(type) {
	case json.Number:
		x, _ := a.Float64()
		y, _ := b.(json.Number).Float64()
		return cmp.Compare(x, y)
	case string:
		return cmp.Compare(a, b.(string))
	case []any:
		return slices.CompareFunc(a, b.([]any), compare)
	case map[string]any:
		o := b.(map[string]any)
		x, y := slices.Sorted(maps.Keys(a)), slices.Sorted(maps.Keys(o))
		if n := slices.Compare(x, y); n != 0 {
			return n
		}
		for _, k := range x {
			if n := compare(a[k], o[k]); n != 0 {
				return n
			}
		}
	}
	return 0
}

func rank(v any) int {
	switch v := v.(type) {
	case bool:
		if v {
			return 2
		}
		return 1
	case json.Number:
		return 3
	case string:
		return 4
	case []any:
		return 5
	case map[string]any:
		return 6
	}
	return 0
}
