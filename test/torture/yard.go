package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"rbeehive/httpapi/wire"
)

// ports is how many ports the workers of one yard may have.
const ports = 48

// yard is one data directory with its configuration.
type yard struct {
	dir    string
	binary string
	config string
	api    string // address of the API
	mark   string // in the environment of every process that comes from here
	first  int    // first port of the range
	seen   map[string]bool
}

func newYard(binary string) (*yard, error) {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "hive-torture-")
	if err != nil {
		return nil, err
	}
	y := &yard{dir: dir, binary: binary, config: filepath.Join(dir, "hive.yaml"), mark: "TORTURE_YARD=" + filepath.Base(dir), seen: map[string]bool{}}
	if y.first, err = freeRange(ports + 1); err != nil {
		return nil, err
	}
	y.api = net.JoinHostPort("127.0.0.1", strconv.Itoa(y.first+ports))
	return y, os.WriteFile(y.config, fmt.Appendf(nil, `
listen: %s
data_dir: %s
ports: {range: %d-%d}
workers:
  - name: nap
    command: ["sleep", "300"]
    stop: {signal: [SIGKILL]}
`, y.api, filepath.Join(dir, "data"), y.first, y.first+ports-1), 0o600)
}

// freeRange finds consecutive ports on which nobody listens.
func freeRange(n int) (int, error) {
	for first := 20000 + os.Getpid()%5000; first < 32000; first += n {
		if allFree(first, n) {
			return first, nil
		}
	}
	return 0, fmt.Errorf("no %d consecutive free ports found", n)
}

func allFree(first, n int) bool {
	for p := first; p < first+n; p++ {
		l, err := net.Listen("tcp", ":"+strconv.Itoa(p))
		if err != nil {
			return false
		}
		_ = l.Close()
	}
	return true
}

// daemon is one running hive.
type daemon struct {
	y   *yard
	cmd *exec.Cmd
	out *os.File
}

// start starts hive and waits until it serves.
func (y *yard) start(ctx context.Context) (*daemon, error) {
	out, err := os.OpenFile(filepath.Join(y.dir, "hive.out"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	h := &daemon{y: y, out: out, cmd: exec.Command(y.binary, "--config", y.config)}
	h.cmd.Env = append(os.Environ(), y.mark)
	h.cmd.Stdout, h.cmd.Stderr = out, out
	if err := h.cmd.Start(); err != nil {
		return nil, err
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		if status, _ := h.get(ctx, "/health", nil); status == 200 {
			return h, nil
		}
		if h.cmd.ProcessState != nil || time.Now().After(deadline) || ctx.Err() != nil || !alive(h.cmd.Process.Pid) {
			h.kill()
			tail, _ := os.ReadFile(out.Name())
			return nil, fmt.Errorf("hive did not come up; its output ends with: %s", tail[max(0, len(tail)-2000):])
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func alive(pid int) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(raw), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

// kill is kill -9.
func (h *daemon) kill() {
	_ = h.cmd.Process.Kill()
	_ = h.cmd.Wait()
	_ = h.out.Close()
}

// member is a living process of a worker, found by the stamp in its environment.
type member struct {
	pid    int
	worker string // RBEEHIVE_WORKER
}

// members walks /proc for all processes that carry the yard's mark and a worker's stamp.
func (y *yard) members() ([]member, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var found []member
	for _, d := range dirs {
		env, err := os.ReadFile(d + "/environ")
		if err != nil || !strings.Contains(string(env), y.mark) {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(d))
		for kv := range strings.SplitSeq(string(env), "\x00") {
			if id, ok := strings.CutPrefix(kv, "RBEEHIVE_WORKER="); ok && alive(pid) {
				found = append(found, member{pid, id})
			}
		}
	}
	return found, nil
}

// patience is for how long a contradiction may last: a gate whose hive was
// killed needs a moment to see end-of-file and exit, and hive goes on with
// interrupted stops while it is looked at.
const patience = 3 * time.Second

// check compares the processes with what hive says of them. Only what lasts counts.
func (y *yard) check(ctx context.Context, h *daemon, t *tally) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		found, err := y.look(ctx, h)
		if err != nil {
			return err
		}
		if len(found) > 0 && time.Now().Before(deadline) {
			continue
		}
		for _, f := range found {
			if y.seen[f.String()] {
				continue // each counts once
			}
			y.seen[f.String()] = true
			t.count(f)
			fmt.Println("torture:", f)
		}
		return nil
	}
}

// finding is one broken invariant.
type finding struct{ kind, what string }

func (f finding) String() string { return f.kind + ": " + f.what }

func (t *tally) count(f finding) {
	switch f.kind {
	case "ORPHAN":
		t.orphans++
	case "LEAK":
		t.leaked++
	case "DOUBLE":
		t.double++
	default:
		t.wrong++
	}
}

func (y *yard) look(ctx context.Context, h *daemon) ([]finding, error) {
	procs, err := y.members()
	if err != nil {
		return nil, err
	}
	live, err := h.live(ctx)
	if err != nil {
		return nil, err
	}
	leases, err := h.leases(ctx)
	if err != nil {
		return nil, err
	}
	return append(orphans(procs, live), contradictions(procs, live, leases)...), nil
}

func orphans(procs []member, live map[string]wire.Worker) (found []finding) {
	holder := map[string]string{} // port -> worker
	for _, p := range procs {
		port := portOf(p.worker)
		if other := holder[port]; other != "" && other != p.worker {
			found = append(found, finding{"DOUBLE", fmt.Sprintf("%s and %s live on port %s", other, p.worker, port)})
		}
		holder[port] = p.worker
		if _, ok := live[p.worker]; !ok {
			found = append(found, finding{"ORPHAN", fmt.Sprintf("pid %d of %s has no record", p.pid, p.worker)})
		}
	}
	return found
}

func contradictions(procs []member, live map[string]wire.Worker, leases []wire.Lease) (found []finding) {
	running := map[string]int{}
	for _, p := range procs {
		running[p.worker] = p.pid
	}
	leased := map[string]wire.Lease{}
	taken := map[uint16]bool{}
	for _, l := range leases {
		if taken[l.Port] {
			found = append(found, finding{"DOUBLE", fmt.Sprintf("two leases of port %d", l.Port)})
		}
		taken[l.Port] = true
		if l.WorkerID == nil || running[*l.WorkerID] == 0 {
			found = append(found, finding{"LEAK", fmt.Sprintf("port %d is leased (%s) and no process holds it", l.Port, l.State)})
			continue
		}
		leased[*l.WorkerID] = l
	}
	for id, w := range live {
		l, ok := leased[id]
		if !ok || l.Port != w.Port || w.PID == nil || l.PID == nil || *w.PID != *l.PID || *w.PID != running[id] {
			found = append(found, finding{"WRONG", fmt.Sprintf("worker %s is %s on port %d with process %d, and its lease does not agree: %+v", id, w.State, w.Port, running[id], l)})
		}
	}
	return found
}

func portOf(worker string) string {
	f := strings.Split(worker, "-")
	return f[len(f)-2]
}

// clear ends every process that comes from the yard and removes its directory.
func (y *yard) clear() error {
	var errs []error
	for range 100 {
		procs, err := y.members()
		if err != nil || len(procs) == 0 {
			errs = append(errs, err)
			break
		}
		for _, p := range procs {
			_ = syscall.Kill(p.pid, syscall.SIGKILL)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return errors.Join(append(errs, os.RemoveAll(y.dir))...)
}
