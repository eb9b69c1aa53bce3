package workertype

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unicode/utf8"

	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/journal"
	"rbeehive/hive/operation"
	"rbeehive/hive/proc"
	"rbeehive/store"
	"rbeehive/store/nospace"
	"rbeehive/store/plain"
)

// TypesDir is the directory in the data directory with the worker types that
// worker_install has written, one file each.
const TypesDir = "types.d"

func (ts *Types) typeFile(name string) string {
	return filepath.Join(ts.dataDir, TypesDir, name+".yaml")
}

// Install carries out worker_install. What it has written counts when the job
// has succeeded, and nothing is left of it when it has failed. Killed in between it
// begins again with the next start, which reads what was written.
func (ts *Types) Install(ctx context.Context, j operation.Job, op operation.Install) (any, error) {
	ts.installs.Lock()
	defer ts.installs.Unlock()
	// Nothing is written yet, so up to here the job can be cancelled.
	entry, f := ts.installable(ctx, op.WorkerID)
	if f != nil {
		return nil, f
	}
	if err := j.Finalize(ctx); err != nil {
		return nil, err
	}
	undo, err := ts.writeType(entry)
	if err != nil {
		return nil, ts.failure("write "+ts.typeFile(entry.Name), err)
	}
	// Not with ctx: a type that is in the file must be in hive, too.
	if err := ts.reload(ts.run.Context()); err != nil {
		// Undone: hive would not start with a file that it refuses now.
		return nil, ts.failure("take over the worker type", errors.Join(err, undo()))
	}
	return ts.InstalledGet(ts.run.Context(), operation.InstalledGet(op))
}

// Remove carries out worker_remove. Killed in between, its job is interrupted.
func (ts *Types) Remove(ctx context.Context, j operation.Job, op operation.Remove) (any, error) {
	ts.installs.Lock()
	defer ts.installs.Unlock()
	if f := ts.removable(op.WorkerID); f != nil {
		return nil, f
	}
	if err := j.Finalize(ctx); err != nil {
		return nil, err
	}
	// Killed behind the removal it must not begin again, and find nothing to remove.
	err := ts.journal.CommitReserved(ctx, func(b *journal.Batch) error {
		if err := j.RecordRunning(b); err != nil {
			return err
		}
		return b.Event(store.EventState, j.ID(), "", "worker_remove running", map[string]any{"job": store.JobRunning})
	})
	if err != nil {
		return nil, err
	}
	path := ts.typeFile(op.WorkerID)
	// Kept, to be put back if the reload fails.
	before, err := os.ReadFile(path) //nolint:gosec // a file of hive's own directory types.d
	if err != nil {
		return nil, ts.failure("read "+path, err)
	}
	if err := os.Remove(path); err != nil {
		return nil, ts.failure("remove "+path, err)
	}
	if err := errors.Join(store.SyncDir(filepath.Dir(path)), ts.reload(ts.run.Context())); err != nil {
		return nil, ts.failure("remove the worker type", errors.Join(err, putFile(path, before)))
	}
	return operation.Removed{WorkerID: op.WorkerID, Status: "removed"}, nil
}

// installable makes the entry of a preset or a program, if its program is here.
func (ts *Types) installable(ctx context.Context, id string) (catalog.Entry, *errdefs.Failure) {
	var none catalog.Entry
	if ts.reload == nil {
		return none, errdefs.Fail(errdefs.CodeUnsupportedOperation, "this hive has a fixed set of worker types")
	}
	if t, ok := ts.catalog().Type(id); ok && t.Source != catalog.SourcePreset && t.Source != catalog.SourceInstalled && t.Unavailable() == "" {
		return none, errdefs.Fail(errdefs.CodeConflict, "there is a worker type %s already (%s), which would win over an installed one; spawn it, or take its entry out of hive.yaml first", id, t.Source)
	}
	// A program in PATH is not enough: hive must know how to tell it its port.
	entry, ok := catalog.Offer(id)
	path, err := proc.FindProgram(ctx, id, "")
	switch {
	case !ok && err == nil:
		return none, errdefs.Fail(errdefs.CodeUnsupportedOperation, "%s is here, but no preset says how it is told its port; write an entry with its command into hive.yaml", path)
	case !ok:
		return none, errdefs.Fail(errdefs.CodeProgramNotFound, "%s is neither a preset nor a program in hive's PATH; what can be installed: %s", id, strings.Join(catalog.Offered(), ", "))
	case entry.Program != "" && err != nil:
		return none, notHere(id, err.Error())
	case entry.Program != "":
		entry.Program = path
	}
	// It goes into YAML, and is read as a template.
	if !utf8.ValidString(path) || strings.Contains(path, "{{") {
		return none, errdefs.Fail(errdefs.CodeUnsupportedOperation, "the path %q holds what no file of types.d can; write an entry into hive.yaml", path)
	}
	// On its own, before anything is written: a file with a mistake would keep hive
	// from its next start.
	only, err := catalog.New([]catalog.Entry{entry}, ts.catalog().Self())
	if err != nil {
		return none, errdefs.Fail(errdefs.CodeExecFailed, "%v", err)
	}
	t, _ := only.Type(id)
	if why := t.Unavailable(); why != "" { // it takes more than a program
		return none, errdefs.Fail(errdefs.CodeUnsupportedOperation, "%s", why)
	}
	view := ts.viewOf(ctx, t, operation.Spawn{})
	// An interpreter may be here without the package that it is to run.
	if ts.addVersion(ctx, t, &view); view.Program == "" {
		return none, notHere(id, view.Missing)
	}
	return entry, nil
}

func notHere(id, why string) *errdefs.Failure {
	return errdefs.Fail(errdefs.CodeProgramNotFound, "%s: %s; worker_install neither downloads nor builds programs: install it, so that it is in hive's PATH (%s), and ask again",
		id, why, plain.Short(os.Getenv("PATH")))
}

// removable says what stands in the way of a removal.
func (ts *Types) removable(id string) *errdefs.Failure {
	if ts.reload == nil {
		return errdefs.Fail(errdefs.CodeUnsupportedOperation, "this hive has a fixed set of worker types")
	}
	t, ok := ts.catalog().Type(id)
	switch {
	case !ok:
		return errdefs.Fail(errdefs.CodeNotFound, "no worker type %s", id)
	case t.Source != catalog.SourceInstalled:
		return errdefs.Fail(errdefs.CodeConflict, "worker type %s was not installed by worker_install (%s)", id, t.Source)
	}
	var users []string
	// Without their type they could not be restarted.
	for _, w := range ts.live() {
		if w.Type == id {
			users = append(users, w.WorkerID)
		}
	}
	if len(users) > 0 {
		return errdefs.Fail(errdefs.CodeConflict, "worker type %s is used by %s; stop them first", id, strings.Join(users, ", "))
	}
	return nil
}

// writeType writes the file of an entry. undo puts back what was there.
func (ts *Types) writeType(e catalog.Entry) (undo func() error, err error) {
	path := ts.typeFile(e.Name)
	if err := os.Mkdir(filepath.Dir(path), 0o700); err == nil {
		// Else the directory could be gone after a power cut, with the durable file in it.
		err = store.SyncDir(ts.dataDir)
		if err != nil {
			return nil, err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	before, err := os.ReadFile(path) //nolint:gosec // a file of hive's own directory types.d
	undo = func() error { return putFile(path, before) }
	if errors.Is(err, fs.ErrNotExist) {
		undo = func() error { return errors.Join(os.Remove(path), store.SyncDir(filepath.Dir(path))) }
	} else if err != nil {
		return nil, err
	}
	return undo, putFile(path, entryYAML(e))
}

// entryYAML is an entry as a file of types.d. A JSON string is one of YAML too.
func entryYAML(e catalog.Entry) []byte {
	var b strings.Builder
	b.WriteString("# Written by worker_install; worker_remove removes it. An entry of this name in hive.yaml wins.\n")
	fmt.Fprintf(&b, "name: %s\npreset: %s\n", strconv.Quote(e.Name), strconv.Quote(e.Preset))
	if e.Program != "" {
		fmt.Fprintf(&b, "program: %s\n", strconv.Quote(e.Program))
	}
	return []byte(b.String())
}

func putFile(path string, content []byte) error {
	return store.WriteFile(path, true, func(f *os.File) error {
		_, err := f.Write(content)
		return err
	})
}

// failure is the failed job for an error of the file system or of a reload.
func (ts *Types) failure(what string, err error) error {
	if in, ok := errors.AsType[*errdefs.InputError](err); ok {
		return errdefs.Fail(errdefs.CodeConflict, "%s: %s", what, in.Detail)
	}
	if nospace.Is(err) {
		return errdefs.Fail(errdefs.CodeDiskFull, "%s: %s", what, nospace.Why(ts.dataDir, err))
	}
	return errdefs.Fail(errdefs.CodeInternal, "%s: %v", what, err)
}
