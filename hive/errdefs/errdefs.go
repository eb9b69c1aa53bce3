package errdefs

import (
	"errors"
	"fmt"

	"rbeehive/store"
	"rbeehive/store/plain"
)

// Sentinel errors. They are wrapped with detail; test them with errors.Is.
var (
	// ErrNotFound: no such job, worker or lease.
	ErrNotFound = errors.New("not found")
	// ErrConflict: what was asked for contradicts the present state (a job that has already ended, say).
	ErrConflict = errors.New("conflict")
	// ErrForbidden: the caller is known, and may not do this.
	ErrForbidden = errors.New("forbidden")
	// ErrRecovering: the hive does not serve yet.
	ErrRecovering = errors.New("recovering")
	// ErrInvalidConfiguration: what was to be reloaded has a mistake; nothing was changed.
	ErrInvalidConfiguration = errors.New("invalid configuration")
	// ErrEventsGone: the events that were asked for have been removed, or are of another state file.
	ErrEventsGone = errors.New("events gone")
	// ErrQueueFull: jobs.max_queued jobs are waiting.
	ErrQueueFull = errors.New("queue full")
	// ErrClosed: the hive is shutting down.
	ErrClosed = errors.New("shutting down")
	// ErrUnknownOperation: the operation tag is not known to anybody.
	ErrUnknownOperation = errors.New("unknown operation")
	// ErrUnknownWorkerType: no such worker type.
	ErrUnknownWorkerType = errors.New("unknown worker type")
	// ErrUnknownField: the operation has a field that it does not take.
	ErrUnknownField = errors.New("unknown field")
	// ErrBadRequest: a field has a wrong value, or the body is not a JSON object.
	ErrBadRequest = errors.New("bad request")
)

// InputError is a mistake in what a caller sent. It unwraps to the sentinel in Kind.
type InputError struct {
	Kind   error  // ErrBadRequest, ErrUnknownField, ErrUnknownOperation, ErrUnknownWorkerType, ErrForbidden or ErrInvalidConfiguration
	Field  string // the field at fault; empty for the body as a whole
	Detail string // what was expected
}

func (e *InputError) Error() string {
	if e.Field == "" {
		return e.Detail
	}
	return fmt.Sprintf("%s: %s", e.Field, e.Detail)
}

func (e *InputError) Unwrap() error { return e.Kind }

// BadField is a field with a wrong value. detail goes on after the field's name, as in
// "is 0; expected an integer from 1 to 65535".
func BadField(name, detail string) error {
	return &InputError{Kind: ErrBadRequest, Field: name, Detail: detail}
}

// Causes of a job's context that has ended before the job.
var (
	// ErrCancelled: a caller has cancelled the job.
	ErrCancelled = errors.New("cancelled on request")
	// ErrClosing: hive closes; the next recovery decides what becomes of the job.
	ErrClosing = errors.New("hive is closing")
)

// Failure is why a job has failed, on its way to the job's record.
type Failure struct {
	store.JobError

	cancelled bool
}

func (f *Failure) Error() string { return f.Code + ": " + f.Message }

// Is says of what failed because it was cancelled that it was: nothing has gone wrong then.
func (f *Failure) Is(target error) bool { return f.cancelled && target == ErrCancelled }

// Fail makes a Failure with one of the codes below. Its message becomes plain text: names
// that anybody can choose are in it. If one of args is ErrCancelled, so is the Failure.
func Fail(code, format string, args ...any) *Failure {
	f := &Failure{JobError: store.JobError{Code: code, Message: plain.Text(fmt.Sprintf(format, args...)), Log: []string{}}}
	for _, arg := range args {
		if err, ok := arg.(error); ok && errors.Is(err, ErrCancelled) {
			f.cancelled = true
		}
	}
	return f
}

// The codes of a failed job.
const (
	CodePortsExhausted       = "ports_exhausted"
	CodePortUnavailable      = "port_unavailable"
	CodeNameInUse            = "name_in_use"
	CodeProgramNotFound      = "program_not_found"
	CodeExecFailed           = "exec_failed"
	CodeExitedEarly          = "exited_early"
	CodeNotReady             = "not_ready"
	CodeForeignListener      = "foreign_listener"
	CodeWrongPort            = "wrong_port"
	CodeStopIncomplete       = "stop_incomplete"
	CodeNotFound             = "not_found"
	CodeConflict             = "conflict"
	CodeUnsupportedOperation = "unsupported_operation"
	CodeInterrupted          = "interrupted"
	CodeExpired              = "expired"
	CodeCancelled            = "cancelled"
	CodeDiskFull             = "disk_full"
	CodeModelInUse           = "model_in_use"
	CodeModelAmbiguous       = "model_ambiguous"
	CodeHubUnauthorized      = "hub_unauthorized"
	CodeDownloadFailed       = "download_failed"
	CodeDownloadCorrupt      = "download_corrupt"
	CodeInternal             = "internal"
)
