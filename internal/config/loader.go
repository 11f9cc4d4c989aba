// Package config reads core.yaml and orderer.yaml once into typed values
// (SURFACE §3).
//
// It is the only user of viper and, together with flags in cmd, the only reader
// of the environment: YAML first, then CORE_* or ORDERER_* variables; relative
// paths, durations and sizes are resolved here. Rooms own plain Config structs,
// into which the composition roots copy. The package keeps no state and starts
// no goroutine. Composition roots and cmd import it.
package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cast"
	"github.com/spf13/viper"
)

// DefaultDirectory is searched after the working directory when
// FABRIC_CFG_PATH is not set.
const DefaultDirectory = "/etc/hyperledger/fabric"

// pathVariable names the directory of the configuration files.
const pathVariable = "FABRIC_CFG_PATH"

// ErrNotFound is returned when no configuration file was found.
var ErrNotFound = errors.New("configuration file not found")

// Directories are the directories in which a configuration file is looked for,
// in order.
func Directories() ([]string, error) {
	dir := os.Getenv(pathVariable)
	if dir == "" {
		return []string{".", DefaultDirectory}, nil
	}
	if _, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("FABRIC_CFG_PATH %s does not exist", dir)
	}
	return []string{dir}, nil
}

// File is a configuration file with the overrides of the environment. Keys are
// dotted paths and case-insensitive; an empty variable counts as not set.
type File struct {
	v    *viper.Viper
	path string
	// doubts are the values that were read and do not mean what they seem to.
	doubts []string
}

// doubt notes that a value is not what it should be, and what is used instead.
// The reference says nothing and does the same.
func (f *File) doubt(key, isNot string, used any) {
	f.doubts = append(f.doubts, fmt.Sprintf("%s is [%v], which is no %s: %v is used", key, f.v.Get(key), isNot, used))
}

// find looks for name.yaml in the configuration directories.
func find(name string) (string, error) {
	dirs, err := Directories()
	if err != nil {
		return "", err
	}
	for _, d := range dirs {
		p := filepath.Join(d, name+".yaml")
		if info, err := os.Stat(p); err == nil && !info.IsDir() {
			return p, nil
		}
	}
	return "", ErrNotFound
}

// load reads name.yaml; variables start with prefix and an underscore.
func load(name, prefix string) (*File, error) {
	path, err := find(name)
	if err != nil {
		return nil, err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	v := viper.New()
	v.SetConfigFile(abs)
	v.SetEnvPrefix(prefix)
	v.SetEnvKeyReplacer(strings.NewReplacer(".", "_"))
	v.AutomaticEnv()
	if err := v.ReadInConfig(); err != nil {
		return nil, err
	}
	return &File{v: v, path: abs}, nil
}

// Directory is the directory of the file in use, absolute.
func (f *File) Directory() string { return filepath.Dir(f.path) }

// IsSet tells whether a key has a value.
func (f *File) IsSet(key string) bool { return f.v.Get(key) != nil }

// String returns a text value.
func (f *File) String(key string) string { return f.v.GetString(key) }

// Bool returns a switch.
func (f *File) Bool(key string) bool {
	b, err := cast.ToBoolE(f.v.Get(key))
	if err != nil {
		f.doubt(key, "boolean", b)
	}
	return b
}

// Int returns a number.
func (f *File) Int(key string) int {
	n, err := cast.ToIntE(f.v.Get(key))
	if err != nil {
		f.doubt(key, "whole number", n)
	}
	return n
}

// positive returns a number, or def in place of one that is not positive.
func (f *File) positive(key string, def int) int {
	n, err := cast.ToIntE(f.v.Get(key))
	if err == nil && n > 0 {
		return n
	}
	if f.IsSet(key) {
		f.doubt(key, "whole number above zero", def)
	}
	return def
}

// Duration returns a duration in Go syntax.
func (f *File) Duration(key string) time.Duration {
	d, err := cast.ToDurationE(f.v.Get(key))
	if err != nil {
		f.doubt(key, "duration", d)
	}
	return d
}

// List returns a list; a text is split at white space.
func (f *File) List(key string) []string { return f.v.GetStringSlice(key) }

// Path returns a file name, relative ones resolved against the directory of the
// configuration file. An empty one stays empty.
func (f *File) Path(key string) string { return f.resolve(f.String(key)) }

// Paths returns a list of file names resolved like Path.
func (f *File) Paths(key string) []string {
	list := f.List(key)
	out := make([]string, 0, len(list))
	for _, p := range list {
		out = append(out, f.resolve(p))
	}
	return out
}

func (f *File) resolve(p string) string {
	if p == "" || filepath.IsAbs(p) {
		return p
	}
	return filepath.Join(f.Directory(), p)
}

// durationOr replaces a duration that is not positive.
func durationOr(d, def time.Duration) time.Duration {
	if d <= 0 {
		return def
	}
	return d
}
