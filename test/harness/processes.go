package harness

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// stamp begins the variable that names the worker in the environment of its processes.
const stamp = "RBEEHIVE_WORKER="

func alive(pid int) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(raw), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

// IsWorker reports whether a living process carries the stamp of this worker.
func IsWorker(pid int, worker string) bool {
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	return err == nil && slices.Contains(strings.Split(string(env), "\x00"), stamp+worker) && alive(pid)
}

// Member is a living process of a worker, found by the stamp in its environment.
type Member struct {
	PID    int
	Worker string // its id
}

// Members walks /proc for all processes that carry the instance's mark and a worker's
// stamp. It does not ask hive.
func (i *Instance) Members() ([]Member, error) {
	all, err := i.Marked()
	return slices.DeleteFunc(all, func(m Member) bool { return m.Worker == "" }), err
}

// Marked walks /proc for all living processes that carry the instance's mark: hives,
// members, and what was started otherwise, which has no Worker.
func (i *Instance) Marked() ([]Member, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var found []Member
	for _, d := range dirs {
		env, err := os.ReadFile(d + "/environ")
		pid, _ := strconv.Atoi(filepath.Base(d))
		if err != nil || !strings.Contains(string(env), i.Mark()) || !alive(pid) {
			continue
		}
		m := Member{PID: pid}
		for kv := range strings.SplitSeq(string(env), "\x00") {
			if id, ok := strings.CutPrefix(kv, stamp); ok {
				m.Worker = id
			}
		}
		found = append(found, m)
	}
	return found, nil
}

// killMarked ends every process that carries the mark, also those that are started meanwhile.
func (i *Instance) killMarked() error {
	return Eventually(context.Background(), 10*time.Second, func() (string, error) {
		members, err := i.Marked()
		for _, m := range members {
			_ = syscall.Kill(m.PID, syscall.SIGKILL)
		}
		if len(members) > 0 {
			return fmt.Sprintf("%d processes are left, %+v among them", len(members), members[0]), err
		}
		return "", err
	})
}
