package runtime

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"regexp"
	"strings"
)

// Names makes the names of containers and images (CHAINCODE §5.3).
type Names struct{ NetworkID, PeerID string }

func (n Names) base(name, version string) string {
	var parts []string
	for _, p := range []string{n.NetworkID, n.PeerID, name, version} {
		if p != "" {
			parts = append(parts, p)
		}
	}
	return strings.Join(parts, "-")
}

// Container returns the name of a chaincode's container.
func (n Names) Container(name, version string) string {
	return regexp.MustCompile(`[^a-zA-Z0-9-_.]`).ReplaceAllString(n.base(name, version), "-")
}

// Image returns the name of a chaincode's image.
func (n Names) Image(name, version string) (string, error) {
	sum := sha256.Sum256([]byte(n.base(name, version)))
	image := strings.ToLower(n.Container(name, version) + "-" + hex.EncodeToString(sum[:]))
	if !regexp.MustCompile(`^[a-z0-9]+(([._-][a-z0-9]+)+)?$`).MatchString(image) {
		return "", fmt.Errorf("Error constructing Docker VM Name. '%s' breaks Docker's repository naming rules", image) //nolint:staticcheck // the reference's text
	}
	return image, nil
}
