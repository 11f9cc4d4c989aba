package chanconfig

import (
	"errors"
	"fmt"
	"strings"
)

// maxIDLength is the longest channel id or config key.
const maxIDLength = 249

// ValidateChannelID checks the form of a channel id: [a-z][a-z0-9.-]*, at most
// 249 characters (IDENTITY-CONFIG §5.1).
func ValidateChannelID(id string) error {
	switch {
	case id == "":
		return errors.New("channel ID illegal, cannot be empty")
	case len(id) > maxIDLength:
		return fmt.Errorf("channel ID illegal, cannot be longer than %d", maxIDLength)
	case id[0] < 'a' || id[0] > 'z' || !only(id, func(c byte) bool { return isLower(c) || isDigit(c) || c == '.' || c == '-' }):
		return fmt.Errorf("channel ID '%s' contains illegal characters", id)
	}
	return nil
}

// validateConfigID checks the form of a key of the config tree:
// [a-zA-Z0-9.-]+, at most 249 characters, neither "." nor "..".
func validateConfigID(id string) error {
	switch {
	case id == "":
		return errors.New("config ID illegal, cannot be empty")
	case len(id) > maxIDLength:
		return fmt.Errorf("config ID illegal, cannot be longer than %d", maxIDLength)
	case id == "." || id == "..":
		return fmt.Errorf("name '%s' for config ID is not allowed", id)
	case !only(id, func(c byte) bool { return isLower(c) || c >= 'A' && c <= 'Z' || isDigit(c) || c == '.' || c == '-' }):
		return fmt.Errorf("config ID '%s' contains illegal characters", id)
	}
	return nil
}

// validateModPolicy checks the form of a mod_policy (IDENTITY-CONFIG §6.3).
func validateModPolicy(name string) error {
	if name == "" {
		return errors.New("mod_policy not set")
	}
	for i, part := range strings.Split(strings.TrimPrefix(name, "/"), "/") {
		if err := validateConfigID(part); err != nil {
			return fmt.Errorf("path element at %d is invalid: %w", i, err)
		}
	}
	return nil
}

func only(s string, ok func(byte) bool) bool {
	for i := range len(s) {
		if !ok(s[i]) {
			return false
		}
	}
	return true
}

func isLower(c byte) bool { return c >= 'a' && c <= 'z' }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
