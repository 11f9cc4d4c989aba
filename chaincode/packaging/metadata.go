package packaging

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

const collectionName = `[A-Za-z0-9_-]+`

// CheckMetadataFile checks path and content of one metadata file: only CouchDB
// index definitions exist (CHAINCODE §6.5).
func CheckMetadataFile(name string, content []byte) error {
	if err := checkIndexPath(name); err != nil {
		return err
	}
	var definition map[string]any
	if json.Unmarshal(content, &definition) != nil || definition == nil {
		return fmt.Errorf("Index metadata file [%s] is not a valid JSON", name) //nolint:staticcheck // the reference's text
	}
	if err := checkIndex(definition); err != nil {
		return fmt.Errorf("Index metadata file [%s] is not a valid index definition: %w", name, err) //nolint:staticcheck // the reference's text
	}
	return nil
}

func checkIndexPath(name string) error {
	// The expressions are not anchored at the end, as in the reference.
	for _, re := range []string{
		`^META-INF/statedb/couchdb/indexes/.*[.]json`,
		`^META-INF/statedb/couchdb/collections/` + collectionName + `/indexes/.*[.]json`,
	} {
		if regexp.MustCompile(re).MatchString(name) {
			return nil
		}
	}
	dir, file := path.Split(name)
	parts := strings.Split(strings.Trim(dir, "/"), "/")
	switch {
	case !strings.HasPrefix(dir, "META-INF/statedb"):
		return fmt.Errorf("metadata file path must begin with META-INF/statedb, found: %s", dir)
	case len(parts) < 4:
		return fmt.Errorf("metadata file path must include a database and index directory: %s", dir)
	case parts[2] != "couchdb":
		return fmt.Errorf("database name [%s] is not supported, valid options: [couchdb]", parts[2])
	case len(parts) == 4 && parts[3] != "indexes":
		return fmt.Errorf("metadata file path does not have an indexes directory: %s", dir)
	case len(parts) != 6:
		return fmt.Errorf("metadata file path for collections must include a collections and index directory: %s", dir)
	case parts[3] != "collections" || parts[5] != "indexes":
		return fmt.Errorf("metadata file path for collections must have a collections and indexes directory: %s", dir)
	case !regexp.MustCompile(`^` + collectionName + `$`).MatchString(parts[4]):
		return fmt.Errorf("collection name is not valid: %s", parts[4])
	case !regexp.MustCompile(`^.*[.]json$`).MatchString(file):
		return fmt.Errorf("artifact file name is not valid: %s", file)
	default:
		return fmt.Errorf("metadata file path or name is not supported: %s", dir)
	}
}

// The texts below are the reference's.
//
//nolint:staticcheck
func checkIndex(definition map[string]any) error {
	found := false
	// Sorted, so that of several faults always the same one is told.
	for _, key := range slices.Sorted(maps.Keys(definition)) {
		value := definition[key]
		switch key {
		case "index":
			index, ok := value.(map[string]any)
			if !ok {
				return errors.New(`Invalid entry, "index" must be a JSON`)
			}
			if err := checkIndexFields(index); err != nil {
				return err
			}
			found = true
		case "ddoc", "name":
			if _, ok := value.(string); !ok {
				return fmt.Errorf("Invalid entry, %q must be a string", key)
			}
		case "type":
			if value != "json" {
				return errors.New("Index type must be json")
			}
		default:
			return fmt.Errorf("Invalid Entry.  Entry %s", key)
		}
	}
	if !found {
		return errors.New(`Index definition must include a "fields" definition`)
	}
	return nil
}

//nolint:staticcheck // the texts are the reference's
func checkIndexFields(index map[string]any) error {
	for _, key := range slices.Sorted(maps.Keys(index)) {
		switch key {
		case "fields":
			fields, ok := index[key].([]any)
			if !ok {
				return errors.New("Expecting a JSON array of fields")
			}
			for _, f := range fields {
				if err := checkSort(f); err != nil {
					return err
				}
			}
		case "partial_filter_selector":
		default:
			return fmt.Errorf("Invalid Entry.  Entry %s", key)
		}
	}
	return nil
}

//nolint:staticcheck // the texts are the reference's
func checkSort(field any) error {
	sorts, ok := field.(map[string]any)
	if !ok {
		return nil // names, and whatever else: CouchDB has the last word
	}
	for _, name := range slices.Sorted(maps.Keys(sorts)) {
		dir, ok := sorts[name].(string)
		if !ok {
			return errors.New(`Invalid field definition, fields must be in the form "fieldname":"sort"`)
		}
		if d := strings.ToLower(dir); d != "asc" && d != "desc" {
			return fmt.Errorf(`Sort must be either "asc" or "desc".  "%s" was found.`, dir)
		}
	}
	return nil
}
