package config

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"rbeehive/hive/catalog"
	"rbeehive/hive/models"
	"rbeehive/hive/rbee"
	"rbeehive/hive/setting"
)

var (
	hiveIDRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
	hostRE   = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)
)

// The layers, lowest first.
const (
	byDefault = iota
	byFile
	byVariable
	byFlag
)

// origin is the layer that a key's value comes from.
func (l *loader) origin(key string) (layer int, name string) {
	if flag := l.opts.Flags.Lookup(flagKeys()[key]); flag != nil && flag.Changed {
		return byFlag, "--" + flag.Name
	}
	for _, name := range envNames(key) {
		if slices.Contains(envKeys(), key) && os.Getenv(name) != "" {
			return byVariable, name
		}
	}
	shown := strings.ReplaceAll(key, "::", ".")
	if l.file != "" && l.v.InConfig(key) {
		return byFile, l.file + ": " + shown
	}
	return byDefault, shown
}

// source says where the value at a decoder's path ("ports.range",
// "workers[0].stop.grace") was given.
func (l *loader) source(path string) string {
	if strings.HasPrefix(path, "workers[") {
		return l.file + ": " + strings.Replace(path, "].", "]: ", 1)
	}
	key, _, _ := strings.Cut(strings.ReplaceAll(path, ".", "::"), "[")
	_, name := l.origin(key)
	if index := strings.Index(path, "["); index >= 0 {
		name += path[index:]
	}
	return name
}

func (l *loader) fail(path, format string, a ...any) error {
	return &Error{Source: l.source(path), Reason: fmt.Sprintf(format, a...)}
}

// check makes a Config of the settings, or returns the first error.
func (l *loader) check(s *settings) (*Config, error) {
	for _, f := range setting.Fields(s) {
		if why := f.Flaw(); why != "" {
			return nil, l.fail(f.Key, "%s", why)
		}
	}
	c := s.Config
	c.Workers = s.Workers
	steps := []func(*settings, *Config) error{
		l.checkNames, l.checkListen, l.checkAdvertise, l.checkSocket, l.checkAccess, l.checkTLS, l.checkDataDir, l.checkInstalled, l.checkFixed, l.checkModels, l.checkWorkerUser, l.checkEntries,
	}
	for _, step := range steps {
		if err := step(s, c); err != nil {
			return nil, err
		}
	}
	takeOver, err := l.opts.Flags.GetBool("take-over")
	if err != nil {
		return nil, fmt.Errorf("read flags: %w", err)
	}
	c.TakeOver = takeOver
	return c, nil
}

func (l *loader) checkNames(s *settings, _ *Config) error {
	if !hiveIDRE.MatchString(s.HiveID) {
		return l.fail("hive_id", "%q: expected letters, digits, '.', '_' and '-', at most 63, the first a letter or a digit", s.HiveID)
	}
	if _, err := rbee.NormalizeURL(s.QueenURL); s.QueenURL != "" && err != nil {
		return l.fail("queen_url", "%q: expected a URL such as http://queen.lan:7833", s.QueenURL)
	}
	for i, host := range s.AllowedHosts {
		if _, err := netip.ParseAddr(host); err != nil && !hostRE.MatchString(host) {
			return l.fail(fmt.Sprintf("allowed_hosts[%d]", i), "%q: expected a host name without a port, such as gpubox.lan", host)
		}
	}
	return nil
}

func (l *loader) checkDataDir(_ *settings, c *Config) error {
	dir := cmp.Or(c.DataDir, DefaultDataDir(l.opts.UID))
	if dir == "" {
		return l.fail("data_dir", "neither XDG_STATE_HOME nor HOME is set; give a directory with --data-dir")
	}
	if strings.HasPrefix(dir, "~") {
		return l.fail("data_dir", "%q: '~' means a home directory only to a shell; write the path out", dir)
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		return l.fail("data_dir", "%v", err)
	}
	c.DataDir = abs
	return nil
}

// checkEntries makes the catalog once: later the line numbers are not known.
func (l *loader) checkEntries(_ *settings, c *Config) error {
	_, err := catalog.New(c.Workers, anyProgram)
	wrong, ok := errors.AsType[*catalog.EntryError](err)
	if !ok {
		return err
	}
	if wrong.File != "" || l.root == nil { // it was checked on its own
		return &Error{Source: wrong.File + ": " + wrong.Key, Reason: wrong.Reason}
	}
	entry := l.root
	if _, list := pairOf(l.root, "workers"); list != nil {
		if list.Kind == yaml.AliasNode {
			list = list.Alias
		}
		entry = list.Content[wrong.Index]
	}
	source := fmt.Sprintf("%s:%d: workers[%d]", l.file, nodeOf(entry, wrong.Key).Line, wrong.Index)
	if wrong.Name != "" {
		source += " (" + wrong.Name + ")"
	}
	return &Error{Source: source + ": " + wrong.Key, Reason: wrong.Reason}
}

func (l *loader) checkInstalled(_ *settings, c *Config) error { return c.addInstalled(c.DataDir) }

// DefaultDataDir is the default of data_dir; empty: there is no home.
func DefaultDataDir(uid int) string {
	if uid == 0 {
		return "/var/lib/hive"
	}
	dir := xdgDir("XDG_STATE_HOME", filepath.Join(".local", "state"))
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, "hive")
}

// checkFixed finds entries whose own port could never be leased to them.
func (l *loader) checkFixed(_ *settings, c *Config) error {
	for i, w := range c.Workers {
		for port := w.Port; port > 0 && port < w.Port+max(1, w.Ports); port++ {
			fail := func(format string, a ...any) error {
				if w.File != "" {
					return &Error{Source: w.File + ": port", Reason: fmt.Sprintf(format, a...)}
				}
				return l.fail(fmt.Sprintf("workers[%d].port", i), format, a...)
			}
			if slices.ContainsFunc(slices.Concat(c.Listen, c.Passed), func(a Address) bool { return a.Socket == "" && int(a.TCP.Port()) == port }) {
				return fail("%d is the port of hive's own API (listen)", port)
			}
			for _, r := range c.Ports.Reserved {
				if port <= 65535 && r.Contains(uint16(port)) {
					return fail("%d is in ports.reserved, which is never given out; remove it there: the port of an entry is reserved for it anyway", port)
				}
			}
		}
	}
	return nil
}

// checkModels takes the token only from the environment: a file is shown, copied and kept.
func (l *loader) checkModels(_ *settings, c *Config) error {
	c.Models.Endpoint = strings.TrimRight(cmp.Or(c.Models.Endpoint, models.DefaultEndpoint), "/")
	if _, err := models.ParseEndpoint(c.Models.Endpoint); err != nil {
		return l.fail("models.endpoint", "%v", err)
	}
	if c.Models.Dir != "" && !filepath.IsAbs(c.Models.Dir) {
		return l.fail("models.dir", "%q: expected an absolute path", c.Models.Dir)
	}
	token := os.Getenv("HF_TOKEN")
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return &Error{Source: "HF_TOKEN", Reason: "expected a token of visible ASCII characters (its value is not shown)"}
	}
	c.Models.Token = token
	return nil
}
