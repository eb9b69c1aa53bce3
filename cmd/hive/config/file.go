package config

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

// readFile finds the file, checks its keys and gives it to viper.
func (l *loader) readFile() error {
	path, doc, err := l.findFile()
	if err != nil || path == "" {
		return err
	}
	l.file = path
	// First as plain data: this finds duplicate keys and anchors that hold
	// themselves, which the walk over the nodes below must not meet.
	var data map[string]any
	if err := yaml.Unmarshal(doc, &data); err != nil {
		return &Error{Source: path, Reason: yamlReason(err)}
	}
	var root yaml.Node
	if err := yaml.Unmarshal(doc, &root); err != nil {
		return &Error{Source: path, Reason: yamlReason(err)}
	}
	if len(root.Content) == 0 {
		return nil // nothing but comments
	}
	if err := (keyChecker{path}).check(root.Content[0], fileRules(), ""); err != nil {
		return err
	}
	l.v.SetConfigType("yaml")
	if err := l.v.ReadConfig(bytes.NewReader(doc)); err != nil {
		return &Error{Source: path, Reason: yamlReason(err)}
	}
	return nil
}

// findFile returns the first file of the search order that exists; empty: none
// does. A file that was asked for by name must exist.
func (l *loader) findFile() (path string, doc []byte, err error) {
	named, source := os.Getenv("HIVE_CONFIG"), "HIVE_CONFIG"
	if flag := l.opts.Flags.Lookup("config"); flag.Changed {
		named, source = flag.Value.String(), "--config"
	}
	if named != "" || source == "--config" {
		doc, err := os.ReadFile(named) //nolint:gosec // the operator names it, by --config or HIVE_CONFIG
		if err != nil {
			return "", nil, &Error{Source: source, Reason: err.Error()}
		}
		return named, doc, nil
	}
	for _, path := range l.searchPath() {
		doc, err := os.ReadFile(path) //nolint:gosec // one of the places of the configuration
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", nil, &Error{Source: path, Reason: err.Error() + "; give another file with --config"}
		}
		return path, doc, nil
	}
	return "", nil, nil
}

func (l *loader) searchPath() []string {
	paths := []string{"hive.yaml"}
	if dir := xdgDir("XDG_CONFIG_HOME", ".config"); dir != "" {
		paths = append(paths, filepath.Join(dir, "hive", "hive.yaml"))
	}
	return append(paths, filepath.Join(l.opts.EtcDir, "hive.yaml"))
}

// xdgDir is one of the base directories of the XDG specification: a variable
// that is unset or relative counts as its default. Empty: there is no home.
func xdgDir(variable, inHome string) string {
	if dir := os.Getenv(variable); filepath.IsAbs(dir) {
		return dir
	}
	home, err := os.UserHomeDir()
	if err != nil || !filepath.IsAbs(home) {
		return ""
	}
	return filepath.Join(home, inHome)
}

// yamlReason is the first line of a YAML error, without the parser's name.
func yamlReason(err error) string {
	var types *yaml.TypeError
	if errors.As(err, &types) && len(types.Errors) > 0 {
		reason := types.Errors[0]
		if strings.Contains(reason, "into map[string]interface {}") {
			return "expected 'key: value' lines"
		}
		return reason
	}
	return strings.TrimPrefix(err.Error(), "yaml: ")
}
