package db

import (
	"errors"
	"fmt"
	"io/fs"

	"rbeehive/hive/proc"
	"rbeehive/hive/salvage"
	"rbeehive/migrations"
	"rbeehive/store"
)

// Refusal is an error with what to do about it.
type Refusal struct {
	Text, Hint string
	NotFound   bool // the file does not exist
}

func (r *Refusal) Error() string { return r.Text }

// refusal adds a hint to an error of the state file in dir. online says what a running hive
// can do instead; empty: it has to be stopped.
func refusal(err error, dir, online string) error {
	var locked *store.LockedError
	var corrupt *store.CorruptError
	var newer *migrations.NewerError
	var notRegular *store.NotRegularError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &locked):
		return inUse(locked, dir, online)
	case errors.Is(err, store.ErrClaimed):
		return &Refusal{Text: err.Error(), Hint: "find that hive with `ss -xlp | grep @hive/`, and stop it first (its workers keep running)"}
	case errors.As(err, &newer):
		return &Refusal{Text: newer.Error(), Hint: "use the hivectl of the hive that wrote it"}
	case errors.As(err, &corrupt):
		return &Refusal{Text: corrupt.Error(), Hint: "`hivectl db check --data-dir " + dir + "` lists all damage, `hivectl db salvage --data-dir " + dir + "` rebuilds the file"}
	case errors.Is(err, store.ErrInconsistent):
		return &Refusal{Text: err.Error(), Hint: "`hivectl db check --data-dir " + dir + "` lists all contradictions"}
	case errors.As(err, &notRegular):
		return &Refusal{Text: err.Error(), Hint: "move it away; " + anew(dir)}
	case errors.Is(err, migrations.ErrForeign):
		return &Refusal{Text: "it is not a state file of hive: " + err.Error(), Hint: "if it never was one, move it away; " + anew(dir)}
	case errors.Is(err, store.ErrUnused):
		return &Refusal{Text: err.Error(), Hint: "start hive, which goes on with it; if there was another file before, `hivectl db salvage --data-dir " + dir + "` finds the workers that live"}
	case errors.Is(err, fs.ErrNotExist):
		return &Refusal{Text: err.Error(), Hint: "give the state directory with --data-dir", NotFound: true}
	case errors.Is(err, fs.ErrPermission):
		return &Refusal{Text: err.Error(), Hint: "run it as the user that hive runs as"}
	case errors.Is(err, fs.ErrExist):
		return &Refusal{Text: err.Error(), Hint: "choose another name, or use --force"}
	case errors.Is(err, proc.ErrUnsupported):
		return &Refusal{Text: "salvage needs Linux: it inspects the processes of the workers"}
	case errors.Is(err, salvage.ErrNeedless), errors.Is(err, salvage.ErrNothing):
		return &Refusal{Text: err.Error()}
	}
	return err
}

// anew says how to come to a state file where none is left.
func anew(dir string) string {
	return "`hivectl db salvage --data-dir " + dir + "` makes the file anew and keeps every worker that lives"
}

func inUse(locked *store.LockedError, dir, online string) error {
	who := "another process"
	if locked.PID > 0 {
		who = fmt.Sprintf("process %d", locked.PID)
	}
	r := &Refusal{Text: fmt.Sprintf("%s is held by %s: a hive runs on %s, or another hivectl db", locked.Path, who, dir), Hint: online}
	if online == "" {
		r.Hint = "stop that hive first (its workers keep running)"
	}
	return r
}
