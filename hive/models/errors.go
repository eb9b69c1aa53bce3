package models

import "errors"

// Sentinel errors. They are wrapped with detail; test them with errors.Is.
var (
	// ErrInvalidID: not an id of a model.
	ErrInvalidID = errors.New("invalid model id")
	// ErrNotFound: no such model in the catalog, or no such repository or file on the hub.
	ErrNotFound = errors.New("model not found")
	// ErrInUse: the model is in use, is being downloaded, or is being deleted.
	ErrInUse = errors.New("model in use")
	// ErrAmbiguous: the repository has several models, and the id names none of them.
	ErrAmbiguous = errors.New("which file?")
	// ErrUnauthorized: the hub wants a token, or does not accept the one there is.
	ErrUnauthorized = errors.New("not authorized by the hub")
	// ErrUnavailable: the hub could not be reached, or did not give the whole file, in all tries.
	ErrUnavailable = errors.New("download failed")
	// ErrCorrupt: what came is not what the hub lists.
	ErrCorrupt = errors.New("not what the hub lists")
	// ErrFormat: a file whose name is that of a model is none.
	ErrFormat = errors.New("not a model file")
	// ErrDiskFull: there is not enough space for the model.
	ErrDiskFull = errors.New("disk full")
)
