package proc

import (
	"slices"
	"strings"
)

// KeepEnv is a variable that every worker gets, with the value 1: it keeps
// setproctitle from overwriting the environment, and with it the stamps.
const KeepEnv = "SPT_NOENV"

// handing is what becomes of a variable of hive's own environment.
type handing int

const (
	handed handing = iota
	byName         // only if the entry names it
	never          // not even then
)

// heirloom is a row of the table of what workers inherit: the variables, each the
// name as it is or one that begins or ends with '*' for the rest of it, and what
// becomes of them for a worker of hive's own user and for one of another.
type heirloom struct {
	own, other handing
	names      []string
}

// heirlooms is the table, which is only read. The first row that has a name decides.
// What is in none is handed on to a worker of hive's own user, who could read it
// from hive's own process anyway and may need whatever the shell said that started
// hive (a virtual environment), and to no other. docs/configuration-reference.md has the same.
var heirlooms = []heirloom{
	// hive's own configuration and tokens, the stamps of a hive that runs this one as
	// a worker, and how systemd talks to hive: a worker that got NOTIFY_SOCKET could
	// report hive as stopped; one that got LISTEN_FDS would take a descriptor of its
	// own for an API socket.
	{never, never, []string{"HIVE_*", "RBEEHIVE_*", "LISTEN_*", "WATCHDOG_*", "NOTIFY_SOCKET", "INVOCATION_ID", "JOURNAL_STREAM"}},
	// Limits of the Go runtime that were meant for hive, and what servers take their
	// port or address from, whatever their command line says.
	{byName, byName, []string{
		"GODEBUG", "GOGC", "GOMEMLIMIT", "GOMAXPROCS",
		"PORT", "HOST", "VLLM_PORT", "LLAMA_ARG_PORT", "LLAMA_ARG_HOST", "AIP_MODE", "INFINITY_PORT",
	}},
	// What else systemd says to the service that hive is (systemd.exec(5)).
	{byName, byName, []string{
		"CREDENTIALS_DIRECTORY", "SYSTEMD_EXEC_PID", "MAINPID", "MAINPIDFDID", "MANAGERPID", "MANAGERPIDFDID",
		"MEMORY_PRESSURE_*", "FDSTORE",
		"RUNTIME_DIRECTORY", "STATE_DIRECTORY", "CACHE_DIRECTORY", "LOGS_DIRECTORY", "CONFIGURATION_DIRECTORY",
	}},
	// The login of whoever started hive, and its agents.
	{byName, byName, []string{
		"SSH_*", "GPG_*", "SUDO_*", "DOAS_USER", "PKEXEC_UID", "DBUS_*",
		"XDG_SESSION_*", "XDG_SEAT", "XDG_SEAT_PATH", "XDG_VTNR", "XAUTHORITY", "KRB5CCNAME",
	}},
	// The one credential that a worker of hive's own user is meant to have: programs
	// fetch models with it.
	{handed, byName, []string{"HF_TOKEN", "HF_API_TOKEN", "HUGGING_FACE_HUB_TOKEN"}},
	// What servers ask their own callers for. One that did not get it would ask nobody.
	{handed, handed, []string{"API_KEY", "LLAMA_API_KEY", "VLLM_API_KEY", "INFINITY_API_KEY"}},
	{handed, handed, []string{"HF_*"}}, // one of these ends in _TOKEN and is none
	{byName, byName, []string{
		"AWS_ACCESS_KEY_ID", "AWS_SECRET_*", "AWS_SESSION_*", "AWS_SECURITY_*", "AWS_WEB_IDENTITY_*", "AWS_CONTAINER_*",
		"AZURE_STORAGE_KEY", "KUBECONFIG", "VAULT_*", "PGPASSFILE", "MYSQL_PWD",
		"*_TOKEN", "*_TOKEN_FILE", "*_SECRET", "*_SECRET_KEY", "*_PASSWORD", "PGPASSWORD", "*_PASSWD", "*_PASSPHRASE",
		"*_API_KEY", "*_ACCESS_KEY", "*_PRIVATE_KEY", "*_CREDENTIALS", "*_CONNECTION_STRING",
	}},
	// Of Python, what would have another user run or write hive's user's own files.
	{handed, byName, []string{"PYTHONHOME", "PYTHONUSERBASE", "PYTHONSTARTUP", "PYTHONPYCACHEPREFIX"}},
	{handed, handed, []string{
		"PATH", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "PYTHON*",
		"http_proxy", "https_proxy", "no_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY",
		"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
		"CUDA_*", "NVIDIA_*", "NCCL_*", "HIP_*", "ROCR_*", "ROCM_*", "HSA_*", "GPU_*", "VK_*",
		"OMP_*", "MKL_*", "OPENBLAS_*", "GGML_*", "LLAMA_ARG_*", "VLLM_*", "SGLANG_*", "INFINITY_*",
		"TORCH_*", "PYTORCH_*", "TRITON_*", "TRANSFORMERS_*", "TOKENIZERS_*",
	}},
}

func (h *heirloom) handing(other bool) handing {
	if other {
		return h.other
	}
	return h.own
}

// unlisted is what becomes of a variable that the table does not have.
func unlisted(other bool) handing {
	if other {
		return byName
	}
	return handed
}

func handingOf(name string, other bool) handing {
	for i := range heirlooms {
		if slices.ContainsFunc(heirlooms[i].names, func(pattern string) bool { return covers(pattern, name) }) {
			return heirlooms[i].handing(other)
		}
	}
	return unlisted(other)
}

func covers(pattern, name string) bool {
	if begin, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(name, begin)
	}
	if end, ok := strings.CutPrefix(pattern, "*"); ok {
		return strings.HasSuffix(name, end)
	}
	return pattern == name
}

// meet reports whether two patterns can have a name in common.
func meet(a, b string) bool {
	bareA, bareB := strings.Trim(a, "*"), strings.Trim(b, "*")
	switch {
	case strings.HasSuffix(a, "*") && strings.HasSuffix(b, "*"):
		return strings.HasPrefix(bareA, bareB) || strings.HasPrefix(bareB, bareA)
	case strings.HasPrefix(a, "*") && strings.HasPrefix(b, "*"):
		return strings.HasSuffix(bareA, bareB) || strings.HasSuffix(bareB, bareA)
	case strings.Contains(a, "*") && strings.Contains(b, "*"):
		return true
	case strings.Contains(a, "*"):
		return covers(a, b)
	}
	return covers(b, a)
}

// Inherits reports whether a worker gets a variable of hive's own environment
// without asking for it. other: it is of another user than hive's.
func Inherits(name string, other bool) bool { return handingOf(name, other) == handed }

// Inheritance tells which variables of hive's own environment a worker with this
// extra gets, and which it does not, whether hive has them or not. other: it is of
// another user than hive's. A name that begins or ends with '*' stands for all that
// end or begin so, "*" for all the rest; where a variable is in both lists, the one
// that says more of its name counts.
func Inheritance(other bool, extra []string) (inherited, removed []string) {
	named := func(name string) bool {
		return slices.ContainsFunc(extra, func(kv string) bool { return kv == name || strings.HasPrefix(kv, name+"=") })
	}
	for i := range heirlooms {
		how := heirlooms[i].handing(other)
		for _, name := range heirlooms[i].names {
			switch {
			case how != never && !matters(name, i, other):
			case how == handed:
				inherited = append(inherited, name)
			case how == never || !named(name):
				removed = append(removed, name)
			}
		}
	}
	if unlisted(other) == handed {
		inherited = append(inherited, "*")
	} else {
		removed = append(removed, "*")
	}
	slices.Sort(inherited)
	slices.Sort(removed)
	return inherited, removed
}

// matters reports whether anything would be otherwise without a name of a row.
func matters(name string, row int, other bool) bool {
	how := heirlooms[row].handing(other)
	for _, later := range heirlooms[row+1:] {
		same := (later.handing(other) == handed) == (how == handed)
		if !same && slices.ContainsFunc(later.names, func(pattern string) bool { return meet(pattern, name) }) {
			return true
		}
	}
	return (unlisted(other) == handed) != (how == handed)
}

// Environ returns the environment of a worker of hive's own user: inherited, as far
// as it is handed on (see Inheritance), then SPT_NOENV=1 (KeepEnv), then extra. An
// entry of extra is "NAME=value", which replaces the variable, or "NAME", which
// passes it through from inherited even if it would be removed; HIVE_*,
// RBEEHIVE_* and by what systemd talks to hive are never passed through, and
// RBEEHIVE_* cannot be set. The order of inherited is kept, then that of extra;
// no name appears twice. Neither argument is changed.
func Environ(inherited, extra []string) []string { return inherit(inherited, extra, false) }

// Environ is the function Environ for a worker that runs as this user: with HOME,
// USER and LOGNAME of that user, which extra can replace. Of hive's own environment
// a user who is not hive's own gets what is good for any user.
func (c Credential) Environ(inherited, extra []string) []string {
	own := []string{"HOME=" + c.Home, "USER=" + c.Name, "LOGNAME=" + c.Name}
	return inherit(inherited, append(own, extra...), c.Other())
}

func inherit(inherited, extra []string, other bool) []string {
	vars := newEnvironment(len(inherited) + len(extra) + 1)
	values := make(map[string]string, len(inherited))
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
		switch {
		case name == "" || strings.HasPrefix(name, "RBEEHIVE_"):
		case set:
			vars.set(name, value)
		case handingOf(name, other) != never:
			if value, ok := values[name]; ok {
				vars.set(name, value)
			}
		}
	}
	return vars.list
}
