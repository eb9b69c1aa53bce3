package proc

import (
	"fmt"
	"strings"
	"time"

	"rbeehive/store"
)

// StampCommand is the variable by which a command is recognised: the state id, a
// slash and Command.Name. Commands have no other stamps but its StampProof.
const StampCommand = "RBEEHIVE_HOOK"

// Command is a program that Run runs to its end, such as one that prepares a
// worker or stops it.
type Command struct {
	// Argv is the exact argument vector; Argv[0] is the absolute path of the program.
	Argv []string
	// Env is the whole environment; Run adds StampCommand and StampProof.
	Env []string
	// Dir, User and NoNewPrivs are as in Spec.
	Dir, User  string
	NoNewPrivs *bool
	// Log is as in Spec. It may be a worker's: then the command is a member of that
	// worker while it runs, by its log, unless it has a cgroup of its own. Empty: what the
	// command writes to stdout and stderr is returned in Result.Output.
	Log string
	// StateID says whose command it is, and Secret proves it.
	StateID string
	Secret  store.Secret
	// Name names the run, best with the worker's id in it. It is part of the mark and
	// of the cgroup's name: two commands of one name must not run at once. It has no
	// slash.
	Name string
}

// Result is how a command ended.
type Result struct {
	Exit store.Exit    // of the main process
	Took time.Duration // until the main process had ended, or ctx
	// Ended are its other processes that were still running then; Run has ended them.
	Ended []Member
	Left  []Member // those that could not be ended
	// Output is the first 256 KiB of what a command without a log has written.
	Output []byte
}

// commandLeaf begins the name of a command's cgroup. No worker's id has a colon in it.
const commandLeaf = "hook:"

// markPrefix returns the beginning of the mark of all commands of a hive.
func markPrefix(stateID string) string { return stateID + "/" }

func (c *Command) mark() string { return markPrefix(c.StateID) + c.Name }

func (c *Command) check() error {
	switch {
	case c.StateID == "" || strings.ContainsAny(c.StateID, "/\x00"):
		return fmt.Errorf("state id: expected one without a slash, it is %q", c.StateID)
	case c.Name == "" || strings.ContainsAny(c.Name, "/\x00"):
		return fmt.Errorf("name: expected a name without a slash, it is %q", c.Name)
	}
	return nil
}

// marked returns the command's environment with its mark for a process of user uid.
func (c *Command) marked(uid uint32) []string {
	vars := newEnvironment(len(c.Env) + 2)
	vars.setAll(c.Env)
	vars.set(StampCommand, c.mark())
	if proof := proveCommand(c.Secret, c.mark(), uid); proof != "" {
		vars.set(StampProof, proof)
	}
	return vars.list
}
