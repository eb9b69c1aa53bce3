package catalog

import (
	"errors"
	"fmt"

	"rbeehive/store/plain"
)

// Sentinel errors. They are wrapped with detail; test them with errors.Is.
var (
	// ErrEntry: an entry of the configuration is wrong. See EntryError.
	ErrEntry = errors.New("wrong worker entry")
	// ErrModelRequired: the type's command uses a model and none was given.
	ErrModelRequired = errors.New("a model is required")
	// ErrUnknownParam: a parameter was given that the type does not have.
	ErrUnknownParam = errors.New("unknown parameter")
	// ErrBadDevice: a device that the type's preset cannot pin.
	ErrBadDevice = errors.New("unknown device")
	// ErrUnavailable: nothing can be spawned of this type; Type.Unavailable says why.
	ErrUnavailable = errors.New("worker type is not available")
	// ErrRender: the command could not be made from its templates.
	ErrRender = errors.New("render command")
)

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
