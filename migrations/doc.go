// Package migrations brings a state file to the schema of this build.
//
// # Model
//
// A schema is a whole number, kept in the file as meta/schema. A Step leads
// from the schema before it to Step.To; steps are an ordered slice without
// gaps. Apply runs the ones a file still needs, each in one transaction that
// also writes the new number, so a crash leaves a file that is wholly at one
// schema or wholly at the next.
//
// The package knows bbolt and nothing else of hive. A step must do in ten
// years what it does today, so it never uses the record types or bucket names
// of package store, which change: it keeps frozen copies of its own. Frozen for
// every schema are the bucket "meta", the key "schema" and the form of its
// value, because a build must be able to read the number in a file that a much
// newer build has written.
//
// # Guarantees
//
//   - A file with a newer schema is refused (ErrNewer) and not written to.
//   - Before the first step on a file that has data, the caller's backup
//     function sees the file as it was; if that fails nothing is changed.
//   - A step that fails leaves the file as it was before that step.
//
// # Caveats
//
// Apply needs the file to itself; the lock that bbolt holds on an open file is
// what ensures it. There is no way down: going back to an older build means
// restoring the backup.
package migrations
