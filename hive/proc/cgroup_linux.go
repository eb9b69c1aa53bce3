package proc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"rbeehive/hive/proc/internal/cgroup"
	"rbeehive/hive/proc/internal/procfs"
)

// hive's cgroups are of two levels: a root for each state, below hive's own cgroup, and
// in it a leaf for each worker and each command.

const (
	// rootPrefix begins the name of every root, of any hive.
	rootPrefix = "hive-"
	// stateDigits is how much of the state id is in the name of a root.
	stateDigits = 12
)

// rootName is the name of the cgroup that holds a hive's leaf cgroups.
func rootName(stateID string) string {
	return rootPrefix + stateID[:min(len(stateID), stateDigits)]
}

// findCgroupMount finds the cgroup v2 mount. ErrNoCgroup where there is none.
func findCgroupMount() (procfs.CgroupMount, error) {
	m, err := procfs.FindCgroupMount()
	if errors.Is(err, procfs.ErrNoCgroup2) {
		return m, fmt.Errorf("%w: none is mounted", ErrNoCgroup)
	}
	return m, err
}

// rootOf is our root's path below the mount: a child of hive's own cgroup.
func rootOf(m procfs.CgroupMount, stateID string) (string, error) {
	own, ok := m.Of(os.Getpid())
	if !ok {
		return "", fmt.Errorf("%w: hive's own is not below the mount at %s", ErrNoCgroup, m.Dir)
	}
	return path.Join("/", own, rootName(stateID)), nil
}

// CgroupRoot returns the absolute path of the cgroup under which Start makes one
// for each worker: "hive-" and the first 12 characters of the state id, below
// hive's own cgroup. It is made if it does not exist. ErrNoCgroup where there is
// no cgroup v2, or hive may not make cgroups in it; everything works without.
// Safe for concurrent use.
func CgroupRoot(stateID string) (string, error) {
	m, err := findCgroupMount()
	if err != nil {
		return "", err
	}
	root, err := makeRoot(m, stateID)
	if err != nil {
		return "", err
	}
	return filepath.Join(m.Dir, root), nil
}

// makeRoot returns the root's path below the mount.
func makeRoot(m procfs.CgroupMount, stateID string) (string, error) {
	if stateID == "" {
		return "", fmt.Errorf("%w: no state id", ErrNoCgroup)
	}
	root, err := rootOf(m, stateID)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(m.Dir, root)
	if err := os.Mkdir(dir, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("%w: %w", ErrNoCgroup, err)
	}
	// One that was there already may be somebody else's, who could then move processes
	// in and out of the leaves.
	if !ownedByHive(dir, uint32(os.Geteuid())) {
		return "", fmt.Errorf("%w: %s belongs to another user", ErrNoCgroup, dir)
	}
	if err := unix.Access(dir, unix.W_OK); err != nil {
		return "", fmt.Errorf("%w: %s: %w", ErrNoCgroup, dir, err)
	}
	return root, nil
}

// newLeaf makes a leaf and opens it for clone3. The path is relative to the mount.
func newLeaf(stateID, name string) (dir *os.File, rel string, err error) {
	// The kernel's own files in every cgroup begin with "cgroup.".
	if name != path.Base(name) || name == "." || name == ".." || strings.HasPrefix(name, "cgroup.") {
		return nil, "", fmt.Errorf("%w: %q is no name for a cgroup", ErrNoCgroup, name)
	}
	m, err := findCgroupMount()
	if err != nil {
		return nil, "", err
	}
	root, err := makeRoot(m, stateID)
	if err != nil {
		return nil, "", err
	}
	rel = path.Join(root, name)
	full := filepath.Join(m.Dir, rel)
	if err := os.Mkdir(full, 0o750); err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrNoCgroup, err)
	}
	dir, err = os.Open(full)
	if err != nil {
		_ = os.Remove(full)
		return nil, "", fmt.Errorf("%w: %w", ErrNoCgroup, err)
	}
	return dir, rel, nil
}

// cgroupDir resolves a recorded cgroup. It refuses everything but a leaf of a hive's
// root: cgroup.kill in any other place would be a catastrophe. It also refuses one that
// somebody else has made under that name since hive's was removed.
func cgroupDir(rel string) (string, bool) {
	dir, ok := cgroupPath(rel)
	if !ok {
		return "", false
	}
	return dir, ownedByHive(dir, uint32(os.Geteuid()))
}

// cgroupPath is cgroupDir without checking that the cgroup exists.
func cgroupPath(rel string) (string, bool) {
	if rel == "" || path.Clean(rel) != rel || !path.IsAbs(rel) {
		return "", false
	}
	root, ok := strings.CutPrefix(path.Base(path.Dir(rel)), rootPrefix)
	if !ok || root == "" {
		return "", false
	}
	m, err := findCgroupMount()
	if err != nil {
		return "", false
	}
	return filepath.Join(m.Dir, rel), true
}

// leafOf returns the leaf of a hive that a process is in, or below, as /proc
// writes it; empty: none. It reads one file, so that recovery can afford it.
func leafOf(pid int) string {
	p, ok := procfs.Cgroup(pid)
	if !ok {
		return ""
	}
	return leafIn(p)
}

// leafIn returns the leaf of a hive that a cgroup is, or is below; the innermost of
// several. Empty: none.
func leafIn(cgroup string) string {
	for p := path.Clean("/" + cgroup); path.Dir(p) != p; p = path.Dir(p) {
		if strings.HasPrefix(path.Base(path.Dir(p)), rootPrefix) {
			return p
		}
	}
	return ""
}

// ownedByHive reports whether a cgroup's directory belongs to hive's user or root. Below
// a directory of their own, such as the one that systemd gives to a user's services,
// other users can make cgroups of any name.
func ownedByHive(dir string, owner uint32) bool {
	var st unix.Stat_t
	return unix.Lstat(dir, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR && (st.Uid == 0 || st.Uid == owner)
}

// within reports whether p is the cgroup or below it.
func within(p, cgroup string) bool {
	return p == cgroup || strings.HasPrefix(p, cgroup+"/")
}

// PruneCgroups removes the empty leaf cgroups below CgroupRoot(stateID), which a
// kill of hive at the wrong moment leaves behind, and returns how many; then the
// root itself if nothing is in it, which Start makes again. Call it in recovery and
// on shutdown, when nothing is being started: a leaf is empty for a moment before
// its process is in it. It creates nothing. ErrNoCgroup where there is no cgroup v2.
func PruneCgroups(stateID string) (int, error) {
	m, err := findCgroupMount()
	if err != nil {
		return 0, err
	}
	root, err := rootOf(m, stateID)
	if err != nil {
		return 0, err
	}
	dir := filepath.Join(m.Dir, root)
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("list cgroups: %w", err)
	}
	removed := 0
	for _, e := range entries {
		leaf := filepath.Join(dir, e.Name())
		if !e.IsDir() {
			continue
		}
		// A worker that hive takes back, or one that could not be ended, keeps its leaf.
		if busy, err := cgroup.Populated(leaf); err != nil || busy {
			continue
		}
		if cgroup.Remove(context.Background(), leaf) == nil {
			removed++
		}
	}
	_ = unix.Rmdir(dir) // EBUSY while there is a leaf
	return removed, nil
}

// isWorkersCgroup reports whether a cgroup, by the id that the kernel gives for a
// socket, is below the root of a state's workers or below one of the other roots that
// are given, which are paths relative to the mount. It reads the directories of all
// workers, so a caller that asks for every connection should cache the answer: an id is
// never used again in a boot, and a cgroup does not move to another parent.
func isWorkersCgroup(id uint64, stateID string, roots []string) bool {
	m, err := findCgroupMount()
	if err != nil {
		return false
	}
	// Workers that an earlier hive started in another cgroup are below the others.
	if own, err := rootOf(m, stateID); err == nil {
		roots = append(slices.Clone(roots), own)
	}
	slices.Sort(roots)
	for _, root := range slices.Compact(roots) {
		if cgroup.IDs(filepath.Join(m.Dir, root))[id] {
			return true
		}
	}
	return false
}
