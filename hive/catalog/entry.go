package catalog

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"rbeehive/store"
	"rbeehive/store/plain"
)

// Entry is what one entry of the configuration says, already decoded. Zero
// values mean that the key was not given; where zero is a value of its own, a
// nil pointer means so.
type Entry struct {
	File    string   `mapstructure:"-"` // of types.d that it is in; empty: it is in the configuration
	Name    string   `mapstructure:"name"`
	Preset  string   `mapstructure:"preset"`  // instead of Command
	Program string   `mapstructure:"program"` // replaces Command[0], or the preset's
	Command []string `mapstructure:"command"` // a template per argument
	Host    string   `mapstructure:"host"`    // what the worker binds; default 127.0.0.1
	// BasePath is the path below which the worker serves all it serves, as in /comfy.
	BasePath string `mapstructure:"base_path"`
	Model    string `mapstructure:"model"`  // default for a spawn
	Device   string `mapstructure:"device"` // default for a spawn
	// Params are the parameters; every one that the templates use is named here, or
	// by the preset.
	Params map[string]ParamEntry `mapstructure:"params"`
	Args   []string              `mapstructure:"args"`  // appended to the command, or the preset's; templates too
	Env    []string              `mapstructure:"env"`   // NAME=value, or NAME: passed through
	Port   int                   `mapstructure:"port"`  // fixed port; may lie outside the range; 0: any of the range
	Ports  int                   `mapstructure:"ports"` // consecutive ports leased; 0: 1
	// Listener says who may listen on a worker's port: its own processes ("tree",
	// the default), or "any" one, for clients of a container runtime.
	Listener string     `mapstructure:"listener"`
	Allow    AllowEntry `mapstructure:"allow"` // who besides admins may use it
	Dir      string     `mapstructure:"dir"`   // working directory, absolute
	User     string     `mapstructure:"user"`  // whom workers run as: a name, uid or uid:gid
	// NoNewPrivileges is whether workers, and what they start, can gain rights by
	// executing a file; nil: those can that run as hive does or as root.
	NoNewPrivileges *bool        `mapstructure:"no_new_privileges"`
	EnvFile         string       `mapstructure:"env_file"`     // absolute; read at each start
	BeforeStart     []string     `mapstructure:"before_start"` // a template per argument
	Autostart       bool         `mapstructure:"autostart"`    // started whenever no worker of the entry lives
	StartAfter      []string     `mapstructure:"start_after"`  // autostart entries that are to be ready first
	Reload          string       `mapstructure:"reload"`       // "restart": a change of the entry restarts its workers
	Ready           ReadyEntry   `mapstructure:"ready"`
	Live            LiveEntry    `mapstructure:"live"`
	Stop            StopEntry    `mapstructure:"stop"`
	Restart         RestartEntry `mapstructure:"restart"`
	Serve           ServeEntry   `mapstructure:"serve"`
}

// AllowEntry is the allow key of an entry: who may start and stop its workers besides
// admins. Users and groups are names or numbers of the machine's user database.
type AllowEntry struct {
	Users  []string `mapstructure:"users"`
	Groups []string `mapstructure:"groups"`
	Tokens []string `mapstructure:"tokens"`
}

// MaxPorts is how many ports one worker can lease.
const MaxPorts = 256

// ReadyEntry is the ready key of an entry. What it does not say is the preset's,
// else the default.
type ReadyEntry struct {
	Path    *string        `mapstructure:"path"`    // "": listening is enough
	Scheme  string         `mapstructure:"scheme"`  // http (default) or https
	Status  int            `mapstructure:"status"`  // default 200
	Stall   *time.Duration `mapstructure:"stall"`   // default 5m; 0: no limit
	Timeout *time.Duration `mapstructure:"timeout"` // default 0: no limit
}

// StopEntry is the stop key of an entry. What it does not say is the preset's,
// else the default.
type StopEntry struct {
	Signal []string       `mapstructure:"signal"` // default [SIGTERM]
	Grace  *time.Duration `mapstructure:"grace"`  // default 10s
	Scope  string         `mapstructure:"scope"`  // main (default) or tree
	// Command is run instead of the signals; a template per argument.
	Command []string `mapstructure:"command"`
}

const (
	defaultStall = 5 * time.Minute
	defaultGrace = 10 * time.Second
)

var (
	// A type's name is part of a worker's id, and so of a file name and of a
	// cgroup's name: nothing that means something in a path.
	nameRE   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$`)
	paramRE  = regexp.MustCompile(`^[a-z0-9_]+$`)
	envRE    = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	stopSigs = []string{"SIGTERM", "SIGINT", "SIGQUIT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGWINCH", "SIGKILL"}
)

// faults is told what is wrong with a key.
type faults func(key, format string, a ...any)

// under is faults for the keys below one.
func (f faults) under(section string) faults {
	return func(key, format string, a ...any) { f(section+"."+key, format, a...) }
}

// check checks everything in the entry except its templates.
func (e *Entry) check(fail faults) {
	switch {
	case e.Name == "":
		fail("name", "is missing; every worker entry needs one")
	case !nameRE.MatchString(e.Name):
		fail("name", "%q: expected letters, digits, '.', '_' and '-', at most 63, the first a letter or a digit", e.Name)
	}
	if why := badValue(e.Model); why != "" {
		fail("model", "%q %s", e.Model, why)
	}
	if why := badValue(e.Device); why != "" {
		fail("device", "%q %s", e.Device, why)
	}
	if !isHost(e.Host) {
		fail("host", "%q: expected an IP address, as in 127.0.0.1, 0.0.0.0 or ::1, or localhost", e.Host)
	}
	if why := badBasePath(e.BasePath); why != "" {
		fail("base_path", "%q %s", e.BasePath, why)
	}
	// Errors name the index: the value may be a secret.
	for i, v := range e.Env {
		if why := badEnv(v); why != "" {
			fail(fmt.Sprintf("env[%d]", i), "%s", why)
		}
	}
	e.checkPorts(fail)
	e.checkCommands(fail)
	e.Ready.check(fail.under("ready"))
	e.Stop.check(fail.under("stop"))
	e.Serve.check(fail.under("serve"))
	e.checkLife(fail)
}

func (e *Entry) checkPorts(fail faults) {
	switch {
	case e.Port < 0 || e.Port > 65535:
		fail("port", "%d: expected a port from 1 to 65535", e.Port)
	case e.Ports < 0 || e.Ports > MaxPorts:
		fail("ports", "%d: expected how many ports in a row a worker leases, from 1 to %d", e.Ports, MaxPorts)
	// The ports behind a fixed one are leased, too.
	case e.Port > 0 && e.Port+max(1, e.Ports)-1 > 65535:
		fail("ports", "%d: fewer than that many ports follow port %d", e.Ports, e.Port)
	}
	if e.Listener != "" && e.Listener != "tree" && e.Listener != "any" {
		fail("listener", "%q: expected tree or any", e.Listener)
	}
}

// checkCommands refuses what only a shell would replace: the port as it or llama-swap writes
// it, of which the program would get these very letters, and the home directory of a program.
func (e *Entry) checkCommands(fail faults) {
	checkHome(fail, "program", e.Program)
	for _, c := range []struct {
		key  string
		args []string
	}{{"command", e.Command}, {"before_start", e.BeforeStart}, {"stop.command", e.Stop.Command}} {
		if i := unreplaced(c.args); i >= 0 {
			fail(fmt.Sprintf("%s[%d]", c.key, i), "%q: no shell runs this, so that $PORT stays as it is; write {{.Port}}, in quotes", c.args[i])
		}
		if len(c.args) > 0 {
			checkHome(fail, c.key+"[0]", c.args[0])
		}
	}
	if i := unreplaced(slices.Concat(e.Command, e.Args)) - len(e.Command); i >= 0 {
		fail(fmt.Sprintf("args[%d]", i), "%q: no shell runs this, so that $PORT stays as it is; write {{.Port}}, in quotes", e.Args[i])
	}
	for i, v := range e.Env {
		switch key := fmt.Sprintf("env[%d]", i); {
		case shellPort.MatchString(v):
			fail(key, "no shell reads this, so that $PORT stays as it is, and no variable has the port; give it to the program in args, as {{.Port}}")
		case templateField.MatchString(v):
			fail(key, "a value of env is no template; give it to the program in command or args, which are")
		}
	}
}

// checkHome refuses a path from a home directory in the way of a shell.
func checkHome(fail faults, key, path string) {
	if why := plain.Home(path); why != "" {
		fail(key, "%q %s", path, why)
	}
}

// badValue says what is wrong with a model, a device or a parameter; the same
// rule holds for what a spawn gives (api.md), so that a default can be said
// again by a caller.
func badValue(s string) string {
	if strings.HasPrefix(s, "-") {
		return "begins with '-': a program would take it for a flag; write flags in args"
	}
	return cmp.Or(plain.Home(s), plain.Flaw(s))
}

// badBasePath says what is wrong with a base path: a path of a URL follows it.
func badBasePath(s string) string {
	switch {
	case s == "":
		return ""
	case !strings.HasPrefix(s, "/") || strings.HasSuffix(s, "/"):
		return "is not a path that begins with '/' and does not end with it, as in /comfy"
	case strings.ContainsAny(s, " ?#"):
		return "has a space, '?' or '#'"
	}
	return plain.Flaw(s)
}

// isHost reports what a worker can be told to bind; empty: the default. Names
// other than localhost are not taken: what they resolve to changes, and it could
// not be said whether the port is free there.
func isHost(s string) bool {
	addr, err := netip.ParseAddr(s)
	return s == "" || s == "localhost" || err == nil && addr.Zone() == ""
}

// badEnv never repeats the value: it may be a secret, and errors are logged.
func badEnv(s string) string {
	name, _, given := strings.Cut(s, "=")
	switch {
	case !envRE.MatchString(name):
		return "expected NAME=value, or NAME to pass a variable of hive's own environment through"
	case strings.HasPrefix(name, "RBEEHIVE_"):
		return name + ": RBEEHIVE_* are hive's marks on its workers and cannot be set"
	case strings.HasPrefix(name, "HIVE_") && !given:
		return name + ": HIVE_* configure hive itself and are never passed on; give it a value here if the worker needs one"
	case strings.ContainsRune(s, 0):
		return name + ": the value holds a NUL byte"
	}
	return ""
}

func (r *ReadyEntry) check(fail faults) {
	if r.Path != nil && *r.Path != "" && !strings.HasPrefix(*r.Path, "/") {
		fail("path", "%q: expected a path that begins with '/', or \"\" when listening is enough", *r.Path)
	}
	if r.Path != nil && (strings.Contains(*r.Path, " ") || plain.Flaw(*r.Path) != "") {
		fail("path", "%q has a space, or is not plain text", *r.Path)
	}
	if r.Scheme != "" && r.Scheme != "http" && r.Scheme != "https" {
		fail("scheme", "%q: expected http or https", r.Scheme)
	}
	if r.Status != 0 && (r.Status < 200 || r.Status > 599) {
		fail("status", "%d: expected an HTTP status from 200 to 599", r.Status)
	}
	if r.Stall != nil && *r.Stall < 0 {
		fail("stall", "expected a duration of 0s or more")
	}
	if r.Timeout != nil && *r.Timeout < 0 {
		fail("timeout", "expected a duration of 0s or more")
	}
}

func (s *StopEntry) check(fail faults) {
	for i, name := range s.Signal {
		if !slices.Contains(stopSigs, signalName(name)) {
			fail(fmt.Sprintf("signal[%d]", i), "%q: expected one of %s", name, strings.Join(stopSigs, ", "))
		}
	}
	if s.Grace != nil && *s.Grace < 0 {
		fail("grace", "expected a duration of 0s or more")
	}
	if s.Scope != "" && s.Scope != "main" && s.Scope != "tree" {
		fail("scope", "%q: expected main or tree", s.Scope)
	}
}

// ServeEntry is the serve key of an entry: whether the gateway sends requests to its workers, and
// by which names of a model besides the usual ones.
type ServeEntry struct {
	Enabled *bool    `mapstructure:"enabled"` // default: true with names, or a preset whose API is OpenAI's
	Names   []string `mapstructure:"names"`
}

// maxServedName is the longest name of a model that a request may ask for, in bytes.
const maxServedName = 512

func (s *ServeEntry) check(fail faults) {
	for i, name := range s.Names {
		key := fmt.Sprintf("names[%d]", i)
		switch why := plain.Flaw(name); {
		case name == "":
			fail(key, "is empty; expected the name of a model, as clients ask for it")
		case len(name) > maxServedName:
			fail(key, "has %d bytes; expected at most %d", len(name), maxServedName)
		case why != "":
			fail(key, "%q %s", name, why)
		}
	}
	if len(s.Names) > 0 && s.Enabled != nil && !*s.Enabled {
		fail("names", "are of no use with enabled: false; leave one of the two out")
	}
}

// serves is whether requests go to workers of an entry that builds on p.
func (s *ServeEntry) serves(p *preset) bool {
	if s.Enabled != nil {
		return *s.Enabled
	}
	return p.openAI || len(s.Names) > 0
}

// signalName gives TERM, term and SIGTERM one name.
func signalName(s string) string {
	s = strings.ToUpper(s)
	if !strings.HasPrefix(s, "SIG") {
		s = "SIG" + s
	}
	return s
}

// over is what the entry says over the preset's readiness, key by key.
func (r *ReadyEntry) over(out store.Ready) store.Ready {
	if r.Path != nil {
		out.Path = *r.Path
	}
	if r.Scheme != "" {
		out.TLS = r.Scheme == "https"
	}
	if r.Status != 0 {
		out.Status = r.Status
	}
	if r.Stall != nil {
		out.Stall = *r.Stall
	}
	if r.Timeout != nil {
		out.Timeout = *r.Timeout
	}
	return out
}

// over is what the entry says over the preset's stop, key by key.
func (s *StopEntry) over(out store.Stop) store.Stop {
	if len(s.Signal) > 0 {
		out.Signals = nil
	}
	for _, name := range s.Signal {
		out.Signals = append(out.Signals, signalName(name))
	}
	if s.Scope != "" {
		out.Tree = s.Scope == "tree"
	}
	if s.Grace != nil {
		out.Grace = *s.Grace
	}
	return out
}
