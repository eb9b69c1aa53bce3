package proc

import (
	"slices"
	"strings"
)

// private reports what is never handed on, not even by name: hive's own
// configuration and tokens, the stamps of a hive that runs this one as a worker,
// and what systemd gave to hive alone. A worker that got NOTIFY_SOCKET could
// report hive as stopped; one that got LISTEN_FDS would take a descriptor of its
// own for an API socket.
func private(name string) bool {
	names, prefixes := privateNames(), privatePrefixes()
	return slices.Contains(names[:], name) || slices.ContainsFunc(prefixes[:], func(p string) bool { return strings.HasPrefix(name, p) })
}

// The lists are arrays: they are asked for each variable of each spawn.
func privateNames() [3]string { return [...]string{"NOTIFY_SOCKET", "INVOCATION_ID", "JOURNAL_STREAM"} }

func privatePrefixes() [4]string {
	return [...]string{"HIVE_", "RBEEHIVE_", "LISTEN_", "WATCHDOG_"}
}

// misleading reports what is not handed on unless asked for by name: limits of
// the Go runtime that were meant for hive, and variables that servers take their
// port or address from, whatever their command line says.
func misleading(name string) bool {
	names := misleadingNames()
	return slices.Contains(names[:], name)
}

func misleadingNames() [11]string {
	return [...]string{
		"GODEBUG", "GOGC", "GOMEMLIMIT", "GOMAXPROCS",
		"PORT", "HOST", "VLLM_PORT", "LLAMA_ARG_PORT", "LLAMA_ARG_HOST", "AIP_MODE", "INFINITY_PORT",
	}
}

// Removed returns the names of the variables that Environ does not hand on with
// this extra, whether the present environment has them or not; a name that ends
// in '*' stands for all that begin so.
func Removed(extra []string) []string {
	private := privateNames()
	names := private[:]
	for _, p := range privatePrefixes() {
		names = append(names, p+"*")
	}
	for _, name := range misleadingNames() {
		if !slices.ContainsFunc(extra, func(kv string) bool { return kv == name || strings.HasPrefix(kv, name+"=") }) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// KeepEnv is a variable that every worker gets, with the value 1: it keeps
// setproctitle from overwriting the environment, and with it the stamps.
const KeepEnv = "SPT_NOENV"

// Environ returns the environment of a worker: inherited without what was meant
// for hive or would mislead a server, then SPT_NOENV=1 (KeepEnv), then extra. An
// entry of extra is "NAME=value", which replaces the variable, or "NAME", which
// passes it through from inherited even if it would be removed; HIVE_*,
// RBEEHIVE_* and what systemd gave to hive are never passed through, and
// RBEEHIVE_* cannot be set. The order of inherited is kept, then that of extra;
// no name appears twice. Neither argument is changed.
func Environ(inherited, extra []string) []string {
	vars := newEnvironment(len(inherited) + len(extra) + 1)
	values := make(map[string]string, len(inherited))
	for _, kv := range inherited {
		name, value, ok := strings.Cut(kv, "=")
		if !ok || name == "" {
			continue
		}
		values[name] = value
		if !private(name) && !misleading(name) {
			vars.set(name, value)
		}
	}
	vars.set(KeepEnv, "1")
	for _, kv := range extra {
		name, value, set := strings.Cut(kv, "=")
		switch {
		case name == "" || strings.HasPrefix(name, "RBEEHIVE_"):
		case set:
			vars.set(name, value)
		case !private(name):
			if value, ok := values[name]; ok {
				vars.set(name, value)
			}
		}
	}
	return vars.list
}

// environment is a list of variables without doubles, of which the last one set counts.
type environment struct {
	list []string
	at   map[string]int
}

func newEnvironment(size int) *environment {
	return &environment{list: make([]string, 0, size), at: make(map[string]int, size)}
}

func (e *environment) set(name, value string) {
	kv := name + "=" + value
	if i, ok := e.at[name]; ok {
		e.list[i] = kv
		return
	}
	e.at[name] = len(e.list)
	e.list = append(e.list, kv)
}

func (e *environment) setAll(list []string) {
	for _, kv := range list {
		if name, value, ok := strings.Cut(kv, "="); ok && name != "" {
			e.set(name, value)
		}
	}
}

// stamped returns the spec's environment with the stamps for a process of user uid,
// which replace any there.
func (s *Spec) stamped(uid uint32) []string {
	vars := newEnvironment(len(s.Env) + 4)
	vars.setAll(s.Env)
	vars.set(StampState, s.StateID)
	vars.set(StampLease, s.LeaseID)
	vars.set(StampWorker, s.WorkerID)
	if proof := Prove(s.Secret, s.StateID, s.LeaseID, s.WorkerID, uid); proof != "" {
		vars.set(StampProof, proof)
	}
	return vars.list
}
