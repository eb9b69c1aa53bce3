// Package yard runs the real hive binary in a directory of its own, for test
// programs that kill it and look at what is left.
package yard

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"rbeehive/test/freeport"
)

// Yard is one data directory with its configuration.
type Yard struct {
	Dir    string
	API    string   // address of the API
	First  int      // first port of the range
	Wrap   []string // goes before hive's command line; it must end in an exec
	binary string
	config string
	env    []string // over the configuration
	mark   string   // in the environment of every process that comes from here
}

// New makes a yard for a hive binary with a range of n ports; entries is the
// value of the configuration's workers, in YAML, and more are further lines of it.
func New(binary string, n int, entries string, more ...string) (*Yard, error) {
	y, err := plot(binary, n)
	if err != nil {
		return nil, err
	}
	y.config = filepath.Join(y.Dir, "hive.yaml")
	return y, os.WriteFile(y.config, fmt.Appendf(nil, "listen: %s\ndata_dir: %s\nports: {range: %d-%d}\nworkers: %s\n%s\n",
		y.API, y.data(), y.First, y.First+n-1, entries, strings.Join(more, "\n")), 0o600)
}

// NewFrom makes a yard for a configuration file as it is, but for the data
// directory, the range of n ports and the address of the API. With n = 0 the file's
// own range and address hold, and api says which that is.
func NewFrom(binary string, n int, config, api string) (*Yard, error) {
	y, err := plot(binary, n)
	if err != nil {
		return nil, err
	}
	if y.config, err = filepath.Abs(config); err != nil {
		return nil, err
	}
	y.env = []string{"HIVE_DATA_DIR=" + y.data()}
	if n == 0 {
		y.API = api
		return y, nil
	}
	y.env = append(y.env, "HIVE_LISTEN="+y.API, fmt.Sprintf("HIVE_PORTS_RANGE=%d-%d", y.First, y.First+n-1))
	return y, nil
}

// plot is a yard without a configuration.
func plot(binary string, n int) (*Yard, error) {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "hive-yard-")
	if err != nil {
		return nil, err
	}
	y := &Yard{Dir: dir, binary: binary, mark: "YARD=" + filepath.Base(dir)}
	if y.First, err = freeport.Range(n + 1); err != nil {
		return nil, err
	}
	y.API = net.JoinHostPort("127.0.0.1", strconv.Itoa(y.First+n))
	return y, nil
}

func (y *Yard) data() string { return filepath.Join(y.Dir, "data") }

// Daemon is one running hive.
type Daemon struct {
	y   *Yard
	cmd *exec.Cmd
	out *os.File
}

// Start starts hive and waits until it serves.
func (y *Yard) Start(ctx context.Context) (*Daemon, error) {
	out, err := os.OpenFile(y.Output(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	argv := append(slices.Clone(y.Wrap), y.binary, "--config", y.config)
	h := &Daemon{y: y, out: out, cmd: exec.Command(argv[0], argv[1:]...)}
	h.cmd.Env = append(append(os.Environ(), y.mark), y.env...)
	h.cmd.Stdout, h.cmd.Stderr = out, out
	if err := h.cmd.Start(); err != nil {
		return nil, err
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		if status, _ := h.Get(ctx, "/health", nil); status == 200 {
			return h, nil
		}
		if h.cmd.ProcessState != nil || time.Now().After(deadline) || ctx.Err() != nil || !alive(h.cmd.Process.Pid) {
			h.Kill()
			tail, _ := os.ReadFile(out.Name())
			return nil, fmt.Errorf("hive did not come up; its output ends with: %s", tail[max(0, len(tail)-2000):])
		}
		time.Sleep(2 * time.Millisecond)
	}
}

// Any is whichever hive of the yard runs when it is asked something; it can only be
// asked.
func (y *Yard) Any() *Daemon { return &Daemon{y: y} }

// Output is the file with what all hives of the yard have printed.
func (y *Yard) Output() string { return filepath.Join(y.Dir, "hive.out") }

func alive(pid int) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(raw), ") ")
	return !strings.HasPrefix(rest, "Z") && !strings.HasPrefix(rest, "X")
}

// PID is the daemon's process id.
func (h *Daemon) PID() int { return h.cmd.Process.Pid }

// Term asks the daemon to stop, and waits until it has.
func (h *Daemon) Term() error {
	if err := h.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	defer h.out.Close()
	if err := h.cmd.Wait(); err != nil {
		return fmt.Errorf("SIGTERM: %w", err)
	}
	return nil
}

// Kill is kill -9; it waits until the process is gone.
func (h *Daemon) Kill() {
	_ = h.cmd.Process.Kill()
	_ = h.cmd.Wait()
	_ = h.out.Close()
}

// stamp begins the variable that names the worker in the environment of its processes.
const stamp = "RBEEHIVE_WORKER="

// IsWorker reports whether a living process carries the stamp of this worker.
func IsWorker(pid int, worker string) bool {
	env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	return err == nil && slices.Contains(strings.Split(string(env), "\x00"), stamp+worker) && alive(pid)
}

// Member is a living process of a worker, found by the stamp in its environment.
type Member struct {
	PID    int
	Worker string // RBEEHIVE_WORKER
}

// Members walks /proc for all processes that carry the yard's mark and a worker's stamp.
func (y *Yard) Members() ([]Member, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	var found []Member
	for _, d := range dirs {
		env, err := os.ReadFile(d + "/environ")
		if err != nil || !strings.Contains(string(env), y.mark) {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(d))
		for kv := range strings.SplitSeq(string(env), "\x00") {
			if id, ok := strings.CutPrefix(kv, stamp); ok && alive(pid) {
				found = append(found, Member{pid, id})
			}
		}
	}
	return found, nil
}

// Clear ends every process that comes from the yard and removes its directory.
func (y *Yard) Clear() error {
	var errs []error
	for range 100 {
		procs, err := y.Members()
		if err != nil || len(procs) == 0 {
			errs = append(errs, err)
			break
		}
		for _, p := range procs {
			_ = syscall.Kill(p.PID, syscall.SIGKILL)
		}
		time.Sleep(10 * time.Millisecond)
	}
	return errors.Join(append(errs, os.RemoveAll(y.Dir))...)
}
