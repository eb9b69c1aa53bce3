//go:build linux

package attack_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// cgroupMount is where cgroup v2 is mounted; empty: nowhere.
func cgroupMount() string {
	for _, dir := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		if _, err := os.Stat(dir + "/cgroup.procs"); err != nil {
			continue
		}
		if _, err := os.Stat(dir + "/cgroup.controllers"); err == nil {
			return dir
		}
	}
	return ""
}

// ownCgroup is the directory of this process's cgroup; empty: there is none.
func ownCgroup() string {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil || cgroupMount() == "" {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if rel, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return filepath.Join(cgroupMount(), rel)
		}
	}
	return ""
}

// newCgroup makes a cgroup for all that the tests start, and says how to remove it
// when that has ended. Where none can be made it is nil, and the tests do without.
func newCgroup() (dir *os.File, drop func()) {
	own := ownCgroup()
	if own == "" {
		return nil, func() {}
	}
	path := filepath.Join(own, fmt.Sprintf("attack-%d", os.Getpid()))
	if err := os.Mkdir(path, 0o755); err != nil {
		return nil, func() {}
	}
	dir, err := os.Open(path)
	if err != nil {
		_ = os.Remove(path)
		return nil, func() {}
	}
	return dir, func() {
		dir.Close()
		removeCgroup(path)
	}
}

// removeCgroup removes an empty cgroup, with those below it.
func removeCgroup(path string) {
	var dirs []string
	_ = filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, p)
		}
		return nil
	})
	for _, d := range slices.Backward(dirs) {
		_ = os.Remove(d)
	}
}
