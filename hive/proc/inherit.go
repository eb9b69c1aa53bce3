package proc

import (
	"slices"
	"strings"
)

// KeepEnv is a variable that every worker gets, with the value 1: it keeps
// setproctitle from overwriting the environment, and with it the stamps.
const KeepEnv = "SPT_NOENV"

// inheritMode is what becomes of a variable of hive's own environment.
type inheritMode int

const (
	inheritAlways inheritMode = iota
	inheritByName             // only if the entry names it
	inheritNever              // not even then
)

// inheritRule is a row of the table of what workers inherit: patterns of names, which
// may begin or end with '*' for any text, and what becomes of these variables for a
// worker of hive's own user and for one of another.
type inheritRule struct {
	own, other inheritMode
	names      []string
}

// inheritRules is the table, which is only read. The first row that matches a name
// decides. What matches none goes to a worker of hive's own user, which could read it
// from hive's own process anyway and may need whatever the shell that started hive had
// set (a virtual environment), and to no other. docs/configuration-reference.md has the
// same table.
var inheritRules = []inheritRule{
	// hive's own configuration and tokens, the stamps of a hive that runs this one as
	// a worker, and how systemd talks to hive: a worker that got NOTIFY_SOCKET could
	// report hive as stopped; one that got LISTEN_FDS would take a descriptor of its
	// own for an API socket.
	{inheritNever, inheritNever, []string{"HIVE_*", "RBEEHIVE_*", "LISTEN_*", "WATCHDOG_*", "NOTIFY_SOCKET", "INVOCATION_ID", "JOURNAL_STREAM"}},
	// Limits of the Go runtime that were meant for hive, and what servers take their
	// port or address from, whatever their command line says.
	{inheritByName, inheritByName, []string{
		"GODEBUG", "GOGC", "GOMEMLIMIT", "GOMAXPROCS",
		"PORT", "HOST", "VLLM_PORT", "LLAMA_ARG_PORT", "LLAMA_ARG_HOST", "AIP_MODE", "INFINITY_PORT",
	}},
	// What else systemd says to the service that hive is (systemd.exec(5)).
	{inheritByName, inheritByName, []string{
		"CREDENTIALS_DIRECTORY", "SYSTEMD_EXEC_PID", "MAINPID", "MAINPIDFDID", "MANAGERPID", "MANAGERPIDFDID",
		"MEMORY_PRESSURE_*", "FDSTORE",
		"RUNTIME_DIRECTORY", "STATE_DIRECTORY", "CACHE_DIRECTORY", "LOGS_DIRECTORY", "CONFIGURATION_DIRECTORY",
	}},
	// The login of whoever started hive, and its agents.
	{inheritByName, inheritByName, []string{
		"SSH_*", "GPG_*", "SUDO_*", "DOAS_USER", "PKEXEC_UID", "DBUS_*",
		"XDG_SESSION_*", "XDG_SEAT", "XDG_SEAT_PATH", "XDG_VTNR", "XAUTHORITY", "KRB5CCNAME",
	}},
	// The one credential that a worker of hive's own user is meant to have: programs
	// fetch models with it.
	{inheritAlways, inheritByName, []string{"HF_TOKEN", "HF_API_TOKEN", "HUGGING_FACE_HUB_TOKEN"}},
	// What servers demand of their own callers. One that did not get it would demand
	// nothing.
	{inheritAlways, inheritAlways, []string{"API_KEY", "LLAMA_API_KEY", "VLLM_API_KEY", "INFINITY_API_KEY"}},
	{inheritAlways, inheritAlways, []string{"HF_*"}}, // one of these ends in _TOKEN and is none
	{inheritByName, inheritByName, []string{
		"AWS_ACCESS_KEY_ID", "AWS_SECRET_*", "AWS_SESSION_*", "AWS_SECURITY_*", "AWS_WEB_IDENTITY_*", "AWS_CONTAINER_*",
		"AZURE_STORAGE_KEY", "KUBECONFIG", "VAULT_*", "PGPASSFILE", "MYSQL_PWD",
		"*_TOKEN", "*_TOKEN_FILE", "*_SECRET", "*_SECRET_KEY", "*_PASSWORD", "PGPASSWORD", "*_PASSWD", "*_PASSPHRASE",
		"*_API_KEY", "*_ACCESS_KEY", "*_PRIVATE_KEY", "*_CREDENTIALS", "*_CONNECTION_STRING",
	}},
	// Of Python, what would have another user run or write hive's user's own files.
	{inheritAlways, inheritByName, []string{"PYTHONHOME", "PYTHONUSERBASE", "PYTHONSTARTUP", "PYTHONPYCACHEPREFIX"}},
	{inheritAlways, inheritAlways, []string{
		"PATH", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "PYTHON*",
		"http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
		"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
		"CUDA_*", "NVIDIA_*", "NCCL_*", "HIP_*", "ROCR_*", "ROCM_*", "HSA_*", "GPU_*", "VK_*",
		"OMP_*", "MKL_*", "OPENBLAS_*", "GGML_*", "LLAMA_ARG_*", "VLLM_*", "SGLANG_*", "INFINITY_*",
		"TORCH_*", "PYTORCH_*", "TRITON_*", "TRANSFORMERS_*", "TOKENIZERS_*",
	}},
}

func (h *inheritRule) mode(other bool) inheritMode {
	if other {
		return h.other
	}
	return h.own
}

// unlistedMode is what becomes of a variable that no rule matches.
func unlistedMode(other bool) inheritMode {
	if other {
		return inheritByName
	}
	return inheritAlways
}

func modeOf(name string, other bool) inheritMode {
	for i := range inheritRules {
		if slices.ContainsFunc(inheritRules[i].names, func(pattern string) bool { return matches(pattern, name) }) {
			return inheritRules[i].mode(other)
		}
	}
	return unlistedMode(other)
}

func matches(pattern, name string) bool {
	if begin, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(name, begin)
	}
	if end, ok := strings.CutPrefix(pattern, "*"); ok {
		return strings.HasSuffix(name, end)
	}
	return pattern == name
}

// overlap reports whether a name can match both patterns.
func overlap(a, b string) bool {
	bareA, bareB := strings.Trim(a, "*"), strings.Trim(b, "*")
	switch {
	case strings.HasSuffix(a, "*") && strings.HasSuffix(b, "*"):
		return strings.HasPrefix(bareA, bareB) || strings.HasPrefix(bareB, bareA)
	case strings.HasPrefix(a, "*") && strings.HasPrefix(b, "*"):
		return strings.HasSuffix(bareA, bareB) || strings.HasSuffix(bareB, bareA)
	case strings.Contains(a, "*") && strings.Contains(b, "*"):
		return true // one says how names begin, the other how they end
	case strings.Contains(a, "*"):
		return matches(a, b)
	}
	return matches(b, a)
}

// Inherits reports whether a worker gets a variable of hive's own environment
// without asking for it. other: it is of another user than hive's.
func Inherits(name string, other bool) bool { return modeOf(name, other) == inheritAlways }

// Inheritance tells which variables of hive's own environment a worker with this
// extra gets, and which it does not, whether hive has them or not. other: it is of
// another user than hive's. A name that begins or ends with '*' is a pattern, "*" stands
// for all the rest; where a variable is in both lists, the more specific entry counts.
func Inheritance(other bool, extra []string) (inherited, removed []string) {
	named := func(name string) bool {
		return slices.ContainsFunc(extra, func(kv string) bool { return kv == name || strings.HasPrefix(kv, name+"=") })
	}
	for i := range inheritRules {
		how := inheritRules[i].mode(other)
		for _, name := range inheritRules[i].names {
			switch {
			// It would only repeat what a later entry says.
			case how != inheritNever && !hasEffect(name, i, other):
			case how == inheritAlways:
				inherited = append(inherited, name)
			case how == inheritNever || !named(name):
				removed = append(removed, name)
			}
		}
	}
	if unlistedMode(other) == inheritAlways {
		inherited = append(inherited, "*")
	} else {
		removed = append(removed, "*")
	}
	slices.Sort(inherited)
	slices.Sort(removed)
	return inherited, removed
}

// hasEffect reports whether anything would change without a name of a row.
func hasEffect(name string, row int, other bool) bool {
	how := inheritRules[row].mode(other)
	for _, later := range inheritRules[row+1:] {
		same := (later.mode(other) == inheritAlways) == (how == inheritAlways)
		if !same && slices.ContainsFunc(later.names, func(pattern string) bool { return overlap(pattern, name) }) {
			return true
		}
	}
	return (unlistedMode(other) == inheritAlways) != (how == inheritAlways)
}

// Environ returns the environment of a worker of hive's own user: those of inherited that
// workers get (see Inheritance), then SPT_NOENV=1 (KeepEnv), then extra. An entry of
// extra is "NAME=value", which replaces the variable, or "NAME", which passes it through
// from inherited even if it would be removed; HIVE_*, RBEEHIVE_* and the variables by
// which systemd talks to hive are never passed through, and RBEEHIVE_* cannot be set. The
// order of inherited is kept, then that of extra; no name appears twice. Neither argument
// is changed.
func Environ(inherited, extra []string) []string { return inherit(inherited, extra, false) }

// Environ is the function Environ for a worker that runs as this user: with HOME,
// USER and LOGNAME of that user, which extra can replace. Of hive's own environment
// another user than hive's gets what is good for any user.
func (c Credential) Environ(inherited, extra []string) []string {
	own := []string{"HOME=" + c.Home, "USER=" + c.Name, "LOGNAME=" + c.Name}
	return inherit(inherited, append(own, extra...), c.Other())
}

func inherit(inherited, extra []string, other bool) []string {
	vars := newEnvironment(len(inherited) + len(extra) + 1)
	values := make(map[string]string, len(inherited)) // of all, for extra to name
	for _, kv := range inherited {
		name, value, ok := strings.Cut(kv, "=")
		if !ok || name == "" {
			continue
		}
		values[name] = value
		if Inherits(name, other) {
			vars.set(name, value)
		}
	}
	vars.set(KeepEnv, "1")
	for _, kv := range extra {
		name, value, set := strings.Cut(kv, "=")
		// The stamps are hive's to set. Anything else can be set; what is never inherited
		// cannot be passed through.
		switch {
		case name == "" || strings.HasPrefix(name, "RBEEHIVE_"):
		case set:
			vars.set(name, value)
		case modeOf(name, other) != inheritNever:
			if value, ok := values[name]; ok {
				vars.set(name, value)
			}
		}
	}
	return vars.list
}
