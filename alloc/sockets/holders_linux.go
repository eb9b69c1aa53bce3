package sockets

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"rbeehive/store/plain"
	"rbeehive/store/procread"
)

// userHZ is the unit of start times in /proc, the same on every architecture
// that Go supports (proc_pid_stat(5): sysconf(_SC_CLK_TCK)).
const userHZ = 100

// Holders names who has each of socks: one Holder for each port and process, by
// port, PID 0 where that cannot be seen. Of several processes that share a
// socket it names the one with the lowest PID, as a rule the parent. Sockets
// without a process give one Holder of KindDraining for each port.
//
// It blocks for one pass over /proc/<pid>/fd of every process, which ends early
// when all are found; nothing is read if socks has no inode. The error is ctx's,
// or that /proc cannot be read at all.
func Holders(ctx context.Context, socks []Socket) ([]Holder, error) {
	owners, err := findOwners(ctx, inodesOf(socks))
	if err != nil {
		return nil, err
	}
	return describe(socks, owners), nil
}

func inodesOf(socks []Socket) map[uint64]bool {
	inodes := make(map[uint64]bool)
	for _, s := range socks {
		if s.Inode != 0 {
			inodes[s.Inode] = true
		}
	}
	return inodes
}

// Holders is Holders of the package, but that the processes of sockets that were asked for
// before are those of a second ago at most. It is for what is shown to people: nothing may
// be decided by it.
func (m *Memory) Holders(ctx context.Context, socks []Socket) ([]Holder, error) {
	m.mu.Lock()
	defer m.mu.Unlock() // who comes meanwhile shares the pass
	want := inodesOf(socks)
	known := time.Since(m.at) < cmp.Or(m.age, memoryAge)
	for inode := range want {
		_, asked := m.owners[inode]
		known = known && asked
	}
	if !known {
		at := time.Now()
		owners, err := findOwners(ctx, want)
		if err != nil {
			return nil, err
		}
		for inode := range want {
			owners[inode] += 0 // also of whom no process is seen
		}
		m.at, m.owners = at, owners
	}
	return describe(socks, m.owners), nil
}

// describe names who has each of socks; owners are the processes by inode.
func describe(socks []Socket, owners map[uint64]int) []Holder {
	who := newDescriber()
	var out []Holder
	seen := make(map[Holder]bool)
	for _, s := range socks {
		// A server may have several sockets on a port: one for each address, or thread.
		key := Holder{Port: s.Local.Port(), Kind: kindOf(s), PID: owners[s.Inode]}
		if seen[key] {
			continue
		}
		seen[key] = true
		h := key
		if s.Inode != 0 {
			h.User = who.user(s.UID)
			h.Program, h.Since = who.process(h.PID)
		}
		out = append(out, h)
	}
	slices.SortStableFunc(out, func(a, b Holder) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.PID, b.PID))
	})
	return out
}

func kindOf(s Socket) string {
	switch {
	case s.Inode == 0:
		return KindDraining
	case s.State == Listen:
		return KindListener
	case s.State == Bound:
		return KindBound
	}
	return KindConnection
}

// AbstractHolder names the process that has bound the abstract unix socket name
// (without the leading NUL or @). Port and Kind are left to the caller; PID 0 if
// it cannot be seen. It blocks like Holders. The error is ctx's, or that /proc
// cannot be read at all.
func AbstractHolder(ctx context.Context, name string) (Holder, error) {
	proc, err := procfs.NewDefaultFS()
	if err != nil {
		return Holder{}, fmt.Errorf("read unix sockets: %w", err)
	}
	table, err := proc.NetUNIX()
	if err != nil {
		return Holder{}, fmt.Errorf("read unix sockets: %w", err)
	}
	for _, row := range table.Rows {
		if row.Path != "@"+name {
			continue
		}
		owners, err := findOwners(ctx, map[uint64]bool{row.Inode: true})
		if err != nil {
			return Holder{}, err
		}
		return newDescriber().holder(owners[row.Inode]), nil
	}
	return Holder{}, nil
}

// OwnedBy reports whether process pid has one of the sockets open. It blocks for
// reading the process's descriptors. An error means that this is not known, which
// is not "no": fs.ErrPermission for another user's process without
// CAP_SYS_PTRACE, fs.ErrNotExist if there is no such process or hidepid hides it.
func OwnedBy(pid int, inodes map[uint64]bool) (bool, error) {
	found, err := openSockets(pid, maps.Clone(inodes), 1)
	// Whatever could not be read after it.
	if len(found) > 0 {
		return true, nil
	}
	return false, err
}

// openSockets returns those of the wanted inodes that a process has open, most of them at
// most. want must not change any more: who reads of a process that is held up reads on.
func openSockets(pid int, want map[uint64]bool, most int) (map[uint64]bool, error) {
	return procread.Read(pid, func(progress procread.Progress) (map[uint64]bool, error) {
		found := make(map[uint64]bool)
		err := eachSocket(pid, progress, func(inode uint64) bool {
			if want[inode] {
				found[inode] = true
			}
			return len(found) < most
		})
		return found, err
	})
}

// findOwners maps each wanted inode to the lowest PID that has it open. Inodes
// whose owner cannot be seen are not in the map.
func findOwners(ctx context.Context, want map[uint64]bool) (map[uint64]int, error) {
	owners := make(map[uint64]int, len(want))
	if len(want) == 0 {
		return owners, nil
	}
	pids, err := allPIDs()
	if err != nil {
		return nil, err
	}
	for _, pid := range pids {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		// An error is a process that has gone or that we may not inspect: its sockets stay
		// without an owner.
		found, _ := openSockets(pid, want, len(want))
		for inode := range found {
			if _, known := owners[inode]; !known {
				owners[inode] = pid
			}
		}
		if len(owners) == len(want) {
			break
		}
	}
	return owners, nil
}

// allPIDs returns the PIDs of /proc, ascending.
func allPIDs() ([]int, error) {
	names, err := dirNames("/proc")
	if err != nil {
		return nil, fmt.Errorf("read /proc: %w", err)
	}
	var pids []int
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			pids = append(pids, pid)
		}
	}
	// Ascending: of those that share a socket the lowest PID is found first.
	slices.Sort(pids)
	return pids, nil
}

func dirNames(path string) ([]string, error) {
	dir, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	return dir.Readdirnames(-1)
}

// eachSocket calls fn with the inode of every socket that process pid has open,
// until fn returns false.
func eachSocket(pid int, progress procread.Progress, fn func(inode uint64) bool) error {
	base := filepath.Join("/proc", strconv.Itoa(pid))
	open, denied := socketsIn(filepath.Join(base, "fd"), progress, fn)
	if open > 0 || (denied != nil && !zombie(base)) {
		return denied
	}
	// The leader of a thread group can be a zombie while its threads serve; then
	// it has no descriptors any more and they have. Only root may see that it has
	// none: without its memory it counts as nobody's own process.
	tids, err := dirNames(filepath.Join(base, "task"))
	if err != nil {
		return err
	}
	for _, tid := range tids {
		if tid == strconv.Itoa(pid) {
			continue
		}
		open, err := socketsIn(filepath.Join(base, "task", tid, "fd"), progress, fn)
		if open > 0 { // threads share one table, as a rule
			return err
		}
	}
	return denied
}

// zombie reports whether the leader of a thread group has ended.
func zombie(base string) bool {
	stat, err := os.ReadFile(filepath.Join(base, "stat"))
	return err == nil && bytes.Contains(stat, []byte(") Z "))
}

// socketsIn calls fn with the inode of every socket among the descriptors in
// path and returns the number of descriptors.
func socketsIn(path string, progress procread.Progress, fn func(inode uint64) bool) (int, error) {
	dir, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil && len(names) == 0 {
		return 0, err
	}
	var buf [64]byte
	for i, name := range names {
		progress()
		// By the open directory: once the process has gone, its PID may be another's.
		n, err := unix.Readlinkat(int(dir.Fd()), name, buf[:])
		switch {
		case errors.Is(err, fs.ErrNotExist): // closed meanwhile
			continue
		case err != nil:
			return i, &os.PathError{Op: "readlink", Path: filepath.Join(path, name), Err: err}
		}
		if inode, ok := socketInode(buf[:n]); ok && !fn(inode) {
			return len(names), nil
		}
	}
	return len(names), nil
}

// socketInode reads "socket:[4711]".
func socketInode(link []byte) (uint64, bool) {
	number, ok := strings.CutPrefix(string(link), "socket:[")
	if !ok {
		return 0, false
	}
	inode, err := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 64)
	return inode, err == nil
}

// describer says what a PID and a user number are, looking each up once.
type describer struct {
	proc  procfs.FS
	boot  uint64 // seconds since the epoch; 0 unknown
	users map[uint32]string
	procs map[int]described
}

type described struct {
	program string
	since   time.Time
}

func newDescriber() *describer {
	return &describer{users: make(map[uint32]string), procs: make(map[int]described)}
}

// user returns the name of a user, or the number.
func (d *describer) user(uid uint32) string {
	// Once for each: the user database may be a directory service.
	if name, ok := d.users[uid]; ok {
		return name
	}
	name := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(name); err == nil {
		name = plain.Text(u.Username)
	}
	d.users[uid] = name
	return name
}

// process returns comm and start of a process; zero values for 0 or one that has gone.
func (d *describer) process(pid int) (string, time.Time) {
	if pid == 0 {
		return "", time.Time{}
	}
	if known, ok := d.procs[pid]; ok {
		return known.program, known.since
	}
	var out described
	if p, err := d.open(pid); err == nil {
		stat, err := procread.Read(pid, func(procread.Progress) (procfs.ProcStat, error) { return p.Stat() })
		if err == nil {
			out.program = plain.Text(stat.Comm)
			out.since = d.started(stat.Starttime)
		}
	}
	d.procs[pid] = out
	return out.program, out.since
}

// holder describes a process by its own user, for sockets that do not carry one.
func (d *describer) holder(pid int) Holder {
	h := Holder{PID: pid}
	h.Program, h.Since = d.process(pid)
	if p, err := d.open(pid); pid != 0 && err == nil {
		if status, err := p.NewStatus(); err == nil {
			h.User = d.user(uint32(status.UIDs[1])) // effective
		}
	}
	return h
}

func (d *describer) open(pid int) (procfs.Proc, error) {
	if d.boot == 0 {
		proc, err := procfs.NewDefaultFS()
		if err != nil {
			return procfs.Proc{}, err
		}
		d.proc = proc
		if stat, err := proc.Stat(); err == nil {
			d.boot = stat.BootTime
		}
	}
	return d.proc.Proc(pid)
}

func (d *describer) started(ticks uint64) time.Time {
	if d.boot == 0 {
		return time.Time{}
	}
	return time.Unix(int64(d.boot), 0).Add(time.Duration(ticks) * (time.Second / userHZ)).UTC()
}
