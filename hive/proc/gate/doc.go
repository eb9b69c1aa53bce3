// Package gate is the start gate of a worker: the first thing a new process
// runs, and the only thing until hive has recorded it.
//
// # Model
//
// Package proc starts a child from /proc/self/exe with the argument vector
//
//	hive-gate <letters> <working directory> <path of the program> <argv[0] of the program> <argv[1]> ...
//
// with the worker's own environment, user, session and cgroup, a
// pipe to read from on descriptor 3 and a pipe to report on on descriptor 4.
// The gate waits for exactly one byte, 'G', on descriptor 3. End of file (hive
// was killed, or gave up) and any other byte make it exit with ExitNotOpened
// without having run anything of the worker. On 'G' it marks every descriptor
// above 2 close-on-exec, sets every signal to its default, unblocks all of
// them, does what the letters say (NoNewPrivs, AnotherUser), changes to the working
// directory unless that is empty, and replaces itself by the program. The byte 'H' does the same but leaves
// SIGHUP as it was inherited. The PID, the start time and the
// pidfd do not change in that. If a step fails, the gate writes one report
// (ReportSize bytes, see Report) to descriptor 4 and exits with ExitNotExecuted;
// descriptor 4 is close-on-exec, so end of file without a report means that the
// program was executed.
//
// # Why an initialiser
//
// hive has a rule against init functions; this package is the one exception.
// The gate is hive's own binary, and that links packages whose initialisation
// alone costs more than the whole spawn. An initialiser of a package that
// imports nothing but os and syscall runs before theirs; a gate in main would
// run after. It is guarded twice: argv[0] must be exactly "hive-gate" and
// descriptor 3 must be a pipe; no other process notices it.
//
// Since Go 1.21 the linker sorts packages by import path and repeatedly
// initialises the first one whose imports are done (go.dev/ref/spec, "Program
// initialization"). os and syscall are enough for this package, and
// "rbeehive/..." sorts before "reflect", "strconv", "strings" and "unicode",
// without which nothing heavy can start. A test runs the real binary with
// GODEBUG=inittrace=1 and fails when a heavy package comes first; so an import
// added here, or a rename of the module to something that sorts later, is
// noticed.
//
// # Guarantees
//
//   - Nothing of the program runs before 'G' or 'H' was read.
//   - No descriptor but 0, 1 and 2 reaches the program, also none that hive
//     inherited without close-on-exec.
//   - Signals that hive was started with as ignored (SIGINT and SIGQUIT after
//     `hive &` in a shell without job control) are back to their defaults.
//   - With the letter NoNewPrivs nothing that the program executes gets it rights
//     that it has not (PR_SET_NO_NEW_PRIVS), or it is not executed.
//   - The working directory is one that the program's user may enter, and a file
//     system of that user's that hangs hangs this one process: a fork that changes
//     the directory itself keeps its parent waiting.
//   - The program does not inherit an ambient CAP_SYS_PTRACE, which a hive that is
//     not root has for itself; other ambient capabilities are passed on.
//   - RLIMIT_NOFILE of the program is what hive was started with: the Go
//     runtime raises the soft limit at start and syscall.Exec restores it.
//
// # Caveats
//
//   - Every binary that calls proc.Start must link this package. Package proc
//     imports it, so that cannot be forgotten.
//   - The gate is a Go process with the worker's environment: a worker that is
//     given GODEBUG or GOMEMLIMIT on purpose has them act on its gate too.
//   - syscall.Exec sets RLIMIT_NOFILE back, also over a prlimit(2) that hive made
//     on the waiting gate; that one limit has to be given to the gate to apply.
//   - With the build tag nogate it does not wait. That build exists for one
//     test, which proves that the torture test can find processes without a record.
package gate
