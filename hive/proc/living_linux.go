package proc

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"rbeehive/store"
)

// FindLiving returns every process that says by itself which worker it is of: its
// stdout or stderr is a log in the directory logs, whatever that was called when it
// was started, or it has the stamp of one of the states, or it is in a cgroup of
// one. Nothing that hive has recorded is needed for it. It reads /proc once, with
// at most four readers; what cannot be read says nothing. Commands that hive runs
// beside workers are left out.
func FindLiving(ctx context.Context, logs string, states []string) ([]Living, error) {
	all, err := pids()
	if err != nil {
		return nil, fmt.Errorf("find workers: %w", err)
	}
	f := &finder{logs: logsIn(logs), roots: map[string]bool{}, states: states}
	f.h, _ = findHierarchy() // without one there is nothing to find in it
	for _, id := range states {
		f.roots[rootName(id)] = true
	}
	self := os.Getpid()
	found := make([]Living, len(all))
	forEach(len(all), func(i int) {
		if ctx.Err() == nil && all[i] != self {
			found[i] = f.look(all[i])
		}
	})
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("find workers: %w", err)
	}
	return slices.DeleteFunc(found, func(l Living) bool { return l.WorkerID == "" }), nil
}

type finder struct {
	h      hierarchy
	logs   map[file]string // worker ids
	roots  map[string]bool
	states []string
}

// logsIn finds which file is whose log.
func logsIn(dir string) map[file]string {
	logs := map[file]string{}
	paths, _ := filepath.Glob(filepath.Join(dir, "*.log")) // the pattern is well formed
	for _, path := range paths {
		if f, ok := logOf(path); ok {
			logs[f] = strings.TrimSuffix(filepath.Base(path), ".log")
		}
	}
	return logs
}

// look returns a Living without a WorkerID for a process that says nothing.
func (f *finder) look(pid int) Living {
	st, err := readStat(pid)
	if err != nil || st.zombie() || st.flags&kernelThread != 0 {
		return Living{}
	}
	env := environ(st.living(), StampState, StampLease, StampWorker, StampHook)
	if env[StampHook] != "" {
		return Living{}
	}
	l := Living{PID: pid, Parent: st.parent, Start: st.start, Leader: st.session == pid}
	byLog := f.byLog(st.living())
	if byLog != "" {
		l.WorkerID, l.Proof = byLog, ProofLog
	}
	if worker := env[StampWorker]; worker != "" && (worker == byLog || byLog == "" && slices.Contains(f.states, env[StampState])) {
		l.WorkerID, l.StateID, l.LeaseID = worker, env[StampState], env[StampLease]
		if l.Proof == "" {
			l.Proof = ProofStamp
		}
	}
	if worker, cgroup := f.byCgroup(pid); worker != "" && (l.WorkerID == "" || l.WorkerID == worker) {
		l.WorkerID, l.Cgroup, l.Proof = worker, cgroup, ProofCgroup
	}
	if l.WorkerID == "" {
		return Living{}
	}
	l.Program = programOf(&st)
	l.Argv, l.Dir = argvOf(st.living()), dirOf(st.living())
	return l
}

func (f *finder) byLog(pid int) string {
	for _, fd := range []string{"/fd/1", "/fd/2"} {
		if is, ok := fileOf("/proc/" + strconv.Itoa(pid) + fd); ok && f.logs[is] != "" {
			return f.logs[is]
		}
	}
	return ""
}

// byCgroup returns the leaf that hive made for the worker. In a cgroup of a state
// that is not known nobody is found: its name says which hive's it is, and no more.
func (f *finder) byCgroup(pid int) (worker, cgroup string) {
	if f.h.mount == "" {
		return "", ""
	}
	p, ok := f.h.of(pid)
	if !ok {
		return "", ""
	}
	parts := strings.Split(p, "/")
	for i, part := range parts {
		if f.roots[part] && i+1 < len(parts) && !strings.HasPrefix(parts[i+1], hookLeaf) {
			return parts[i+1], strings.Join(parts[:i+2], "/")
		}
	}
	return "", ""
}

func argvOf(pid int) []string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil || len(b) == 0 {
		return nil
	}
	var argv []string
	for arg := range bytes.SplitSeq(bytes.TrimSuffix(b, []byte{0}), []byte{0}) {
		argv = append(argv, string(arg))
	}
	if exe, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/exe"); err == nil && !filepath.IsAbs(argv[0]) {
		argv[0] = strings.TrimSuffix(exe, " (deleted)")
	}
	return argv
}

func dirOf(pid int) string {
	dir, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/cwd")
	if err != nil {
		return ""
	}
	return dir
}

// Judge verifies a recorded process, as Adopt does, and does not follow it.
func Judge(id store.Identity) (Verdict, error) {
	fd, verdict, err := judge(id)
	if verdict == Alive {
		return verdict, unix.Close(fd)
	}
	return verdict, err
}
