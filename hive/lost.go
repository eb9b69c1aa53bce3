package hive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"rbeehive/hive/proc"
)

// checkLost refuses to begin anew where the state file is gone and workers of this directory
// live: they would be strangers on ports that hive gives out. They are known by the logs that
// they write. It reads /proc, but only where there is no file and there are logs.
func checkLost(ctx context.Context, dataDir string) error {
	path, logs := filepath.Join(dataDir, "hive.db"), filepath.Join(dataDir, "logs")
	info, err := os.Lstat(path)
	if err == nil && info.Size() > 0 || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil //nolint:nilerr // the store says what is wrong with it
	}
	if left, err := filepath.Glob(filepath.Join(logs, "*.log")); err != nil || len(left) == 0 {
		return err
	}
	found, err := proc.FindLiving(ctx, proc.Search{Logs: logs, Owner: uint32(os.Geteuid())})
	switch {
	case errors.Is(err, proc.ErrUnsupported):
		return nil
	case err != nil:
		return fmt.Errorf("%s is missing: %w", path, err)
	case len(found) == 0:
		return nil
	}
	// One process of each: its main process, or what that has left.
	first := map[string]proc.Living{}
	for _, l := range found {
		if had, ok := first[l.WorkerID]; !ok || l.Leader && !had.Leader {
			first[l.WorkerID] = l
		}
	}
	var workers []string
	for _, id := range slices.Sorted(maps.Keys(first)) {
		workers = append(workers, fmt.Sprintf("%s (pid %d)", id, first[id].PID))
	}
	if more := len(workers) - maxNamedLost; more > 0 {
		workers = append(workers[:maxNamedLost], fmt.Sprintf("%d more", more))
	}
	return fmt.Errorf("%s is missing or empty, and workers that were started from this directory live: %s; `hivectl db salvage --data-dir %s` makes the file anew and keeps them, or end them and start hive again",
		path, strings.Join(workers, ", "), dataDir)
}

// maxNamedLost is how many workers the error names.
const maxNamedLost = 5
