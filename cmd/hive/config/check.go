package config

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"rbeehive/alloc"
	"rbeehive/hive"
	"rbeehive/hive/access"
	"rbeehive/hive/catalog"
	hivejobs "rbeehive/hive/jobs"
	"rbeehive/hive/logs"
	"rbeehive/hive/models"
	"rbeehive/hive/rbee"
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
	c := &Config{
		File: l.file, Unread: l.unread, HiveID: s.HiveID, AllowedHosts: s.AllowedHosts,
		Shutdown: hive.Shutdown(s.Shutdown), AuditInterval: s.Audit.Interval,
		LogLevel: s.LogLevel, LogFormat: s.LogFormat, Workers: s.Workers,
		Logs: logs.Config{MaxSize: int64(s.Logs.MaxSize), Keep: s.Logs.Keep},
		Settings: hive.Settings{
			QueenURL: s.QueenURL, StartParallel: s.StartParallel, WorkersKeep: s.WorkersKeep, Orphans: hive.Orphans(s.Audit.Orphans), LogsMaxTotal: int64(s.Logs.MaxTotal),
			Jobs: hivejobs.Config{
				Retention: s.Jobs.Retention, Keep: s.Jobs.Keep, MaxQueued: s.Jobs.MaxQueued,
				MaxQueueAge: s.Jobs.MaxQueueAge, StreamWait: s.Jobs.StreamWait,
			},
			Backup: hive.BackupConfig{Interval: s.Backup.Interval, Keep: s.Backup.Keep},
		},
	}
	steps := []func(*settings, *Config) error{
		l.checkChoices, l.checkNames, l.checkListen, l.checkAdvertise, l.checkSocket, l.checkAccess, l.checkTLS, l.checkDataDir, l.checkInstalled, l.checkPorts, l.checkDurations, l.checkLogs, l.checkBackup, l.checkModels, l.checkWorkerUser, l.checkEntries,
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

// checkChoices checks the keys that take one of a few words.
func (l *loader) checkChoices(s *settings, _ *Config) error {
	for _, c := range []struct {
		path, value string
		words       []string
	}{
		{"shutdown", s.Shutdown, []string{"keep", "stop"}},
		{"log_level", s.LogLevel, []string{"error", "warn", "info", "debug", "trace"}},
		{"log_format", s.LogFormat, []string{"text", "json"}},
		{"ports.policy", s.Ports.Policy, []string{"lowest", "sequential"}},
		{"auth", s.Auth, []string{string(access.ByUser), string(access.ByToken), string(access.Anyone)}},
		{"audit.orphans", s.Audit.Orphans, []string{"keep", "kill"}},
	} {
		if c.value != "" && !slices.Contains(c.words, c.value) {
			return l.fail(c.path, "%q: expected %s", c.value, strings.Join(c.words, " or "))
		}
	}
	return nil
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

func (l *loader) checkDataDir(s *settings, c *Config) error {
	dir := s.DataDir
	if dir == "" {
		dir = DefaultDataDir(l.opts.UID)
	}
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

func (l *loader) checkPorts(s *settings, c *Config) error {
	const want = "expected ports from 1 to 65535, as in 8080-9999"
	r, err := alloc.ParseRange(s.Ports.Range)
	if err != nil {
		return l.fail("ports.range", "%q: %s", s.Ports.Range, want)
	}
	c.Ports = hive.PortsConfig{Range: r, Policy: alloc.Policy(s.Ports.Policy)}
	for i, text := range s.Ports.Reserved {
		r, err := alloc.ParseRange(text)
		if err != nil {
			return l.fail(fmt.Sprintf("ports.reserved[%d]", i), "%q: expected a port or a range of ports, as in 8188 or 9000-9010", text)
		}
		c.Ports.Reserved = append(c.Ports.Reserved, r)
	}
	c.Ports.Quarantine, c.Ports.PerUser = s.Ports.Quarantine, s.Ports.PerUser
	if s.Ports.PerUser < 1 {
		return l.fail("ports.per_user", "%d: expected at least 1", s.Ports.PerUser)
	}
	return l.checkFixed(c)
}

// checkFixed finds entries whose own port could never be leased to them.
func (l *loader) checkFixed(c *Config) error {
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

// minJobsKept gives those who wait for a job time to read its result.
const minJobsKept = 100

func (l *loader) checkDurations(s *settings, _ *Config) error {
	for _, d := range []struct {
		path  string
		value time.Duration
		min   time.Duration
	}{
		{"jobs.retention", s.Jobs.Retention, time.Minute},
		{"jobs.max_queue_age", s.Jobs.MaxQueueAge, time.Second},
		{"jobs.stream_wait", s.Jobs.StreamWait, time.Second},
		{"workers_keep", s.WorkersKeep, time.Second},
		{"audit.interval", s.Audit.Interval, time.Second},
		{"ports.quarantine", s.Ports.Quarantine, 0},
	} {
		if d.value < d.min {
			return l.fail(d.path, "%v: expected at least %v", d.value, d.min)
		}
	}
	if s.StartParallel < 1 {
		return l.fail("start_parallel", "%d: expected at least 1", s.StartParallel)
	}
	if s.Jobs.Keep < minJobsKept {
		return l.fail("jobs.keep", "%d: expected at least %d", s.Jobs.Keep, minJobsKept)
	}
	if s.Jobs.MaxQueued < 1 {
		return l.fail("jobs.max_queued", "%d: expected at least 1", s.Jobs.MaxQueued)
	}
	return nil
}

// minBackupInterval: each backup is a copy of the whole file.
const minBackupInterval = time.Minute

func (l *loader) checkBackup(s *settings, _ *Config) error {
	if s.Backup.Interval != 0 && s.Backup.Interval < minBackupInterval {
		return l.fail("backup.interval", "%v: expected at least %v, or 0s for no automatic backups", s.Backup.Interval, minBackupInterval)
	}
	if s.Backup.Keep < 1 {
		return l.fail("backup.keep", "%d: expected at least 1; no automatic backups are made with backup.interval 0s", s.Backup.Keep)
	}
	return nil
}

// checkModels takes the token only from the environment: a file is shown, copied and kept.
func (l *loader) checkModels(s *settings, c *Config) error {
	if _, err := models.ParseEndpoint(s.Models.Endpoint); err != nil {
		return l.fail("models.endpoint", "%v", err)
	}
	if s.Models.Dir != "" && !filepath.IsAbs(s.Models.Dir) {
		return l.fail("models.dir", "%q: expected an absolute path", s.Models.Dir)
	}
	token := os.Getenv("HF_TOKEN")
	if strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return &Error{Source: "HF_TOKEN", Reason: "expected a token of visible ASCII characters (its value is not shown)"}
	}
	c.Models = hive.ModelsConfig{Dir: s.Models.Dir, Endpoint: strings.TrimRight(s.Models.Endpoint, "/"), Token: token}
	return nil
}

func (l *loader) checkLogs(s *settings, _ *Config) error {
	if s.Logs.MaxSize < logs.MinSize {
		return l.fail("logs.max_size", "%v: expected at least %v", s.Logs.MaxSize, size(logs.MinSize))
	}
	if s.Logs.Keep < 1 {
		return l.fail("logs.keep", "%d: expected at least 1", s.Logs.Keep)
	}
	if s.Logs.MaxTotal < logs.MinSize {
		return l.fail("logs.max_total", "%v: expected at least %v", s.Logs.MaxTotal, size(logs.MinSize))
	}
	return nil
}
