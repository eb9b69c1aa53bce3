package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"sync"

	"rbeehive/cmd/hivectl/command/output"
	"rbeehive/httpapi/client"
)

// The exit codes of api.md.
const (
	ExitOK          = 0
	ExitFailed      = 1
	ExitUsage       = 2
	exitNotFound    = 3
	ExitUnreachable = 4
)

// Error is an error with its exit code and, if there is something to do, a hint.
type Error struct {
	Code int
	Text string
	Hint string
}

func (f *Error) Error() string { return f.Text }

// Usage is the error of a command line, or of a file or variable, that makes no sense.
// Without a hint the help of the command is named.
func Usage(text, hint string) error { return &Error{Code: ExitUsage, Text: text, Hint: hint} }

// Failed is the error of something that could not be done. hint may be empty.
func Failed(text, hint string) error { return &Error{Code: ExitFailed, Text: text, Hint: hint} }

// NotFound is the error of an argument that names nothing. hint may be empty.
func NotFound(text, hint string) error { return &Error{Code: exitNotFound, Text: text, Hint: hint} }

// Reported is a failure whose details are on Stderr already.
type Reported struct{ Code int }

func (r *Reported) Error() string { return fmt.Sprintf("exit code %d", r.Code) }

// Report prints an error and returns its exit code. It is called once, at the end.
func (a *App) Report(err error) int {
	var done *Reported
	if errors.As(err, &done) {
		return done.Code
	}
	f := Classify(err)
	hint := f.Hint
	// The refusal over TCP is only what followed: the socket would have known who asks.
	if denied := a.deniedSocket(err); denied != "" {
		hint = "you have no permission to open " + denied + ": join its group and log in again (ls -l shows the group), or give a token with --token-file"
	}
	if hint == "" && f.Code == ExitUsage && a.command != "" {
		hint = a.command + " --help"
	}
	fmt.Fprintf(a.Env.Stderr, "hivectl: %s\n", output.Clean(f.Text))
	if hint != "" {
		fmt.Fprintf(a.Env.Stderr, "hint: %s\n", output.Clean(hint))
	}
	return f.Code
}

// deniedSocket is the control socket of a hive that has refused a request over TCP because
// this user may not open the socket; empty: this is not the case.
func (a *App) deniedSocket(err error) string {
	refused, ok := errors.AsType[*client.Error](err)
	if !ok || a.Hive == nil || refused.Code != "unauthorized" && refused.Code != "forbidden" {
		return ""
	}
	return a.Hive.Denied()
}

// Classify finds the exit code and the hint of an error.
func Classify(err error) *Error {
	var known *Error
	var refused *client.Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, context.Canceled):
		return &Error{Code: ExitFailed, Text: "interrupted"}
	case errors.Is(err, client.ErrNotUTF8):
		return &Error{Code: ExitUsage, Text: err.Error(), Hint: "a hive is asked in JSON, which is UTF-8: rename the file, or give a link to it that has another name"}
	case errors.Is(err, client.ErrAddress):
		return &Error{Code: ExitUsage, Text: err.Error(), Hint: "give the hive's address with --addr or HIVE_ADDR"}
	// This one and the next are unreachable as well, but something answers there, and to
	// start a hive would not help.
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return &Error{Code: ExitUnreachable, Text: err.Error(), Hint: "trust a private certificate with --ca-file FILE or HIVE_CA_FILE, and reach hive by a name that is in it"}
	case errors.Is(err, http.ErrSchemeMismatch):
		return &Error{Code: ExitUnreachable, Text: err.Error(), Hint: "the server there does not speak TLS: use http:// instead of https://"}
	case errors.Is(err, client.ErrUntrustedListener):
		return &Error{Code: ExitUnreachable, Text: err.Error(), Hint: "check what listens there, and give the hive's address with --addr: its unix socket needs no token, and https:// proves its identity"}
	case errors.Is(err, client.ErrProxy):
		return &Error{Code: ExitUnreachable, Text: err.Error(), Hint: "reach hive by https://, or name its host in NO_PROXY"}
	case errors.Is(err, client.ErrUnreachable) && errors.Is(err, fs.ErrPermission):
		return &Error{Code: ExitUnreachable, Text: err.Error(), Hint: "join the group of that socket and log in again (ls -l shows the group), or give the address of another hive with --addr"}
	case errors.Is(err, client.ErrUnreachable):
		return &Error{Code: ExitUnreachable, Text: err.Error(), Hint: startHint("/") + ", or give its address with --addr or HIVE_ADDR"}
	case errors.Is(err, client.ErrNotAHive):
		return &Error{Code: ExitUnreachable, Text: "the server there is not a hive: " + err.Error(), Hint: "give the hive's address with --addr or HIVE_ADDR; a hive with a certificate serves https:// only"}
	case errors.As(err, &refused):
		return classifyRefusal(refused)
	}
	return &Error{Code: ExitFailed, Text: err.Error()}
}

// startHint says how the hive of this machine is started: as a service where root has a unit
// for it, below root.
func startHint(root string) string {
	for _, dir := range []string{"etc/systemd/system", "run/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"} {
		if _, err := os.Stat(filepath.Join(root, dir, "hive.service")); err == nil {
			return "start it with `systemctl start hive`"
		}
	}
	return "start it with `make run` or bin/hive"
}

// refusalHints say what can be done about a refused request, by the code of the
// problem+json. The malformed ones have none: their hint is the help of the command.
var refusalHints = map[string]string{
	"unknown_worker_type":   "hivectl types list shows the worker types",
	"unknown_operation":     "docs/http-reference.md lists the operations",
	"not_found":             "see hivectl workers list, leases list and jobs list",
	"method_not_allowed":    "this hive is older than hivectl: hivectl status shows its version",
	"conflict":              "look at it again: it may have changed meanwhile",
	"unauthorized":          "run it as root or as hive's user (sudo hivectl ...), give a token (--token-file FILE), or ask an admin: hivectl tokens add NAME, or access in hive.yaml",
	"forbidden":             "an admin may, or can allow it: access and allow in hive.yaml, or another token (hivectl tokens add)",
	"forbidden_host":        "reach hive by a loopback name, or add this one to allowed_hosts in hive.yaml",
	"cross_origin":          "hive takes this for a request from a web page; connect without the proxy in between",
	"shutting_down":         "start it again; workers keep running",
	"recovering":            "it serves once every worker has been verified; try again in a moment",
	"invalid_configuration": "nothing was changed; correct the file and try again",
	"ports_exhausted":       jobHints["ports_exhausted"],
	"port_unavailable":      jobHints["port_unavailable"],
	"events_gone":           "start with the oldest event that is kept (without --after), or with --after latest",
	"queue_full":            "too many jobs are waiting; see hivectl jobs list --state queued",
	"disk_full":             jobHints["disk_full"],
}

// classifyRefusal maps the codes of problem+json.
func classifyRefusal(e *client.Error) *Error {
	f := &Error{Code: ExitFailed, Text: e.Error(), Hint: refusalHints[e.Code]}
	switch e.Code {
	case "bad_request", "unknown_field", "unknown_operation", "too_large":
		f.Code = ExitUsage
	case "not_found", "unknown_worker_type":
		f.Code = exitNotFound
	// As good as gone: a script that waits for the hive waits for this one too.
	case "shutting_down":
		f.Code, f.Text = ExitUnreachable, "the hive is shutting down"
	case "recovering":
		f.Text = "the hive is still " + e.Error()
	case "internal":
		f.Hint = "see the daemon's log for request id " + e.RequestID
	}
	return f
}

// outages reports once per outage that the hive is away or recovering, however many
// requests notice it. Safe for concurrent use.
type outages struct {
	mu      sync.Mutex
	noticed bool
}

// first reports whether this outage has not been reported yet.
func (o *outages) first() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	noticed := o.noticed
	o.noticed = true
	return !noticed
}

// reset makes the next outage be reported again.
func (o *outages) reset() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.noticed = false
}

// Answered says that the hive has responded: the next outage is reported again.
func (a *App) Answered() { a.outages.reset() }

// NoticeWait reports an outage.
func (a *App) NoticeWait(err error) {
	if !a.outages.first() {
		return
	}
	if errors.Is(err, client.ErrRecovering) {
		a.Notice("hive is %v; waiting for it", err)
		return
	}
	a.Notice("hive is not reachable; waiting for it")
}

// Notice prints one line for a person to Stderr.
func (a *App) Notice(format string, args ...any) {
	fmt.Fprintln(a.Env.Stderr, output.Clean(fmt.Sprintf(format, args...)))
}
