// Package command is hivectl without its process: the commands, what they
// print, and their exit codes.
//
// Model: Run takes an Env, which is all of the outside world a command sees, builds the
// command tree and returns an exit code. Every command gets its data through
// httpapi/client; there is one file per command.
//
// The commands stand in groups, packages that know the base and not each other: workers,
// start, leases, jobs, inspect and admin. The base is cli (the app of one run, its errors and
// exit codes) above output (text, tables, the way to a terminal), and knows no command. Only
// this package knows all groups. db and library are the parts that work without a daemon.
//
// Output rules. The result goes to Stdout, everything else (progress, notices, errors) to
// Stderr. With -o json Stdout has the response of the API, byte for byte, and with -o yaml
// the same as YAML; -q leaves only what other commands take as an argument. An error is one
// line, "hivectl: ...", and a second one, "hint: ...", says what to do about it. Colour
// only on a terminal, and not with NO_COLOR or TERM=dumb; only there tables give way to its
// width.
//
// Text from a worker or a server becomes plain text (package store/plain) before it goes
// into a line of ours, so that it cannot drive the terminal, and nothing else gets through
// to one (output.Terminal): what `-o json` and `hivectl logs` pass on as it is to a pipe
// has its control characters, and invisible characters, as escapes there. Of a log a
// terminal also gets the colours.
//
// Exit codes: 0 ok; 1 failed; 2 usage, that is also a request the API calls malformed; 3
// not found, that is also an unknown worker type; 4 the daemon is not reachable, or
// something else listens at its address.
//
// Caveats: Ctrl-C detaches from what the daemon does and never undoes it.
// Only main ends the process.
package command
