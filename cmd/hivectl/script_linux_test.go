package main_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"rbeehive/test/hub"
	testprogram "rbeehive/test/program"
)

// TestScripts runs testdata/script/*.txtar: the real hivectl against a real
// hive with real workers. Besides testscript's own commands a script has
//
//	freerange N         N free ports in a row: RANGE, P0 .. P<N-1>; and a free port API
//	hive start [ARG..]  starts hive with hive.yaml, or with the default one, and waits until it serves
//	hive configure FILE hive.yaml becomes FILE, with its variables filled in; hive does not hear of it
//	hive kill           kill -9
//	hive stop           SIGTERM; it must exit with 0
//	hive log PATTERN    what the last hive printed matches
//	capture NAME [RE]   NAME=the last stdout, or the first group of RE in it
//	alive PID           the process is there; ! alive: it is not
//	end PID             kill -9 of a worker, waiting until it is gone
//	await RE CMD..      runs CMD until its stdout matches
//	squat PORT          the test itself listens there, as a stranger would
//	squat PORT foul     so does a process whose name is the sequence that sets a terminal's title
//	fetch PATH FILE     FILE is what the API answers to GET PATH
//	tty WxH FILE RE CMD.. runs CMD on a terminal of W columns and H rows, types Ctrl-C
//	                    when RE matches what is shown (-: never); FILE is that as it comes,
//	                    and "exit CODE" at the end
//
// At its end, however it went, no hive and no worker of the script is left.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"freerange": freeRange,
			"hive":      hiveCmd,
			"capture":   capture,
			"alive":     aliveCmd,
			"end":       endCmd,
			"await":     awaitCmd,
			"fetch":     fetchCmd,
			"squat":     squatCmd,
			"tty":       ttyCmd,
		},
	})
}

// daemonKey is where a script's daemon is kept.
type daemonKey struct{}

func setup(env *testscript.Env) error {
	d := &daemon{work: env.WorkDir, log: filepath.Join(env.WorkDir, "hive.log")}
	env.Values[daemonKey{}] = d
	models := hub.Start()
	env.Defer(models.Close)
	models.Add("Qwen/Qwen3-0.6B-GGUF", hub.File{Path: "Qwen3-0.6B-Q8_0.gguf", Size: 3 << 20, Seed: 1, LFS: true}, hub.File{Path: "Qwen3-0.6B-Q4_0.gguf", Size: 1 << 20, Seed: 2, LFS: true})
	env.Setenv("HUB", models.URL)
	// A race-enabled hivectl would wait a second at each of its ends.
	env.Setenv("GORACE", strings.TrimSpace(os.Getenv("GORACE")+" atexit_sleep_ms=0"))
	env.Defer(func() {
		if text, err := os.ReadFile(d.log); err == nil {
			env.T().Log("hive printed:\n" + string(text))
		}
		if err := d.clean(); err != nil {
			env.T().Log(err)
			env.T().FailNow()
		}
	})
	return nil
}

func capture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: capture NAME [REGEXP]")
	}
	text := strings.TrimSpace(ts.ReadFile("stdout"))
	if len(args) == 2 {
		m := regexp.MustCompile(args[1]).FindStringSubmatch(text)
		if len(m) < 2 {
			ts.Fatalf("%q does not match, or has no group, in:\n%s", args[1], text)
		}
		text = m[1]
	}
	ts.Setenv(args[0], text)
}

func aliveCmd(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: alive PID")
	}
	if alive(pidArg(ts, args[0])) == neg {
		ts.Fatalf("pid %s alive: %v", args[0], !neg)
	}
}

func endCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: end PID")
	}
	pid := pidArg(ts, args[0])
	d, _ := ts.Value(daemonKey{}).(*daemon)
	if !d.owns(pid) {
		ts.Fatalf("pid %d is no worker of this script", pid)
	}
	ts.Check(syscall.Kill(pid, syscall.SIGKILL))
	ts.Check(until(10*time.Second, func() bool { return !alive(pid) }))
}

func pidArg(ts *testscript.TestScript, arg string) int {
	pid, err := strconv.Atoi(arg)
	if err != nil || pid < 2 {
		ts.Fatalf("%q is not a pid", arg)
	}
	return pid
}

func awaitCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: await REGEXP COMMAND...")
	}
	want := regexp.MustCompile(args[0])
	err := until(20*time.Second, func() bool {
		return ts.Exec(args[1], args[2:]...) == nil && want.MatchString(ts.ReadFile("stdout"))
	})
	if err != nil {
		ts.Fatalf("%s never printed %q", strings.Join(args[1:], " "), args[0])
	}
}

func squatCmd(ts *testscript.TestScript, neg bool, args []string) {
	switch {
	case neg || len(args) < 1 || len(args) > 2:
		ts.Fatalf("usage: squat PORT [foul]")
	case len(args) == 2:
		foulSquatter(ts, args[0])
		return
	}
	l, err := net.Listen("tcp", "127.0.0.1:"+args[0])
	ts.Check(err)
	ts.Defer(func() { l.Close() })
}

// foulSquatter is hive's reference worker under a name that any user can give.
func foulSquatter(ts *testscript.TestScript, port string) {
	foul := filepath.Join(ts.MkAbs("."), "\x1b]0;x\x07")
	if _, err := os.Stat(foul); err != nil {
		program, err := exec.LookPath("hive")
		ts.Check(err)
		raw, err := os.ReadFile(program)
		ts.Check(err)
		ts.Check(testprogram.Write(foul, raw, 0o700))
	}
	cmd := exec.Command(foul, "worker", "--port", port)
	ts.Check(cmd.Start())
	ts.Defer(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	ts.Check(until(20*time.Second, func() bool {
		conn, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			return false
		}
		return conn.Close() == nil
	}))
}

func fetchCmd(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: fetch PATH FILE")
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := client.Get(ts.Getenv("HIVE_ADDR") + args[0])
	ts.Check(err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), body, 0o600))
}

// alive reports whether a process is there and is not a zombie.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	// The state follows the program's name, which may hold anything (proc_pid_stat(5)).
	rest := string(stat[strings.LastIndexByte(string(stat), ')')+1:])
	return !strings.HasPrefix(rest, " Z") && !strings.HasPrefix(rest, " X")
}

// until waits for a condition.
func until(limit time.Duration, done func() bool) error {
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	for !done() {
		select {
		case <-timeout.C:
			return fmt.Errorf("not within %s", limit)
		case <-ticker.C:
		}
	}
	return nil
}
