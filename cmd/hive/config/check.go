package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"rbeehive/hive/models"
	"rbeehive/hive/proc"
	"rbeehive/hive/rbee"
	"rbeehive/hive/setting"
	"rbeehive/store/plain"
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
	name = strings.ReplaceAll(key, "::", ".")
	if l.root != nil && l.v.InConfig(key) {
		return byFile, fmt.Sprintf("%s:%d: %s", l.file, nodeOf(l.root, name).Line, name)
	}
	return byDefault, name
}

// source says where the value at a path ("ports.range", "allowed_hosts[1]") was given; line
// is that of the file, 0 if it was not there.
func (l *loader) source(path string) (name string, line int) {
	key, _, _ := strings.Cut(path, "[")
	layer, name := l.origin(layered(key))
	if layer == byFile {
		line = nodeOf(l.root, path).Line
		return fmt.Sprintf("%s:%d: %s", l.file, line, path), line
	}
	return name + strings.TrimPrefix(path, key), line
}

// fail notes a mistake in the value at a path.
func (l *loader) fail(path, format string, a ...any) {
	source, line := l.source(path)
	l.addNew(&Error{Source: source, Reason: fmt.Sprintf(format, a...), Line: line})
}

// check checks the settings, and makes of them what Config has.
func (l *loader) check(s *settings) {
	for _, f := range setting.Fields(s) {
		if why := f.Flaw(); why != "" {
			l.fail(f.Key, "%s", why)
		}
	}
	for _, step := range []func(*settings){
		l.checkNames, l.checkListen, l.checkAdvertise, l.checkSocket, l.checkAccess, l.checkTLS, l.checkDataDir, l.checkModels, l.checkWorkerUser, l.checkEntries,
	} {
		step(s)
	}
}

func (l *loader) checkNames(s *settings) {
	if !hiveIDRE.MatchString(s.HiveID) {
		l.fail("hive_id", "%q: expected letters, digits, '.', '_' and '-', at most 63, the first a letter or a digit", s.HiveID)
	}
	if _, err := rbee.NormalizeURL(s.QueenURL); s.QueenURL != "" && err != nil {
		l.fail("queen_url", "%q: expected a URL such as http://queen.lan:7833", s.QueenURL)
	}
	for i, host := range s.AllowedHosts {
		if _, err := netip.ParseAddr(host); err != nil && !hostRE.MatchString(host) {
			l.fail(fmt.Sprintf("allowed_hosts[%d]", i), "%q: expected a host name without a port, such as gpubox.lan", host)
		}
	}
}

func (l *loader) checkDataDir(s *settings) {
	dir := cmp.Or(s.DataDir, DefaultDataDir(l.opts.UID))
	switch abs, err := filepath.Abs(dir); {
	case dir == "":
		l.fail("data_dir", "neither XDG_STATE_HOME nor HOME is set; give a directory with --data-dir")
	case plain.Home(dir) != "":
		l.fail("data_dir", "%q %s", dir, plain.Home(dir))
	case err != nil:
		l.fail("data_dir", "%v", err)
	default:
		s.DataDir = abs
	}
}

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

// checkModels takes the token only from the environment: a file is shown, copied and kept.
func (l *loader) checkModels(s *settings) {
	endpoint := l.foreign(s.Config, "HF_ENDPOINT", endpointFlaw)
	if layer, _ := l.origin("models::endpoint"); layer < byVariable && endpoint != "" {
		s.Models.Endpoint = endpoint
	}
	s.Models.Endpoint = strings.TrimRight(cmp.Or(s.Models.Endpoint, models.DefaultEndpoint), "/")
	if _, err := models.ParseEndpoint(s.Models.Endpoint); err != nil {
		l.fail("models.endpoint", "%v", err)
	}
	switch why := plain.Home(s.Models.Dir); {
	case why != "":
		l.fail("models.dir", "%q %s", s.Models.Dir, why)
	case s.Models.Dir != "" && !filepath.IsAbs(s.Models.Dir):
		l.fail("models.dir", "%q: expected an absolute path", s.Models.Dir)
	}
	s.Models.Token = l.foreign(s.Config, "HF_TOKEN", tokenFlaw)
}

func endpointFlaw(value string) string {
	if _, err := models.ParseEndpoint(value); err != nil {
		return err.Error()
	}
	return ""
}

// tokenFlaw says what keeps a token from being sent in a header; empty: nothing.
func tokenFlaw(value string) string {
	if strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "expected a token of visible ASCII characters (its value is not shown)"
	}
	return ""
}

// defaultWorkerUser is the system user that the package makes.
const defaultWorkerUser = "hive-worker"

// checkWorkerUser determines the user of workers. Only root can start programs as another
// user.
func (l *loader) checkWorkerUser(s *settings) {
	if s.WorkerUser == "" {
		s.WorkerUser = l.findWorkerUser()
		return
	}
	user, err := proc.LookUser(s.WorkerUser)
	switch {
	case err != nil:
		l.fail("worker_user", "%v", err)
	case l.opts.UID != 0 && int(user.UID) != l.opts.UID:
		l.fail("worker_user", "%q: only a hive that runs as root can start workers as another user, and this one runs as uid %d; remove it, or run hive as root", s.WorkerUser, l.opts.UID)
	case l.opts.UID != 0:
		s.WorkerUser = "" // itself
	}
}

// findWorkerUser takes the default for root, where that user exists. If that cannot be
// determined, workers do not run as root for it: it is an error.
func (l *loader) findWorkerUser() string {
	name := cmp.Or(l.opts.DefaultWorkerUser, defaultWorkerUser)
	if l.opts.UID != 0 {
		return ""
	}
	_, err := proc.LookUser(name)
	switch {
	case err == nil:
		return name
	case errors.Is(err, proc.ErrUnknownUser), errors.Is(err, fs.ErrNotExist): // a container may have no /etc/passwd
	default:
		l.fail("worker_user", "is not set, and the user %s could not be looked up: %v; set the user that workers run as", name, err)
	}
	return ""
}
