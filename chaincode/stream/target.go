package stream

import "strings"

// Target names a chaincode as NAME[:VERSION][/CHANNEL].
type Target struct{ Name, Version, Channel string }

// ParseTarget splits at the first '/', then at the first ':' (CHAINCODE §2.1).
func ParseTarget(s string) Target {
	cname, channel, _ := strings.Cut(s, "/")
	name, version, _ := strings.Cut(cname, ":")
	return Target{Name: name, Version: version, Channel: channel}
}
