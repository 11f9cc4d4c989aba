package profile

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/go-viper/mapstructure/v2"

	"github.com/heddle-ledger/heddle/internal/flog"
)

const (
	fileName  = "configtx.yaml"
	envPrefix = "CONFIGTX_"
	systemDir = "/etc/hyperledger/fabric"
)

// Source says where configtx.yaml is and what may override it.
type Source struct {
	// Dir holds configtx.yaml. If empty, the directory is FABRIC_CFG_PATH if
	// that is set, else the first of the working directory and
	// /etc/hyperledger/fabric that has the file.
	Dir string
	// Getenv reads the environment; nil means that there is none.
	Getenv func(string) string
	// Log receives what the reference logs as common.tools.configtxgen….
	Log *flog.Logger
}

// ErrProfileNotFound is wrapped by Load when the file has no such profile.
var ErrProfileNotFound = errors.New("Could not find profile: ")

func (s Source) getenv(key string) string {
	if s.Getenv == nil {
		return ""
	}
	return s.Getenv(key)
}

func (s Source) log() *flog.Logger {
	if s.Log == nil {
		return flog.Nop()
	}
	return s.Log.Named("localconfig")
}

// Load reads one profile. Variables CONFIGTX_… override the fields below the
// profile that are present in the file (IDENTITY-CONFIG §8 "Environment").
func (s Source) Load(name string) (*Profile, error) {
	path, f, err := s.read("PROFILES." + strings.ToUpper(name) + ".")
	if err != nil {
		return nil, err
	}
	p, ok := f.Profiles[name]
	if !ok || p == nil {
		return nil, fmt.Errorf("%w %s", ErrProfileNotFound, name)
	}
	c := completer{dir: filepath.Dir(path), log: s.log()}
	if err := c.profile(p); err != nil {
		return nil, err
	}
	s.log().Infof("Loaded configuration: %s", path)
	return p, nil
}

// LoadTopLevel reads the whole file and completes its top-level sections.
func (s Source) LoadTopLevel() (*File, error) {
	path, f, err := s.read("")
	if err != nil {
		return nil, err
	}
	c := completer{dir: filepath.Dir(path), log: s.log()}
	if err := c.file(f); err != nil {
		return nil, err
	}
	s.log().Infof("Loaded configuration: %s", path)
	return f, nil
}

func (s Source) read(profilePrefix string) (path string, f *File, err error) {
	if path, err = s.find(); err != nil {
		return "", nil, fmt.Errorf("Error reading configuration: %w", err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", nil, fmt.Errorf("Error reading configuration: %w", err)
	}
	tree, err := parseYAML(raw)
	if err != nil {
		return "", nil, fmt.Errorf("Error reading configuration: %w", err)
	}
	s.override(tree, "", profilePrefix)
	f = &File{}
	if err := decode(tree, f); err != nil {
		return "", nil, fmt.Errorf("Error unmarshaling config into struct: %w", err)
	}
	return path, f, nil
}

func (s Source) find() (string, error) {
	dirs := []string{".", systemDir}
	if d := s.getenv("FABRIC_CFG_PATH"); d != "" {
		dirs = []string{d}
	}
	if s.Dir != "" {
		dirs = []string{s.Dir}
	}
	for _, d := range dirs {
		path, err := filepath.Abs(filepath.Join(d, fileName))
		if err != nil {
			return "", err
		}
		if st, err := os.Stat(path); err == nil && !st.IsDir() {
			return path, nil
		}
	}
	return "", fmt.Errorf("could not find %s in %s. Please make sure that FABRIC_CFG_PATH or -configPath is set to a path which contains %s", fileName, strings.Join(dirs, ", "), fileName)
}

// override replaces what variables are set for. prefix is the path of the map
// with a dot at its end, in upper case. Members of lists cannot be overridden.
func (s Source) override(m map[string]any, prefix, profilePrefix string) {
	for key, v := range m {
		path := prefix + strings.ToUpper(key)
		name := path
		if profilePrefix != "" {
			name = strings.TrimPrefix(path, profilePrefix)
		}
		if text := s.getenv(envPrefix + strings.ReplaceAll(name, ".", "_")); text != "" {
			m[key] = text
		} else if sub, ok := v.(map[string]any); ok {
			s.override(sub, path+".", profilePrefix)
		}
	}
}

// decode fills a struct; unknown keys are an error.
func decode(tree map[string]any, into any) error {
	d, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		Result: into, ErrorUnused: true, WeaklyTypedInput: true, DecodeHook: convert,
	})
	if err != nil {
		return err
	}
	return d.Decode(tree)
}

// convert holds the notations of values that mapstructure does not know.
func convert(_, to reflect.Type, data any) (any, error) {
	if m, ok := data.(map[string]any); ok && to.Kind() == reflect.String {
		return fileContent(m)
	}
	text, ok := data.(string)
	if !ok {
		return data, nil
	}
	switch {
	case to == reflect.TypeFor[time.Duration]():
		if d, err := time.ParseDuration(text); err == nil {
			return d, nil
		}
	case to.Kind() == reflect.Slice && strings.HasPrefix(text, "[") && strings.HasSuffix(text, "]"):
		list := strings.Split(text[1:len(text)-1], ",")
		for i := range list {
			list[i] = strings.TrimSpace(list[i])
		}
		return list, nil
	case to.Kind() == reflect.Uint32:
		return byteSize(text)
	case to.Kind() == reflect.Bool:
		switch strings.ToLower(text) {
		case "y", "yes", "on":
			return true, nil
		case "n", "no", "off":
			return false, nil
		}
	}
	return data, nil
}

// fileContent reads the file that stands for a string: {File: path}.
func fileContent(m map[string]any) (any, error) {
	for key, v := range m {
		if path, ok := v.(string); ok && strings.EqualFold(key, "File") && len(m) == 1 {
			raw, err := os.ReadFile(path)
			return string(raw), err
		}
	}
	return m, nil
}

var sizePattern = regexp.MustCompile(`(?i)^(\d+)\s*([kmg])?b?$`)

// byteSize parses sizes such as "99 MB" and "512k". What is no size is left to
// the decoder.
func byteSize(text string) (any, error) {
	parts := sizePattern.FindStringSubmatch(strings.TrimSpace(text))
	if parts == nil {
		return text, nil
	}
	n, err := strconv.ParseUint(parts[1], 10, 64)
	shift := map[string]uint{"": 0, "k": 10, "m": 20, "g": 30}[strings.ToLower(parts[2])]
	if err != nil || n > math.MaxUint32>>shift {
		return nil, fmt.Errorf("value '%s' overflows uint32", text)
	}
	return uint32(n << shift), nil
}
