package process

import "strings"

// pick returns the variables whose name is wanted.
func pick(environ []string, wanted func(name string) bool) []string {
	var list []string
	for _, kv := range environ {
		if name, _, ok := strings.Cut(kv, "="); ok && wanted(name) {
			list = append(list, kv)
		}
	}
	return list
}

func lookup(environ []string, name string) string {
	value := ""
	for _, kv := range environ {
		if v, ok := strings.CutPrefix(kv, name+"="); ok {
			value = v
		}
	}
	return value
}

func isChildVariable(name string) bool {
	return name == "PATH" || name == "HOME" || name == "TMPDIR"
}

// isToolVariable selects what a build takes from the peer's environment: proxy,
// cache and compiler settings.
func isToolVariable(name string) bool {
	switch name {
	case "PATH", "HOME", "TMPDIR", "USER", "CC", "CXX", "PKG_CONFIG", "XDG_CACHE_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR", "GIT_SSH_COMMAND", "NETRC":
		return true
	}
	switch upper := strings.ToUpper(name); upper {
	case "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY":
		return true
	default:
		return strings.HasPrefix(upper, "GO") || strings.HasPrefix(upper, "CGO_")
	}
}

// withoutModFlag drops -mod from GOFLAGS: each layout has its own.
func withoutModFlag(flags string) string {
	var kept []string
	for _, f := range strings.Fields(flags) {
		if !strings.HasPrefix(strings.TrimPrefix(f, "-"), "-mod=") && !strings.HasPrefix(f, "-mod=") {
			kept = append(kept, f)
		}
	}
	return strings.Join(kept, " ")
}
