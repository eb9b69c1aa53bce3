package command

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"sync"

	"rbeehive/httpapi/client"
)

// The exit codes of api.md.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitUnreachable = 4
)

// cliError is an error with its exit code and, if there is something to do, a hint.
type cliError struct {
	code int
	text string
	hint string
}

func (f *cliError) Error() string { return f.text }

func usage(text, hint string) error { return &cliError{code: exitUsage, text: text, hint: hint} }

func failed(text, hint string) error { return &cliError{code: exitFailed, text: text, hint: hint} }

func notFound(text, hint string) error { return &cliError{code: exitNotFound, text: text, hint: hint} }

// reported is a failure whose details are on Stderr already.
type reported struct{ code int }

func (r *reported) Error() string { return fmt.Sprintf("exit code %d", r.code) }

// report prints an error and returns its exit code.
func (a *app) report(err error) int {
	var done *reported
	if errors.As(err, &done) {
		return done.code
	}
	f := classify(err)
	hint := f.hint
	if denied := a.deniedSocket(err); denied != "" {
		hint = "you may not open " + denied + ": join its group and log in again (ls -l shows the group), or give a token with --token-file"
	}
	if hint == "" && f.code == exitUsage && a.command != "" {
		hint = a.command + " --help"
	}
	fmt.Fprintf(a.env.Stderr, "hivectl: %s\n", clean(f.text))
	if hint != "" {
		fmt.Fprintf(a.env.Stderr, "hint: %s\n", clean(hint))
	}
	return f.code
}

// deniedSocket is the control socket of a hive that has refused a request over TCP
// because this user may not open the socket; empty: that is not so.
func (a *app) deniedSocket(err error) string {
	refused, ok := errors.AsType[*client.Error](err)
	if !ok || a.hive == nil || refused.Code != "unauthorized" && refused.Code != "forbidden" {
		return ""
	}
	return a.hive.Denied()
}

// classify finds the exit code and the hint of an error.
func classify(err error) *cliError {
	var known *cliError
	var refused *client.Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, context.Canceled):
		return &cliError{code: exitFailed, text: "interrupted"}
	case errors.Is(err, client.ErrAddress):
		return &cliError{code: exitUsage, text: err.Error(), hint: "say where the hive is with --addr or HIVE_ADDR"}
	case errors.As(err, new(*tls.CertificateVerificationError)):
		return &cliError{code: exitUnreachable, text: err.Error(), hint: "trust a private certificate with --ca-file FILE or HIVE_CA_FILE, and reach hive by a name that is in it"}
	case errors.Is(err, http.ErrSchemeMismatch):
		return &cliError{code: exitUnreachable, text: err.Error(), hint: "what answers there speaks no TLS: try http:// instead of https://"}
	case errors.Is(err, client.ErrUntrustedListener):
		return &cliError{code: exitUnreachable, text: err.Error(), hint: "find out what that is, and say where the hive is with --addr: its unix socket needs no token, and https:// shows that it is the right one"}
	case errors.Is(err, client.ErrProxy):
		return &cliError{code: exitUnreachable, text: err.Error(), hint: "reach hive by https://, or name its host in NO_PROXY"}
	case errors.Is(err, client.ErrUnreachable) && errors.Is(err, fs.ErrPermission):
		return &cliError{code: exitUnreachable, text: err.Error(), hint: "join the group of that socket and log in again (ls -l shows the group), or say where another hive is with --addr"}
	case errors.Is(err, client.ErrUnreachable):
		return &cliError{code: exitUnreachable, text: err.Error(), hint: "start it with `make run` or bin/hive, or say where it is with --addr or HIVE_ADDR"}
	case errors.Is(err, client.ErrNotAHive):
		return &cliError{code: exitUnreachable, text: "what answers there is not a hive: " + err.Error(), hint: "say where the hive is with --addr or HIVE_ADDR; a hive with a certificate answers to https:// only"}
	case errors.As(err, &refused):
		return classifyRefusal(refused)
	}
	return &cliError{code: exitFailed, text: err.Error()}
}

// refusalHints say what can be done about a refused request, by the code of the
// problem+json. The malformed ones have none of their own: the help of the command is.
var refusalHints = map[string]string{
	"unknown_worker_type":   "hivectl types list shows what there is",
	"unknown_operation":     "docs/http-reference.md lists the operations",
	"not_found":             "hivectl workers list, leases list and jobs list show what there is",
	"method_not_allowed":    "this hive is older than hivectl: hivectl status shows its version",
	"conflict":              "it is not as it was: look at it again, and decide anew",
	"unauthorized":          "run it as root or as hive's user (sudo hivectl ...), give a token (--token-file FILE), or ask an admin: hivectl tokens add NAME, or access in hive.yaml",
	"forbidden":             "an admin may, or can allow it: access and allow in hive.yaml, or another token (hivectl tokens add)",
	"forbidden_host":        "reach hive by a loopback name, or add this one to allowed_hosts in hive.yaml",
	"cross_origin":          "hive takes this for the request of a web page; leave out the proxy that is in between",
	"shutting_down":         "start it again; workers keep running",
	"recovering":            "it serves when every worker has been judged; try again in a moment",
	"invalid_configuration": "nothing was changed; correct the file and try again",
	"ports_exhausted":       jobHints["ports_exhausted"],
	"port_unavailable":      jobHints["port_unavailable"],
	"events_gone":           "begin with the oldest that is kept (without --after), or with --after latest",
	"queue_full":            "too many jobs are waiting; see hivectl jobs list --state queued",
	"disk_full":             jobHints["disk_full"],
}

// classifyRefusal maps the codes of problem+json.
func classifyRefusal(e *client.Error) *cliError {
	f := &cliError{code: exitFailed, text: e.Error(), hint: refusalHints[e.Code]}
	switch e.Code {
	case "bad_request", "unknown_field", "unknown_operation", "too_large":
		f.code = exitUsage
	case "not_found", "unknown_worker_type":
		f.code = exitNotFound
	case "shutting_down":
		f.code, f.text = exitUnreachable, "the hive is shutting down"
	case "recovering":
		f.text = "the hive is still " + e.Error()
	case "internal":
		f.hint = "the daemon's log has more under request id " + e.RequestID
	}
	return f
}

// outages says once per outage that the hive is away or recovering, however
// many requests notice it. Safe for concurrent use.
type outages struct {
	mu      sync.Mutex
	noticed bool
}

// first reports whether this outage has not been told about yet.
func (o *outages) first() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	noticed := o.noticed
	o.noticed = true
	return !noticed
}

// reset makes the next outage worth a line again.
func (o *outages) reset() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.noticed = false
}

// answered says that the hive is there: the next outage is worth a line again.
func (a *app) answered() { a.outages.reset() }

// noticeWait tells about an outage.
func (a *app) noticeWait(err error) {
	if !a.outages.first() {
		return
	}
	if errors.Is(err, client.ErrRecovering) {
		a.notice("hive is %v; waiting for it", err)
		return
	}
	a.notice("hive is not reachable; waiting for it")
}

// notice prints one line for a person to Stderr.
func (a *app) notice(format string, args ...any) {
	fmt.Fprintln(a.env.Stderr, clean(fmt.Sprintf(format, args...)))
}
