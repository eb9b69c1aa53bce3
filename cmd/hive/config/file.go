package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"rbeehive/hive/trust"
)

// readFile finds the file, checks its keys and gives it to viper. It reports whether there
// is anything that can be looked at further.
func (l *loader) readFile() bool {
	path, text, err := l.findFile()
	if wrong, ok := errors.AsType[*Error](err); ok {
		l.add(wrong)
	}
	if err != nil || path == "" {
		return err == nil
	}
	l.file = path
	d := newDocument(path, text)
	if d.root != nil && !d.broken {
		d.checkKeys(d.root, fileRules(), "")
	}
	slices.SortStableFunc(d.Mistakes, byLine)
	l.Mistakes = append(l.Mistakes, d.Mistakes...)
	if was := l.opts.Previous; d.root == nil && !d.broken && was != nil && was.File == path && !was.Empty {
		l.add(d.mistake(1, "", "is empty now, and what hive runs with came from it; write the settings and the worker types again, or to have none the line {}, or restart hive"))
	}
	if d.broken {
		return false
	}
	l.root = d.root
	for key, value := range d.data { // that it has no keys has been noted, and the defaults of these count
		if _, ok := value.(map[string]any); !ok && value != nil && isGroup(key) {
			delete(d.data, key)
		}
	}
	if err := l.v.MergeConfigMap(d.data); err != nil {
		l.add(d.mistake(1, "", "%v", err))
	}
	return true
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
		if errors.Is(err, fs.ErrNotExist) {
			err = cmp.Or(dangling(named), err)
		}
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
		if link := dangling(path); link != nil {
			return "", nil, &Error{Source: path, Reason: link.Error()}
		}
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
		if link := dangling(path); link != nil {
			err = link
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
	return errors.Is(err, fs.ErrNotExist) && dangling(path) == nil
}

// dangling returns an error if a path does not exist because a symbolic link on its way, or
// at its end, leads to nothing: somebody wanted something to be there.
func dangling(path string) error {
	for at := filepath.Clean(path); ; at = filepath.Dir(at) {
		info, err := os.Lstat(at) //nolint:gosec // the operator names it
		if err == nil && info.Mode()&fs.ModeSymlink != 0 {
			_, err = os.Stat(at) //nolint:gosec // the operator names it
			if target, readErr := os.Readlink(at); errors.Is(err, fs.ErrNotExist) && readErr == nil {
				return fmt.Errorf("%s is a symbolic link to %s, which does not exist; restore that, or remove the link", at, target)
			}
		}
		if err == nil || at == filepath.Dir(at) {
			return nil
		}
	}
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
