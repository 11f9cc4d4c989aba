// Package version holds the version numbers that Heddle reports.
//
// It owns no state and starts no goroutine. Any package may import it.
package version

// Fabric is the release of Hyperledger Fabric whose behaviour Heddle
// implements. System chaincodes report it as their version, because it is part
// of what peers endorse (ENDORSE-VALIDATE §1.1).
const Fabric = "1.4.12"

// Heddle is the version of this implementation.
const Heddle = "0.1.0"

// Full is what commands and daemons report wherever the reference reports its
// version, so that scripts that look for 1.4 keep working.
const Full = Fabric + "+heddle." + Heddle

// CommitSHA is set by the linker (see Makefile); a development build says so.
var CommitSHA = "development build"

// Docker image settings that `peer version` prints (SURFACE §1.1).
const (
	BaseImage           = "0.4.22"
	BaseDockerNamespace = "hyperledger"
	BaseDockerLabel     = "org.hyperledger.fabric"
	DockerNamespace     = "hyperledger"
)

// Text is what `peer version` prints after its first line, and the daemon when
// it starts.
func Text(goVersion, goos, goarch string) string {
	return " Version: " + Full + "\n" +
		" Commit SHA: " + CommitSHA + "\n" +
		" Go version: " + goVersion + "\n" +
		" OS/Arch: " + goos + "/" + goarch + "\n" +
		" Chaincode:\n" +
		"  Base Image Version: " + BaseImage + "\n" +
		"  Base Docker Namespace: " + BaseDockerNamespace + "\n" +
		"  Base Docker Label: " + BaseDockerLabel + "\n" +
		"  Docker Namespace: " + DockerNamespace + "\n"
}
