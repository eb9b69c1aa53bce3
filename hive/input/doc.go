// Package input reads what callers send: one JSON object, strictly. A member that is
// unknown, that is duplicated, or that has a value of another type is refused with an
// *errdefs.InputError that names the field and says what was expected. Nothing here
// blocks or has effects; all of it is safe for concurrent use.
package input
