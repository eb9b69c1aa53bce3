package config

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"rbeehive/hive/trust"
)

// readFile finds the file, checks its keys and gives it to viper.
func (l *loader) readFile() error {
	path, doc, err := l.findFile()
	if err != nil || path == "" {
		return err
	}
	l.file = path
	// First as plain data: this finds duplicate keys and recursive anchors, which the walk
	// over the nodes below must not meet.
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
	l.root = root.Content[0]
	if err := (keyChecker{path}).check(l.root, fileRules(), ""); err != nil {
		return err
	}
	l.v.SetConfigType("yaml")
	if err := l.v.ReadConfig(bytes.NewReader(doc)); err != nil {
		return &Error{Source: path, Reason: yamlReason(err)}
	}
	return nil
}

// maxFileSize is how much is read of a file, in bytes.
const maxFileSize = 1 << 20

// findFile returns the file that was named, which must exist, or else the first of the
// search order that exists; empty: none does. Each is read only if it is trusted (package
// trust).
func (l *loader) findFile() (path string, doc []byte, err error) {
	if l.opts.Previous != nil {
		return l.sameFile(l.opts.Previous.File)
	}
	named, source := os.Getenv("HIVE_CONFIG"), "HIVE_CONFIG"
	if flag := l.opts.Flags.Lookup("config"); flag.Changed {
		named, source = flag.Value.String(), "--config"
	}
	// --config "" is a mistake, and not a wish for the search.
	if named != "" || source == "--config" {
		doc, err := trust.ReadFile(named, maxFileSize)
		if err != nil {
			return "", nil, &Error{Source: source, Reason: err.Error()}
		}
		return named, doc, nil
	}
	return l.search()
}

// sameFile reads the file of an earlier Load, and searches for no other: one that was
// created in a place of the search order meanwhile is not what hive was started with.
func (l *loader) sameFile(path string) (string, []byte, error) {
	if path == "" {
		// Whoever has written one expects it to count: silence would look like success.
		if found, _, err := l.search(); err == nil && found != "" {
			return "", nil, &Error{Source: found, Reason: "will be read at the next start of hive: this one was started without a configuration file, and a reload does not search for one"}
		}
		return "", nil, nil
	}
	doc, err := trust.ReadFile(path, maxFileSize)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil, &Error{Source: path, Reason: "no longer exists, and a reload reads the file that hive was started with; restore it, or restart hive"}
	case err != nil:
		return "", nil, unreadable(path, err)
	}
	return path, doc, nil
}

// unreadable is the error for a file or directory that could not be read, or is not
// trusted. Its path is not repeated.
func unreadable(path string, err error) *Error {
	reason := err.Error()
	if e, ok := errors.AsType[*trust.Error](err); ok && e.Path == path {
		reason = e.Reason + "; " + e.Remedy
	}
	return &Error{Source: path, Reason: reason}
}

// search reads the first file of the search order that exists. One that is not trusted is
// an error: its author expects it to apply.
func (l *loader) search() (path string, doc []byte, err error) {
	for _, path := range l.searchPath() {
		doc, err := trust.ReadFile(path, maxFileSize)
		if absent(path, err) {
			continue
		}
		if err != nil {
			wrong := unreadable(path, err)
			if errors.Is(err, trust.ErrUntrusted) {
				wrong.Reason += "; or"
			} else {
				wrong.Reason += ";"
			}
			wrong.Reason += " give another file with --config"
			return "", nil, wrong
		}
		return path, doc, nil
	}
	return "", nil, nil
}

// absent reports whether a path could not be read because it does not exist. A directory
// above it may be one that is not trusted, which says nothing about that.
func absent(path string, err error) bool {
	if errors.Is(err, trust.ErrUntrusted) {
		_, err = os.Lstat(path)
	}
	return errors.Is(err, fs.ErrNotExist)
}

// workingDirFile is the configuration file in the working directory.
const workingDirFile = "hive.yaml"

// searchPath is the search order. For root it has no file of the working directory: whoever
// can make root start hive in a directory would be root with a file there.
func (l *loader) searchPath() []string {
	var paths []string
	if l.opts.UID != 0 {
		paths = append(paths, workingDirFile)
	} else if _, err := os.Lstat(workingDirFile); err == nil {
		l.unread = workingDirFile
	}
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
