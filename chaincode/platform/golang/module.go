package golang

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// inModule makes the source of a directory inside a Go module.
func (s *Source) inModule(dir string) (*Source, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("path to chaincode: %w", err)
	}
	packages, err := s.tool.list(dir, moduleEnv(), ".")
	if err != nil {
		return nil, fmt.Errorf("find the module of %s: %w", dir, err)
	}
	own := packages[len(packages)-1] // dependencies come first
	if own.Module == nil || own.Module.Dir == "" {
		return nil, fmt.Errorf("path to chaincode is neither below GOPATH nor in a module: %s", dir)
	}
	return &Source{Path: own.ImportPath, tool: s.tool, dir: own.Dir, module: own.Module.Dir}, nil
}

func moduleEnv() []string { return []string{"GO111MODULE=on", "GOWORK=off"} }

// moduleFiles lays a module out with its root at src/ (CHAINCODE §6.6, layouts
// 1 and 2): the packages of the module that the chaincode needs, and the whole
// vendor directory if there is one. Without it the builder needs the modules.
func (s *Source) moduleFiles() ([]file, error) {
	packages, err := s.tool.list(s.dir, moduleEnv(), ".")
	if err != nil {
		return nil, fmt.Errorf("Error obtaining dependencies for %s: %w", s.Path, err) //nolint:staticcheck // the reference's text
	}
	metadata, err := s.metadata()
	if err != nil {
		return nil, err
	}
	files := metadata
	for _, name := range []string{"go.mod", "go.sum"} {
		if p := filepath.Join(s.module, name); isFile(p) {
			files = append(files, file{"src/" + name, p})
		}
	}
	for _, p := range packages {
		if p.Module == nil || !p.Module.Main {
			continue
		}
		more, err := s.packageFiles(p)
		if err != nil {
			return nil, err
		}
		files = append(files, more...)
	}
	vendor, err := s.vendorFiles()
	if err != nil {
		return nil, err
	}
	return append(files, vendor...), nil
}

// packageFiles returns the sources of a package of the module, and what it
// embeds.
func (s *Source) packageFiles(p listed) ([]file, error) {
	rel, err := filepath.Rel(s.module, p.Dir)
	if err != nil {
		return nil, fmt.Errorf("place package %s: %w", p.ImportPath, err)
	}
	rel = filepath.ToSlash(rel)
	files, err := sources(p.Dir, rel)
	if err != nil {
		return nil, err
	}
	for _, name := range p.EmbedFiles {
		if !isSource(name) || filepath.Dir(name) != "." {
			files = append(files, file{"src/" + rel + "/" + filepath.ToSlash(name), filepath.Join(p.Dir, name)})
		}
	}
	for i := range files {
		files[i].name = cleanName(files[i].name)
	}
	return files, nil
}

func (s *Source) vendorFiles() ([]file, error) {
	var files []file
	dir := filepath.Join(s.module, "vendor")
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		rel, err := filepath.Rel(s.module, p)
		if err != nil {
			return err
		}
		files = append(files, file{"src/" + filepath.ToSlash(rel), p})
		return nil
	})
	if err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("read vendor directory: %w", err)
	}
	return files, nil
}

func cleanName(name string) string { return filepath.ToSlash(filepath.Clean(name)) }

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
