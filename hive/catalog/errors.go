package catalog

import (
	"errors"
	"fmt"

	"rbeehive/store/plain"
)

// Sentinel errors. They are wrapped with detail; test them with errors.Is.
var (
	// ErrEntry: an entry of the configuration is wrong. See EntryError.
	ErrEntry = errors.New("invalid worker entry")
	// ErrModelRequired: the type's command uses a model and none was given.
	ErrModelRequired = errors.New("a model is required")
	// ErrUnknownParam: a parameter was given that the type does not have.
	ErrUnknownParam = errors.New("unknown parameter")
	// ErrBadParam: a parameter was given that only the configuration sets, or a value
	// that its pattern does not allow.
	ErrBadParam = errors.New("parameter not allowed")
	// ErrFlag: what a caller gave would make an argument that is a flag.
	ErrFlag = errors.New("would become a flag")
	// ErrBadDevice: a device that the type's preset cannot pin, or that is no word.
	ErrBadDevice = errors.New("unknown device")
	// ErrUnavailable: nothing can be spawned of this type; Type.Unavailable says why.
	ErrUnavailable = errors.New("worker type is not available")
	// ErrRender: the command could not be made from its templates.
	ErrRender = errors.New("render command")
)

// ValueError is a value of a spawn that its type does not take. It unwraps to
// ErrModelRequired, ErrUnknownParam, ErrBadParam, ErrBadDevice or ErrFlag.
type ValueError struct {
	Field string // of the spawn: "model", "device", "name", "params" or "params.ctx"; empty: it cannot be said which
	Err   error
}

func (e *ValueError) Error() string { return e.Err.Error() }

func (e *ValueError) Unwrap() error { return e.Err }

// EntryError is a mistake in one entry of the configuration. It unwraps to ErrEntry.
type EntryError struct {
	Index  int    // position in the list of entries
	File   string // of types.d that the entry is in; empty: the configuration
	Name   string // name of the entry, if it has one
	Key    string // the key at fault, "stop.scope" or "command[2]"
	Reason string // what is wrong and what was expected
}

// Error is one line, whatever the names and templates of the entry hold.
func (e *EntryError) Error() string {
	who := fmt.Sprintf("workers[%d]", e.Index)
	if e.File != "" {
		who = "types.d"
	}
	if e.Name != "" {
		who += " (" + e.Name + ")"
	}
	return plain.Text(who + ": " + e.Key + ": " + e.Reason)
}

func (e *EntryError) Unwrap() error { return ErrEntry }
