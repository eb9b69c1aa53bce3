// Package output writes what hivectl prints: plain text, tables, YAML, and words quoted for
// a shell.
//
// Guarantees. What comes from a worker or a server is one line of plain text after Clean,
// Or, OrDash and ShellWords. A Terminal passes nothing else on to a real one but the
// colours of Paint and, of a log, its own. Tables shrink to a width in an order that their
// columns give, and are never cut in a pipe.
//
// It knows no command, no hive and no flags: whether there are colours and how wide the
// terminal is, the caller says. It may write to the writers that it is given, and ask a file
// for the size of its terminal.
package output
