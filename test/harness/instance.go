package harness

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"rbeehive/test/cgroups"
	"rbeehive/test/freeport"
)

// Instance is a hive in a directory of its own, over as many starts and ends as the
// test wants. Asking it is safe for concurrent use, also while it is killed and
// started; starting and ending it is for one goroutine.
type Instance struct {
	Dir   string
	API   string   // address of the API
	First int      // first port of the range
	Wrap  []string // goes before hive's command line; it must end in an exec
	Gates []string // for the setting gate, one start after the other; none: hive's default

	binary    string
	config    string
	ports     int      // of the range, in the file
	env       []string // over the configuration
	transport *http.Transport
	cmd       *exec.Cmd // the hive that was started last
	starts    int
	runs      bool
}

// BothGates has every second start use the gate process for everything.
var BothGates = []string{"auto", "process"}

// New makes an instance of a hive binary with a range of n ports. entries is the
// value of the configuration's workers, in YAML, and more are further lines of it.
// The caller closes it.
func New(binary string, n int, entries string, more ...string) (*Instance, error) {
	i, err := newInstance(binary, n)
	if err != nil {
		return nil, err
	}
	i.config = filepath.Join(i.Dir, "hive.yaml")
	i.ports = n
	return i, i.Configure(entries, more...)
}

// Configure replaces the configuration file of an instance of New, as an editor does, by
// one that New would have made. A running hive reads it with its next reload.
func (i *Instance) Configure(entries string, more ...string) error {
	text := fmt.Appendf(nil, "listen: %s\ndata_dir: %s\nports: {range: %d-%d}\nworkers: %s\n%s\n",
		i.API, i.Data(), i.First, i.First+i.ports-1, entries, strings.Join(more, "\n"))
	fresh := i.config + ".new"
	if err := os.WriteFile(fresh, text, 0o600); err != nil {
		return err
	}
	return os.Rename(fresh, i.config)
}

// NewFrom makes an instance of a configuration file as it is, but for the data
// directory, the range of n ports and the address of the API. With n = 0 the file's
// own range and address hold, and api says which that is.
func NewFrom(binary string, n int, config, api string) (*Instance, error) {
	i, err := newInstance(binary, n)
	if err != nil {
		return nil, err
	}
	if i.config, err = filepath.Abs(config); err != nil {
		return nil, err
	}
	i.env = []string{"HIVE_DATA_DIR=" + i.Data()}
	if n == 0 {
		i.API = api
		return i, nil
	}
	i.env = append(i.env, "HIVE_LISTEN="+i.API, fmt.Sprintf("HIVE_PORTS_RANGE=%d-%d", i.First, i.First+n-1))
	return i, nil
}

// newInstance makes one without a configuration.
func newInstance(binary string, n int) (*Instance, error) {
	binary, err := filepath.Abs(binary)
	if err != nil {
		return nil, err
	}
	first, err := freeport.Range(n + 1)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "hive-test-")
	if err != nil {
		return nil, err
	}
	return &Instance{
		Dir: dir, First: first, API: net.JoinHostPort("127.0.0.1", strconv.Itoa(first+n)), binary: binary,
		transport: &http.Transport{MaxIdleConnsPerHost: 256}, // without a proxy
	}, nil
}

// Data is hive's data directory.
func (i *Instance) Data() string { return filepath.Join(i.Dir, "data") }

// Config is the configuration file.
func (i *Instance) Config() string { return i.config }

// Mark is in the environment of every process that comes from this instance.
func (i *Instance) Mark() string { return "HARNESS_INSTANCE=" + filepath.Base(i.Dir) }

// Output is the file with what all hives of the instance have printed.
func (i *Instance) Output() string { return filepath.Join(i.Dir, "hive.out") }

// outputTail is the end of it; empty if it cannot be read.
func (i *Instance) outputTail() string {
	text, _ := os.ReadFile(i.Output())
	return string(text[max(0, len(text)-8<<10):])
}

// startTimeout is how long a hive may take until it serves.
const startTimeout = 30 * time.Second

// Start starts hive and waits until it serves.
func (i *Instance) Start(ctx context.Context) error {
	if err := i.Launch(nil); err != nil {
		return err
	}
	return i.AwaitServing(ctx)
}

// Launch starts hive and waits for nothing. It does so on the calling thread, which is
// the tracer if attr asks for one.
func (i *Instance) Launch(attr *syscall.SysProcAttr) error {
	out, err := os.OpenFile(i.Output(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	defer out.Close() // hive has it
	argv := append(slices.Clone(i.Wrap), i.binary, "--config", i.config)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(append(os.Environ(), i.Mark()), i.env...)
	if len(i.Gates) > 0 {
		cmd.Env = append(cmd.Env, "HIVE_GATE="+i.Gates[i.starts%len(i.Gates)])
	}
	i.starts++
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = attr
	if err := cmd.Start(); err != nil {
		return err
	}
	i.cmd, i.runs = cmd, true
	return nil
}

// AwaitServing waits until hive serves; one that does not is killed.
func (i *Instance) AwaitServing(ctx context.Context) error {
	for deadline := time.Now().Add(startTimeout); ; {
		if i.Get(ctx, "/health", nil) == nil {
			return nil
		}
		if time.Now().After(deadline) || !alive(i.PID()) || !Sleep(ctx, 2*time.Millisecond) {
			i.Kill()
			return errors.Join(ctx.Err(), fmt.Errorf("hive did not start to serve; its output ends with: %s", i.outputTail()))
		}
	}
}

// Restart is Kill and Start.
func (i *Instance) Restart(ctx context.Context) error {
	i.Kill()
	return i.Start(ctx)
}

// PID is the process id of the hive that was started last.
func (i *Instance) PID() int { return i.cmd.Process.Pid }

// Term asks hive to stop, and waits until it has.
func (i *Instance) Term() error {
	if err := i.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	err := i.cmd.Wait()
	i.runs = false
	if err != nil {
		return fmt.Errorf("SIGTERM: %w", err)
	}
	return nil
}

// Kill ends hive with kill -9 if one runs, and waits until the process is gone.
func (i *Instance) Kill() {
	if !i.runs {
		return
	}
	_ = i.cmd.Process.Kill()
	_ = i.cmd.Wait()
	i.runs = false
}

// Close ends hive and every process that comes from the instance, and removes its
// directory. It returns what went wrong before, with the end of hive's output, which
// is gone then, and what has gone wrong in doing so.
func (i *Instance) Close(cause error) error {
	i.Kill()
	i.transport.CloseIdleConnections()
	if cause != nil && !errors.Is(cause, context.Canceled) {
		cause = fmt.Errorf("%w\nhive's output ends with:\n%s", cause, i.outputTail())
	}
	left := i.killMarked()
	cgroups.Prune(i.Data())
	return errors.Join(cause, left, os.RemoveAll(i.Dir))
}
