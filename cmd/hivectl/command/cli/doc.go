// Package cli is what every command of hivectl needs, and knows no command.
//
// Model: App is one run. A group of commands gets it once, makes its cobra commands of it,
// and while one runs asks App.Hive, prints a View or a Listing, follows a job (Run, Await,
// Outcome), and returns an error, of which Report makes the exit code and the two lines on
// Stderr.
//
// Promises. The world is Env and nothing else: no command reads os.Args, the environment or
// the clock by itself. Where the hive is, which token goes there and whom that token is for
// is decided here and nowhere else. What an error means for the exit code, and what can be
// done about it, stands in errors.go and follow.go.
//
// It may read the token and CA files that are named and the token of the caller's own hive,
// and talks to the hive through httpapi/client. It writes no file and starts no process.
//
// Caveats: Hive is nil until Start, so a constructor of a command must not use it, and what
// Tab offers has a client of its own (Complete).
package cli
