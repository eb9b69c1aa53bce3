package main_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"rbeehive/test/freeport"
)

// daemon is the hive of one script.
type daemon struct {
	work string // the script's directory; everything of it is below
	log  string // what it printed
	root string // the name of its cgroup
	cmd  *exec.Cmd
	done chan error
}

// defaultConfig is hive.yaml of a script that has none.
const defaultConfig = "listen: 127.0.0.1:%s\ndata_dir: %s\nports: {range: %s}\n"

func hiveCmd(ts *testscript.TestScript, neg bool, args []string) {
	d, _ := ts.Value(daemonKey{}).(*daemon)
	if neg || len(args) == 0 {
		ts.Fatalf("usage: hive start|configure|kill|stop|log")
	}
	switch args[0] {
	case "start":
		ts.Check(d.start(ts, args[1:]))
	case "configure":
		if len(args) != 2 {
			ts.Fatalf("usage: hive configure FILE")
		}
		text := os.Expand(ts.ReadFile(args[1]), ts.Getenv)
		ts.Check(os.WriteFile(filepath.Join(d.work, "hive.yaml"), []byte(text), 0o600))
	case "kill":
		ts.Check(d.kill())
	case "stop":
		ts.Check(d.stop())
	case "log":
		if len(args) != 2 {
			ts.Fatalf("usage: hive log PATTERN")
		}
		// hive serves a moment before it prints its banner.
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for deadline := time.Now().Add(10 * time.Second); !regexp.MustCompile(args[1]).MatchString(ts.ReadFile(d.log)); <-tick.C {
			if time.Now().After(deadline) {
				ts.Fatalf("no match for %q in:\n%s", args[1:], ts.ReadFile(d.log))
			}
		}
	default:
		ts.Fatalf("hive %s: unknown", args[0])
	}
}

// start starts hive and waits until it serves.
func (d *daemon) start(ts *testscript.TestScript, args []string) error {
	if d.cmd != nil {
		return errors.New("hive runs already")
	}
	config := filepath.Join(d.work, "hive.yaml")
	if err := d.expandConfig(ts, config); err != nil {
		return err
	}
	log, err := os.Create(d.log)
	if err != nil {
		return err
	}
	defer log.Close()
	d.cmd = exec.Command("hive", append([]string{"--config", config}, args...)...)
	d.cmd.Dir = d.work
	d.cmd.Stdout, d.cmd.Stderr = log, log
	// A hive that inherited settings would not be the one the script describes.
	d.cmd.Env = slices.DeleteFunc(os.Environ(), func(kv string) bool { return strings.HasPrefix(kv, "HIVE_") })
	if err := d.cmd.Start(); err != nil {
		d.cmd = nil
		return err
	}
	d.done = make(chan error, 1)
	go func(cmd *exec.Cmd, done chan<- error) { done <- cmd.Wait() }(d.cmd, d.done)
	api := "http://127.0.0.1:" + ts.Getenv("API")
	if err := d.serves(api + "/health"); err != nil {
		return err
	}
	return d.learn(api + "/v1/hive")
}

// learn asks for the state id, which names hive's cgroup.
func (d *daemon) learn(url string) error {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	if token, err := os.ReadFile(filepath.Join(d.work, "data", "token")); err == nil {
		req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(string(token)))
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var hive struct {
		StateID string `json:"state_id"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&hive); err != nil {
		return err
	}
	if len(hive.StateID) < 12 {
		return fmt.Errorf("state id %q", hive.StateID)
	}
	d.root = "hive-" + hive.StateID[:12]
	return nil
}

// expandConfig writes the default hive.yaml, or fills in the variables of the script's own.
func (d *daemon) expandConfig(ts *testscript.TestScript, path string) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		text, err = fmt.Appendf(nil, defaultConfig, ts.Getenv("API"), filepath.Join(d.work, "data"), ts.Getenv("RANGE")), nil
	}
	if err != nil {
		return err
	}
	return os.WriteFile(path, []byte(os.Expand(string(text), ts.Getenv)), 0o600)
}

// serves waits for /health.
func (d *daemon) serves(url string) error {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	var ended error
	err := until(30*time.Second, func() bool {
		select {
		case err := <-d.done:
			d.cmd = nil
			ended = fmt.Errorf("hive ended before it served: %w", err)
			return true
		default:
		}
		resp, err := client.Get(url)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	return errors.Join(ended, err)
}

// kill ends hive as a crash would.
func (d *daemon) kill() error {
	if d.cmd == nil {
		return nil
	}
	if err := d.cmd.Process.Kill(); err != nil {
		return err
	}
	<-d.done // its error is that it was killed
	d.cmd = nil
	return nil
}

// stop asks hive to end.
func (d *daemon) stop() error {
	if d.cmd == nil {
		return errors.New("hive does not run")
	}
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case err := <-d.done:
		d.cmd = nil
		return err
	case <-time.After(20 * time.Second):
		return errors.New("hive does not end on SIGTERM")
	}
}

// clean ends hive and every worker of it that is left.
func (d *daemon) clean() error {
	if err := d.kill(); err != nil {
		return err
	}
	return until(10*time.Second, func() bool {
		left := d.workers()
		for _, pid := range left {
			_ = syscall.Kill(pid, syscall.SIGKILL) // looked at again
		}
		return len(left) == 0 && d.noCgroups()
	})
}

// noCgroups removes what is left of hive's cgroup and reports whether all of
// it is gone. A cgroup is removed like an empty directory (cgroups(7)).
func (d *daemon) noCgroups() bool {
	if d.root == "" {
		return true
	}
	gone := true
	for _, mount := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		for _, below := range []string{"", "*", "*/*", "*/*/*"} {
			roots, _ := filepath.Glob(filepath.Join(mount, below, d.root))
			for _, root := range roots {
				leaves, _ := filepath.Glob(filepath.Join(root, "*", "cgroup.procs"))
				for _, leaf := range leaves {
					_ = os.Remove(filepath.Dir(leaf)) // the root cannot be removed then
				}
				gone = os.Remove(root) == nil && gone
			}
		}
	}
	return gone
}

// workers are the processes that write into a log below the script's directory,
// and those that it started in the background itself.
func (d *daemon) workers() []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var pids []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil && d.owns(pid) && alive(pid) {
			pids = append(pids, pid)
		}
	}
	return pids
}

// owns reports whether a process is a worker of this script's hive: its output
// goes into the data directory.
func (d *daemon) owns(pid int) bool {
	log, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/1", pid))
	if err == nil && strings.HasPrefix(log, filepath.Join(d.work, "data")+"/") {
		return true
	}
	dir, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	return err == nil && dir == d.work && pid != os.Getpid()
}

// freeRange sets P0, P1, ..., RANGE, API and HIVE_ADDR to free ports.
func freeRange(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: freerange N")
	}
	n, err := strconv.Atoi(args[0])
	ts.Check(err)
	first, err := freeport.Range(n + 1)
	ts.Check(err)
	for i := range n {
		ts.Setenv("P"+strconv.Itoa(i), strconv.Itoa(first+i))
	}
	ts.Setenv("RANGE", fmt.Sprintf("%d-%d", first, first+n-1))
	ts.Setenv("API", strconv.Itoa(first+n))
	ts.Setenv("HIVE_ADDR", "http://127.0.0.1:"+strconv.Itoa(first+n))
}
