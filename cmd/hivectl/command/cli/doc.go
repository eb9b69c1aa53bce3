// Package cli is what every command of hivectl needs, and knows no command.
//
// Model: App is one run. A group of commands gets it once, makes its cobra commands of it,
// and while one runs calls App.Hive, prints a View or a Listing, follows a job (RunJob,
// FollowJob, Outcome), and returns an error, which Report turns into the exit code and the
// two lines on Stderr.
//
// Guarantees. A command's environment is Env and nothing else: no command reads os.Args,
// the environment or the clock by itself. Where the hive is, which token goes there and
// whom that token is for is decided only here. The exit code of an error, and what can be
// done about it, are in errors.go and follow.go.
//
// It may read the token and CA files that are named and the token of the caller's own hive,
// and talks to the hive through httpapi/client. It writes no file and starts no process.
// Caveats: Hive is nil until Start, so a constructor of a command must not use it, and
// completions have a client of their own (Complete).
package cli
