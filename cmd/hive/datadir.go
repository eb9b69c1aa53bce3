package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"rbeehive/hive/proc"
	"rbeehive/hive/trust"
	"rbeehive/hive/workertype"
	"rbeehive/store"
)

// prepareDataDir creates the state directory, mode 0700: it has logs of programs, command
// lines, and later a token; grantTraversal may open it by one bit. Its content decides what
// hive runs, so it must be trusted (package trust), with all that hive reads there.
//
// An existing directory that others may enter is tightened if it is a hive's already or is
// empty, which is what `mkdir` with the usual umask leaves. If it has anything else it is
// refused: --data-dir /tmp must not take /tmp from everybody else.
func prepareDataDir(dir string) error {
	if err := trust.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("create the data directory: %w%s", err, remedy(err))
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("read the data directory: %w", err)
	}
	if err := checkWritable(dir); err != nil {
		return err
	}
	// Also after grantTraversal of the last start: it is opened again, for the user that is configured now.
	if info.Mode().Perm()&0o077 != 0 {
		if err := restrictDir(dir, info.Mode()); err != nil {
			return err
		}
	}
	return checkContent(dir)
}

// restrictDir removes everybody's access to a directory except that of hive's user.
func restrictDir(dir string, mode fs.FileMode) error {
	ours, empty, err := inspectDir(dir)
	switch {
	case err != nil:
		return fmt.Errorf("read the data directory: %w", err)
	case !ours && !empty:
		return fmt.Errorf("the data directory %s is open to others (mode %04o) and has files that are not hive's; "+
			"choose a directory of its own with --data-dir, or chmod 700 it", dir, mode.Perm())
	// To remove the access now would come too late: what is in it may be somebody else's.
	case !empty && mode&0o022 != 0:
		return fmt.Errorf("others may write to the data directory %s (mode %04o), and its content decides what hive runs; "+
			"check that all of it is hive's, then run: chmod 700 %[1]s", dir, mode.Perm())
	}
	if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // a directory, which needs its x
		return fmt.Errorf("restrict the data directory to hive's user: %w%s", err, remedy(err))
	}
	return nil
}

// checkContent checks what hive reads in its directory, which may be a link to elsewhere,
// or date from when the directory was somebody else's.
func checkContent(dir string) error {
	for _, part := range []struct {
		name  string
		check func(string) error
	}{{"hive.db", trust.File}, {workertype.TypesDir, trust.Dir}, {"logs", trust.Dir}, {"backups", trust.Dir}, {"models", trust.Dir}} {
		path := filepath.Join(dir, part.name)
		// What is no file hive.Open refuses without opening it, and says what to do.
		if part.name == "hive.db" && errors.As(store.Regular(path), new(*store.NotRegularError)) {
			continue
		}
		if err := part.check(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("check the data directory: %w", err)
		}
	}
	return nil
}

// checkModels checks a directory of models that is configured, if it exists.
func checkModels(dir string) error {
	if dir == "" {
		return nil // it is in the data directory
	}
	if err := trust.Dir(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("models.dir: %w", err)
	}
	return nil
}

// grantTraversal lets the group of the workers' user traverse the data directory to the
// models in it, and no more: everything else in it has modes of its own. That group can
// find out whether a name exists there.
func grantTraversal(dir, models, user string) error {
	rel, err := filepath.Rel(dir, cmp.Or(models, filepath.Join(dir, "models")))
	if user == "" || err != nil || !filepath.IsLocal(rel) {
		return nil
	}
	cred, err := proc.LookUser(user)
	if err != nil || !cred.Other() || cred.UID == 0 {
		return err
	}
	// The group first: with the mode first, the old group could pass through for a moment.
	if err := os.Chown(dir, -1, int(cred.GID)); err != nil {
		return err
	}
	return os.Chmod(dir, 0o710) //nolint:gosec // the group of workers passes through to the models
}

// remedy is what to do when the data directory cannot be written, as the end of
// the error's text.
func remedy(err error) string {
	const otherwise = ", or choose another directory with --data-dir"
	switch {
	case errors.Is(err, trust.ErrUntrusted):
		return "; or choose another directory with --data-dir"
	case errors.Is(err, syscall.EROFS):
		return "; mount it read-write (a volume in Docker: without :ro)" + otherwise
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("; give it to the user that hive runs as (uid %d)", os.Geteuid()) + otherwise
	}
	return ""
}

// checkWritable finds out before anything else that a directory is on a read-only file
// system: its mode does not show that.
func checkWritable(dir string) error {
	if err := syscall.Access(dir, 2); err != nil { // W_OK
		return fmt.Errorf("write to the data directory %s: %w%s", dir, err, remedy(err))
	}
	return nil
}

// inspectDir reports whether a directory is a hive's, and whether it is empty.
func inspectDir(dir string) (ours, empty bool, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		ours = ours || e.Name() == "hive.db"
	}
	return ours, len(entries) == 0, err
}

// keeperMark is what rbee's keeper searches command lines for when it stops a hive; it
// kills every process that has it, so no worker may.
const keeperMark = "rbee-hive"

// workerProgram is the path of this binary for a worker's command line. Where the real path
// has keeperMark in it (a checkout of that name, say) it is a symbolic link in the data
// directory, updated at each start. If the data directory's path has the mark too, the real
// path is returned, and the catalog says why the reference worker is not available.
func workerProgram(exe, dataDir string) (string, error) {
	real, err := filepath.EvalSymlinks(exe)
	if err != nil {
		return "", fmt.Errorf("find hive's executable: %w", err)
	}
	if !strings.Contains(real, keeperMark) || strings.Contains(dataDir, keeperMark) {
		return real, nil
	}
	link := filepath.Join(dataDir, "hive-worker") // nobody else can put one there: see prepareDataDir
	if target, err := os.Readlink(link); err == nil && target == real {
		return link, nil
	}
	// Renamed into place: a worker that is being started by a gate of the
	// previous hive must find one or the other.
	fresh := link + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("link hive's executable: %w", err)
	}
	if err := os.Symlink(real, fresh); err != nil {
		return "", fmt.Errorf("link hive's executable: %w", err)
	}
	if err := os.Rename(fresh, link); err != nil {
		return "", fmt.Errorf("link hive's executable: %w", err)
	}
	return link, nil
}
