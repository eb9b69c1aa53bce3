// Package cgroups removes what hives that a test has killed leave in the kernel: each
// makes a cgroup for its state, and removes it when it closes or recovers.
package cgroups

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"rbeehive/hive/proc"
	"rbeehive/store"
)

// Prune removes the cgroups of the hive whose data directory this is, and waits up to a
// second for processes in them that have just been killed. None may run
// there, and what runs the test must be in the cgroup that hive was in. It does nothing
// where there is no state file that can be read, or no cgroup v2.
func Prune(dataDir string) {
	file, err := store.OpenOffline(filepath.Join(dataDir, "hive.db"), false)
	if err != nil {
		return // damaged by the test, or there never was one
	}
	defer file.Close() // read only
	state := file.Meta().StateID
	root, err := proc.CgroupRoot(state)
	if err != nil {
		return
	}
	for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		_, _ = proc.PruneCgroups(state) // looked at below
		if _, err := os.Stat(root); errors.Is(err, fs.ErrNotExist) {
			return
		}
	}
}
