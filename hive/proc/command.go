package proc

import (
	"fmt"
	"strings"
	"time"

	"rbeehive/store"
)

// StampHook is the variable by which a command is recognised: the state id, a
// slash and Command.Name. Commands have no other stamps but its StampProof.
const StampHook = "RBEEHIVE_HOOK"

// Command is a program that Run runs to its end, such as one that prepares a
// worker or stops it.
type Command struct {
	// Argv is the exact argument vector; Argv[0] is the absolute path of the program.
	Argv []string
	// Env is the whole environment; Run adds StampHook and StampProof.
	Env []string
	// Dir, User and NoNewPrivs are as in Spec.
	Dir, User  string
	NoNewPrivs *bool
	// Log is as in Spec. It may be a worker's. While the command runs it is a member of
	// that worker then, by its log, unless it has a cgroup of its own. Empty: the command only tells something, and what
	// it writes to stdout and stderr is in Result.Output.
	Log string
	// StateID says whose command it is, and Secret proves it.
	StateID string
	Secret  store.Secret
	// Name names the run, best with the worker's id in it. It is part of the mark and
	// of the cgroup's name: two commands of one name must not run at once. No slash.
	Name string
}

// Result is how a command ended.
type Result struct {
	Exit store.Exit    // of the main process
	Took time.Duration // until the main process had ended, or ctx
	Rest []Member      // its other processes that ran on then; they were ended too
	Left []Member      // who could not be ended
	// Output is the first 256 KiB of what a command without a log has written.
	Output []byte
}

// hookLeaf begins the name of a command's cgroup. No worker's id has a colon in it.
const hookLeaf = "hook:"

// hookMarks returns the beginning of the mark of all commands of a hive.
func hookMarks(stateID string) string { return stateID + "/" }

func (c *Command) mark() string { return hookMarks(c.StateID) + c.Name }

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
	vars.set(StampHook, c.mark())
	if proof := proveCommand(c.Secret, c.mark(), uid); proof != "" {
		vars.set(StampProof, proof)
	}
	return vars.list
}
