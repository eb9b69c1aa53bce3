package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// prepareDataDir makes the state directory, mode 0700: it holds logs of
// programs, command lines, and later a token.
//
// An existing directory that others may enter is tightened if it is a hive's
// already or is empty, which is what `mkdir` with the usual umask leaves. If it
// holds anything else it is refused: --data-dir /tmp must not take /tmp from
// everybody else.
func prepareDataDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the data directory: %w%s", err, remedy(err))
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("look at the data directory: %w", err)
	}
	if err := checkWritable(dir); err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	ours, err := oursOrEmpty(dir)
	if err != nil {
		return fmt.Errorf("look at the data directory: %w", err)
	}
	if !ours {
		return fmt.Errorf("the data directory %s is open to others (mode %04o) and holds things that are not hive's; "+
			"choose a directory of its own with --data-dir, or chmod 700 it", dir, info.Mode().Perm())
	}
	if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // a directory, which needs its x
		return fmt.Errorf("close the data directory to others: %w%s", err, remedy(err))
	}
	return nil
}

// remedy is what to do when the data directory cannot be written, as the end of
// the error's text.
func remedy(err error) string {
	const otherwise = ", or choose another directory with --data-dir"
	switch {
	case errors.Is(err, syscall.EROFS):
		return "; mount it so that it can be written (a volume in Docker: without :ro)" + otherwise
	case errors.Is(err, fs.ErrPermission):
		return fmt.Sprintf("; give it to the user that hive runs as (uid %d)", os.Geteuid()) + otherwise
	}
	return ""
}

// checkWritable finds out before anything else that a directory is of a file system
// that is read-only: it may have the right mode and everything in it.
func checkWritable(dir string) error {
	if err := syscall.Access(dir, 2); err != nil { // W_OK
		return fmt.Errorf("write to the data directory %s: %w%s", dir, err, remedy(err))
	}
	return nil
}

func oursOrEmpty(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		if e.Name() == "hive.db" {
			return true, nil
		}
	}
	return len(entries) == 0, nil
}

// keeperMark is what rbee's keeper looks for in command lines when it stops a
// hive; it ends every process that has it, so no worker may.
const keeperMark = "rbee-hive"

// workerProgram is the path of this binary as it may stand in a worker's
// command line. Where the real path holds keeperMark (a checkout of that name,
// say) it is a symbolic link in the data directory, made anew at each start. If
// the data directory's path holds the mark too, the real path is returned, and
// the catalog says why the reference worker is not available.
func workerProgram(exe, dataDir string) (string, error) {
	real, err := filepath.EvalSymlinks(exe)
	if err != nil {
		return "", fmt.Errorf("find hive's own program: %w", err)
	}
	if !strings.Contains(real, keeperMark) || strings.Contains(dataDir, keeperMark) {
		return real, nil
	}
	link := filepath.Join(dataDir, "hive-worker")
	if target, err := os.Readlink(link); err == nil && target == real {
		return link, nil
	}
	// Renamed into place: a worker that is being started by a gate of the
	// previous hive must find one or the other.
	fresh := link + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("link hive's own program: %w", err)
	}
	if err := os.Symlink(real, fresh); err != nil {
		return "", fmt.Errorf("link hive's own program: %w", err)
	}
	if err := os.Rename(fresh, link); err != nil {
		return "", fmt.Errorf("link hive's own program: %w", err)
	}
	return link, nil
}
