package hive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"unicode/utf8"

	"rbeehive/hive/catalog"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// TypesDir is the directory in the data directory with the worker types that
// worker_install has written, one file each.
const TypesDir = "types.d"

func (h *Hive) typeFile(name string) string {
	return filepath.Join(h.cfg.DataDir, TypesDir, name+".yaml")
}

// runInstall carries out worker_install. What it has written counts when the job
// has succeeded, and nothing is left of it when it has failed. Killed in between it
// begins again with the next start, which reads what was written.
func (h *Hive) runInstall(ctx context.Context, j *job, op Install) (any, error) {
	h.installs.Lock()
	defer h.installs.Unlock()
	entry, f := h.installable(ctx, op.WorkerID)
	if f != nil {
		return nil, f
	}
	if err := j.finalize(ctx); err != nil {
		return nil, err
	}
	undo, err := h.writeType(entry)
	if err != nil {
		return nil, typeFailure("write "+h.typeFile(entry.Name), err)
	}
	if err := h.cfg.ReloadTypes(h.ctx); err != nil {
		return nil, typeFailure("take over the worker type", errors.Join(err, undo()))
	}
	view, f := h.getInstalled(h.ctx, op.WorkerID)
	if f != nil {
		return nil, f
	}
	return view, nil
}

// runRemove carries out worker_remove. Killed in between, its job is interrupted.
func (h *Hive) runRemove(ctx context.Context, j *job, op Remove) (any, error) {
	h.installs.Lock()
	defer h.installs.Unlock()
	if f := h.removable(op.WorkerID); f != nil {
		return nil, f
	}
	if err := j.finalize(ctx); err != nil {
		return nil, err
	}
	// Killed behind the removal it must not begin again, and find nothing to remove.
	err := h.write(ctx, op, func(b *batch) error {
		if err := b.PutJob(j.begin("", b.Now())); err != nil {
			return err
		}
		return b.event(store.EventState, j.id(), "", "worker_remove running", map[string]any{"job": store.JobRunning})
	})
	if err != nil {
		return nil, err
	}
	path := h.typeFile(op.WorkerID)
	before, err := os.ReadFile(path) //nolint:gosec // a file of hive's own directory types.d
	if err != nil {
		return nil, typeFailure("read "+path, err)
	}
	if err := os.Remove(path); err != nil {
		return nil, typeFailure("remove "+path, err)
	}
	if err := errors.Join(store.SyncDir(filepath.Dir(path)), h.cfg.ReloadTypes(h.ctx)); err != nil {
		return nil, typeFailure("remove the worker type", errors.Join(err, putFile(path, before)))
	}
	return map[string]any{"worker_id": op.WorkerID, "status": "removed"}, nil
}

// installable makes the entry of a preset or a program, if its program is here.
func (h *Hive) installable(ctx context.Context, id string) (catalog.Entry, *failure) {
	var none catalog.Entry
	if h.cfg.ReloadTypes == nil {
		return none, fail(CodeUnsupportedOperation, "this hive has a fixed set of worker types")
	}
	if t, ok := h.types().Type(id); ok && t.Source != catalog.SourcePreset && t.Source != catalog.SourceInstalled && t.Unavailable() == "" {
		return none, fail(CodeConflict, "there is a worker type %s already (%s), which would win over an installed one; spawn it, or take its entry out of hive.yaml first", id, t.Source)
	}
	entry, ok := catalog.Offer(id)
	path, err := proc.LookPath(id, "")
	switch {
	case !ok && err == nil:
		return none, fail(CodeUnsupportedOperation, "%s is here, but no preset says how it is told its port; write an entry with its command into hive.yaml", path)
	case !ok:
		return none, fail(CodeProgramNotFound, "%s is neither a preset nor a program in hive's PATH; what can be installed: %s", id, strings.Join(catalog.Offered(), ", "))
	case entry.Program != "" && err != nil:
		return none, notHere(id, err.Error())
	case entry.Program != "":
		entry.Program = path
	}
	if !utf8.ValidString(path) || strings.Contains(path, "{{") {
		return none, fail(CodeUnsupportedOperation, "the path %q holds what no file of types.d can; write an entry into hive.yaml", path)
	}
	// On its own, before anything is written: a file with a mistake would keep hive
	// from its next start.
	only, err := catalog.New([]catalog.Entry{entry}, h.types().Self())
	if err != nil {
		return none, fail(CodeExecFailed, "%v", err)
	}
	t, _ := only.Type(id)
	if why := t.Unavailable(); why != "" { // it takes more than a program
		return none, fail(CodeUnsupportedOperation, "%s", why)
	}
	view := h.viewOf(t, Spawn{})
	if h.addVersion(ctx, t, &view); view.Program == "" {
		return none, notHere(id, view.Missing)
	}
	return entry, nil
}

func notHere(id, why string) *failure {
	return fail(CodeProgramNotFound, "%s: %s; worker_install neither downloads nor builds programs: install it, so that it is in hive's PATH (%s), and ask again",
		id, why, clip(os.Getenv("PATH")))
}

// removable says what stands in the way of a removal.
func (h *Hive) removable(id string) *failure {
	if h.cfg.ReloadTypes == nil {
		return fail(CodeUnsupportedOperation, "this hive has a fixed set of worker types")
	}
	t, ok := h.types().Type(id)
	switch {
	case !ok:
		return fail(CodeNotFound, "no worker type %s", id)
	case t.Source != catalog.SourceInstalled:
		return fail(CodeConflict, "worker type %s was not installed by worker_install (%s)", id, t.Source)
	}
	var users []string
	for _, w := range h.live() {
		if w.Type == id {
			users = append(users, w.WorkerID)
		}
	}
	if len(users) > 0 {
		return fail(CodeConflict, "worker type %s is used by %s; stop them first", id, strings.Join(users, ", "))
	}
	return nil
}

// writeType writes the file of an entry. undo puts back what was there.
func (h *Hive) writeType(e catalog.Entry) (undo func() error, err error) {
	path := h.typeFile(e.Name)
	if err := os.Mkdir(filepath.Dir(path), 0o700); err == nil {
		err = store.SyncDir(h.cfg.DataDir)
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

// typeFailure is the failed job for an error of the file system or of a reload.
func typeFailure(what string, err error) error {
	if in, ok := errors.AsType[*InputError](err); ok {
		return fail(CodeConflict, "%s: %s", what, in.Detail)
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %s: %w", store.ErrDiskFull, what, err)
	}
	return fail(CodeInternal, "%s: %v", what, err)
}
