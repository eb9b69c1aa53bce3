package proc

import "rbeehive/store"

// Spec is what Start needs to know.
type Spec struct {
	// Argv is the worker's exact argument vector; Argv[0] is the absolute path of the program.
	Argv []string
	// Env is the worker's whole environment except the stamps; see Environ.
	Env []string
	// Dir is the working directory; empty: hive's own, or / for a User who is not
	// hive's own. User must be able to enter it.
	Dir string
	// Log is the file that takes stdout and stderr. It is created with mode 0600 and
	// only appended to; a symbolic link is not followed.
	Log string
	// User is whom the program runs as, in the form of LookUser; empty or hive's own
	// user: as hive does. Only root can start programs as another user; to all others
	// that is an error that wraps ErrOtherUser. The program has that user's groups
	// and no others, and Log becomes the user's file. HOME and the like are the
	// caller's to set: see Credential.Environ.
	User string
	// NoNewPrivs has the program and all it starts run with no_new_privs: no setuid
	// program and no file's capabilities give it rights (prctl(2),
	// PR_SET_NO_NEW_PRIVS). Nil: if User is neither hive's own user nor root.
	NoNewPrivs *bool
	// Cgroup is the name of a new leaf cgroup under CgroupRoot(StateID), best the
	// worker's id, which is never used again. Empty: none. Where there is no
	// writable cgroup v2 the process is started without, and Gated.Cgroup is empty.
	Cgroup string
	// LeaseID, WorkerID, StateID and Name, which can be empty, become the stamps, which
	// Secret proves; nil: they are not proven, and count for a process of its user only.
	LeaseID, WorkerID, StateID, Name string
	Secret                           store.Secret
	// Foreground makes a child that takes the caller's place instead of a worker:
	// it keeps the caller's session, process group and terminal, has descriptors 0
	// to 2 of the caller as its standard files, and Env as it is. It has no log, no
	// cgroup, no stamps and no other user; the fields for these must be empty. See
	// ForwardSignals.
	Foreground bool
}
