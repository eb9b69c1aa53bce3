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
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

const (
	rootPrefix = "hive-"
	// stateDigits is how much of the state id is in the name of a root.
	stateDigits = 12
)

// rootName is the name of the cgroup that holds a hive's leaf cgroups.
func rootName(stateID string) string {
	return rootPrefix + stateID[:min(len(stateID), stateDigits)]
}

// hierarchy is the cgroup v2 mount, in the unified and in the hybrid layout.
type hierarchy struct {
	mount string // where it is mounted
	root  string // which cgroup the mount shows as its root, as /proc/<pid>/cgroup writes it
}

// findHierarchy finds it once: reading all mounts at each look at each worker was
// a fifth of the cost of a recovery.
func findHierarchy() (hierarchy, error) { return cgroup2.get(readHierarchy) }

func readHierarchy() (hierarchy, error) {
	mounts, err := procfs.GetMounts()
	if err != nil {
		return hierarchy{}, fmt.Errorf("find cgroup v2: %w", err)
	}
	for _, m := range mounts {
		if m.FSType == "cgroup2" {
			return hierarchy{mount: unescape(m.MountPoint), root: unescape(m.Root)}, nil
		}
	}
	return hierarchy{}, fmt.Errorf("%w: none is mounted", ErrNoCgroup)
}

// unescape undoes the octal escapes of proc_pid_mountinfo(5).
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// relative turns a path of /proc/<pid>/cgroup into one below the mount. In a
// container without a cgroup namespace of its own the two differ.
func (h hierarchy) relative(p string) (string, bool) {
	if h.root == "/" || h.root == "" {
		return p, true
	}
	if p == h.root {
		return "/", true
	}
	rest, ok := strings.CutPrefix(p, h.root+"/")
	return "/" + rest, ok
}

// of returns the cgroup of a process, relative to the mount.
func (h hierarchy) of(pid int) (string, bool) {
	p, ok := cgroupOf(pid)
	if !ok {
		return "", false
	}
	return h.relative(p)
}

// cgroupOf returns the cgroup v2 path of a process as /proc writes it.
func cgroupOf(pid int) (string, bool) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return "", false
	}
	for line := range strings.Lines(string(b)) {
		if p, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "0::"); ok {
			return p, true
		}
	}
	return "", false
}

// rootOf is our root's path below the mount: a child of hive's own cgroup.
func (h hierarchy) rootOf(stateID string) (string, error) {
	own, ok := h.of(os.Getpid())
	if !ok {
		return "", fmt.Errorf("%w: hive's own is not below the mount at %s", ErrNoCgroup, h.mount)
	}
	return path.Join("/", own, rootName(stateID)), nil
}

// CgroupRoot returns the absolute path of the cgroup under which Start makes one
// for each worker: "hive-" and the first 12 characters of the state id, below
// hive's own cgroup. It is made if it does not exist. ErrNoCgroup where there is
// no cgroup v2, or hive may not make cgroups in it; everything works without.
// Safe for concurrent use.
func CgroupRoot(stateID string) (string, error) {
	h, err := findHierarchy()
	if err != nil {
		return "", err
	}
	root, err := h.makeRoot(stateID)
	if err != nil {
		return "", err
	}
	return filepath.Join(h.mount, root), nil
}

// makeRoot returns the root's path below the mount.
func (h hierarchy) makeRoot(stateID string) (string, error) {
	if stateID == "" {
		return "", fmt.Errorf("%w: no state id", ErrNoCgroup)
	}
	root, err := h.rootOf(stateID)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(h.mount, root)
	if err := os.Mkdir(dir, 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", fmt.Errorf("%w: %w", ErrNoCgroup, err)
	}
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
	if name != path.Base(name) || name == "." || name == ".." || strings.HasPrefix(name, "cgroup.") {
		return nil, "", fmt.Errorf("%w: %q is no name for a cgroup", ErrNoCgroup, name)
	}
	h, err := findHierarchy()
	if err != nil {
		return nil, "", err
	}
	root, err := h.makeRoot(stateID)
	if err != nil {
		return nil, "", err
	}
	rel = path.Join(root, name)
	full := filepath.Join(h.mount, rel)
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

// cgroupDir resolves a recorded cgroup. It refuses everything but a leaf of a
// hive's root: cgroup.kill in any other place would be a catastrophe. Nor does it take
// one that somebody else has made of that name since hive's was removed.
func cgroupDir(rel string) (string, bool) {
	dir, ok := cgroupPath(rel)
	if !ok {
		return "", false
	}
	return dir, ownedByHive(dir, uint32(os.Geteuid()))
}

// cgroupPath is cgroupDir without a look whether it is there.
func cgroupPath(rel string) (string, bool) {
	if rel == "" || path.Clean(rel) != rel || !path.IsAbs(rel) {
		return "", false
	}
	root, ok := strings.CutPrefix(path.Base(path.Dir(rel)), rootPrefix)
	if !ok || root == "" {
		return "", false
	}
	h, err := findHierarchy()
	if err != nil {
		return "", false
	}
	return filepath.Join(h.mount, rel), true
}

// leafOf returns the leaf of a hive that a process is in, or below, as /proc
// writes it; empty: none. It reads one file, so that recovery can afford it.
func leafOf(pid int) string {
	p, ok := cgroupOf(pid)
	if !ok {
		return ""
	}
	return leafIn(p)
}

// within reports whether p is the cgroup or below it.
func within(p, cgroup string) bool {
	return p == cgroup || strings.HasPrefix(p, cgroup+"/")
}

// populated reports whether a process that is not a zombie is in the cgroup or
// below it. A cgroup that has been removed has none.
func populated(dir string) (bool, error) {
	b, err := os.ReadFile(dir + "/cgroup.events")
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
		return false, nil
	}
	if err != nil {
		return true, fmt.Errorf("read %s/cgroup.events: %w", dir, err)
	}
	return !slices.Contains(strings.Split(string(b), "\n"), "populated 0"), nil
}

// cgroupPIDs lists the processes in the cgroup and below it.
func cgroupPIDs(dir string) []int {
	var out []int
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil // a child cgroup that was removed meanwhile has no processes
		}
		b, err := os.ReadFile(p + "/cgroup.procs") //nolint:gosec // there are no symbolic links in a cgroup file system
		if err != nil {
			return nil // as above
		}
		for field := range strings.FieldsSeq(string(b)) {
			if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
				out = append(out, pid)
			}
		}
		return nil
	})
	return out
}

// cgroupIDs returns the ids (directory inodes) of the cgroup and those below it,
// as the kernel gives them for a socket.
func cgroupIDs(dir string) map[uint64]bool {
	out := make(map[uint64]bool)
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil // removed meanwhile
		}
		if f, ok := fileOf(p); ok {
			out[f.ino] = true
		}
		return nil
	})
	return out
}

// killCgroup kills all that is in the cgroup and below it, atomically (kernel >=
// 5.14; fs.ErrNotExist before).
func killCgroup(dir string) error {
	f, err := os.OpenFile(dir+"/cgroup.kill", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteString("1")
	return err
}

// removeCgroup removes an empty cgroup and those below it. The kernel says EBUSY
// for a moment after the last process has gone.
func removeCgroup(ctx context.Context, dir string) error {
	var dirs []string
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, p)
		}
		return nil
	})
	for _, d := range slices.Backward(dirs) {
		err := unix.Rmdir(d)
		for tries := 0; errors.Is(err, unix.EBUSY) && tries < 50 && ctx.Err() == nil; tries++ {
			wait(2 * time.Millisecond)
			err = unix.Rmdir(d)
		}
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove cgroup %s: %w", d, err)
		}
	}
	return nil
}

// PruneCgroups removes the empty leaf cgroups below CgroupRoot(stateID), which a
// kill of hive at the wrong moment leaves behind, and returns how many; then the
// root itself if nothing is in it, Start makes it again. Call it in recovery and
// at the end, when nothing is being started: a leaf is empty for a moment before
// its process is in it. It makes nothing. ErrNoCgroup where there is no cgroup v2.
func PruneCgroups(stateID string) (int, error) {
	h, err := findHierarchy()
	if err != nil {
		return 0, err
	}
	root, err := h.rootOf(stateID)
	if err != nil {
		return 0, err
	}
	dir := filepath.Join(h.mount, root)
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
		if busy, err := populated(leaf); err != nil || busy {
			continue
		}
		if removeCgroup(context.Background(), leaf) == nil {
			removed++
		}
	}
	_ = unix.Rmdir(dir) // EBUSY while there is a leaf
	return removed, nil
}

// FindFeatures looks at what this kernel and this place in it offer. It changes
// nothing.
func FindFeatures() Features {
	var f Features
	if fd, err := unix.PidfdOpen(os.Getpid(), 0); err == nil {
		inode, err := pidfdInode(fd)
		f.PidfdInode = err == nil && inode != 0
		info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
		f.ExitInfo = unix.IoctlPidfdInfo(fd, &info) == nil && kernelAtLeast(6, 15)
		closeAll(fd)
	}
	if h, err := findHierarchy(); err == nil {
		own, ok := h.of(os.Getpid())
		f.CgroupV2 = ok && unix.Access(filepath.Join(h.mount, own), unix.W_OK) == nil
	}
	return f
}

// kernelAtLeast is for what cannot be tried without a child that has ended.
func kernelAtLeast(major, minor int) bool {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return false
	}
	var have [2]int
	if _, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &have[0], &have[1]); err != nil {
		return false
	}
	return have[0] > major || have[0] == major && have[1] >= minor
}

// IsWorkersCgroup reports whether a cgroup, by the id that the kernel gives for a
// socket, is below the root of a state's workers or below one of the other roots that
// are given, which are paths relative to the mount. It reads the directories of all
// workers, so who asks for every connection remembers the answer: an id is never used
// again in a boot, and a cgroup does not move to another parent.
func IsWorkersCgroup(id uint64, stateID string, roots []string) bool {
	h, err := findHierarchy()
	if err != nil {
		return false
	}
	if own, err := h.rootOf(stateID); err == nil {
		roots = append(slices.Clone(roots), own)
	}
	slices.Sort(roots)
	for _, root := range slices.Compact(roots) {
		if cgroupIDs(filepath.Join(h.mount, root))[id] {
			return true
		}
	}
	return false
}
