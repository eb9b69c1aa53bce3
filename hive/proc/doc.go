// Package proc starts, recognises, follows and ends the operating-system
// processes of workers, so that a kill -9 of hive at any moment leaves neither a
// process without a record nor a stranger that is taken for a worker.
//
// # Model
//
// Start makes a child that stands at a gate, in its own
// session and, where there is cgroup v2, its own cgroup. Its identity is recorded
// by the caller; only then Gated.Open lets it run its program. If hive dies
// before, the child ends. The gate is the kernel, which holds a traced process in its execve,
// where the program allows that (traced_linux.go), and else a process (package proc/gate).
//
// An identity is boot id, PID, start time, pidfd inode and PID namespace. Adopt
// compares a recorded one with what runs: Alive, Dead or Unknown. A Process holds a
// pidfd that was verified after it was opened; waiting happens in Go's poller.
//
// A Tree is a worker with all it started. A process is a member by any one proof:
// its cgroup, its stdout or stderr being the worker's log, the stamps in its
// environment, the session of the living main process, or descent from a member.
//
// Cgroup, session and descent are facts that the kernel states, and count for processes
// of every user. A log and stamps are claims of the process itself, and other users of
// the machine are hostile: a claim counts only from a process whose four uids are the
// worker's user (Tree.UID), and not in the cgroup of another worker. The ids in the
// stamps are public; StampProof is an HMAC of them and the uid with the secret of the
// state (Prove), and can be read by hive and processes of that user only. The kernel's
// facts cannot be forged, so what a member has started is a member whatever user it has.
//
//	spec -> Start -> Gated -> (record Identity) -> Open -> Process -> Done, Exit
//	recorded Identity -> Adopt -> Process
//	Tree{Main, ...} -> Members, Owns, ListenPorts, End
//
// A foreground child (Spec.Foreground) waits behind the same gate, but takes its
// caller's place: terminal, standard files, session and environment are the
// caller's. ForwardSignals forwards what the caller is sent meanwhile, and ExitCode
// says what the caller exits with.
//
//	spec -> Start -> Gated -> ForwardSignals(Gated.Process) -> (record) -> Open -> Done, Exit -> ExitCode
//
// A Command is run to its end by Run, and is not recorded: it has ended when all it has
// started has, and its main process does not outlive hive. It goes through the same
// gate, for what that does to descriptors, signals and rights. Its output goes to a log,
// or is returned.
//
//	Command -> Run -> Result
//
// Ask is separate from all this: it runs a program of the system, as hive, that only
// reports what a driver knows.
//
// What programs of another user (Spec.User) get from hive is decided here: Credential
// has the user's groups, Credential.Environ and Inheritance the table of variables,
// Spec.NoNewPrivs the rights that cannot be gained. AsUser accesses files with such a
// user's rights, and OpenRegular opens what somebody else may have put in a file's place.
// What is looked at by a Look may be on a file system that does not answer: LookApart has a
// process of its own do that.
//
// FindFeatures describes what the kernel offers to this package, for a report to a
// person. Everything else about the machine that hive runs on is in package host.
//
// # Reading order
//
//	identity_linux.go, pidfd_linux.go   what one process is
//	start, child, files, gated          from a spec to a process
//	process, exit                       following one to its end
//	survey, claims, users               which processes belong to which tree
//	stop, scan, scanqueue               ending a tree
//	owns, usage, counters               sockets and usage of a tree
//	sweep, living                       processes without a record
//	command, endcommands, ask           programs that are not workers
//	internal/procfs, internal/cgroup    what /proc and cgroup files say
//
// # Guarantees
//
//   - Nothing of the program runs before Open was called. What Ask runs has no
//     record and dies with hive.
//   - A signal reaches the process it is meant for or none: pidfd_send_signal on
//     a verified pidfd, never kill(2) on a recorded number, never a group but that of
//     a child of Ask that has not been reaped.
//   - A process is called Dead only on proof; what cannot be decided is Unknown.
//   - A process of another user that neither hive nor a worker has started is no
//     member, no orphan, no living worker and no command, whatever it does.
//   - An exit code is the kernel's or unknown, never made up.
//   - A worker with a cgroup is gone as a whole when Tree.Stop returns that nothing is
//     left.
//   - Following a process costs a descriptor and a goroutine, no thread.
//   - When Run returns, nothing of its command runs on but Result.Left, with the
//     same proof or best effort as Tree.Stop.
//   - A program that runs as another user (Spec.User) who is not root has that user's
//     groups, no capabilities, no_new_privs unless it was given up, and no keyring of
//     hive's session. It is followed, proven and ended like any other.
//   - A file system that hangs does not hold up a fork, nor the check of a working
//     directory or a call of AsUser for longer than is documented there.
//
// # Caveats
//
//   - Linux 5.4 or later (pidfds from clone and in waitid). Elsewhere the package
//     compiles and returns ErrUnsupported.
//   - Without a cgroup, Stop is best effort against a program that keeps forking:
//     descendants that also leave the session, close the log and wipe their
//     environment are found only while a proven process is their ancestor.
//   - Workers of one user that have no cgroups can read each other's stamps and pass
//     each other's descriptors on: they are not kept apart. Nor is a worker of hive's
//     own user from hive.
//   - A member that changes its user is found by its cgroup, the session of the main
//     process or its parents; without a cgroup by log or stamp only as long as it
//     stays in the session that hive made.
//   - A pidfd becomes readable when the last thread of a process ends. A process
//     whose first thread has ended is a zombie in ps and alive here.
//   - Other users' processes cannot be inspected without CAP_SYS_PTRACE; that
//     shows as fewer proofs, OwnerUnknown and unknown exits, never as an error. A
//     hive that is root has it, unless a container took it away.
//   - hive's own program must be executable by every user that a program is started
//     as; that user need not be able to enter the directory it is in.
//   - A foreground child outlives a kill -9 of its caller once the gate was opened,
//     and is no Tree: it has none of the marks that make one. It gets a signal twice
//     that is sent to the whole process group, except for SIGINT and SIGQUIT of a
//     terminal.
//   - A kill -9 of hive ends the main process of a command, but not what that has
//     started, nor a main process that has changed its user (sudo): these run on
//     until EndCommands, and are found by their cgroup or mark only. A command costs
//     a thread as long as it runs.
//   - A cgroup is below hive's own. A service manager that kills hive's whole
//     cgroup when hive stops kills the workers with it (systemd: KillMode=process).
package proc
