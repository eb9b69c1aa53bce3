// Package command is hivectl without its process: the commands, what they
// print, and their exit codes.
//
// Model: Run takes an Env, which is all of the outside world a command sees, builds the
// command tree and returns an exit code. Every command gets its data through
// httpapi/client; there is one file per command.
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
// to one (type terminal): what `-o json` and `hivectl logs` pass on as it is to a pipe has
// its control characters, and invisible characters, as escapes there. Of a log a terminal
// also gets the colours.
//
// Exit codes: 0 ok; 1 failed; 2 usage, that is also a request the API calls malformed; 3
// not found, that is also an unknown worker type; 4 the daemon is not reachable, or
// something else listens at its address.
//
// Caveats: Ctrl-C detaches from what the daemon does and never undoes it.
// Only main ends the process.
package command
