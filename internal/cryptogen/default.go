package cryptogen

import _ "embed"

// DefaultTemplate is the configuration that generate uses without --config and
// that showtemplate prints.
//
//go:embed template.yaml
var DefaultTemplate string
