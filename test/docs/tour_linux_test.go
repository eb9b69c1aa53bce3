package docs_test

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/test/freeport"
	"rbeehive/test/skip"
)

// timeout is for what takes a moment on an idle machine.
const timeout = 30 * time.Second

// reader is somebody who does what docs/tour.md says, in a directory of their own.
type reader struct {
	*testing.T
	transcript
	dir   string // the working directory; bin and the state are below
	out   string // the file that is the terminal
	shell *exec.Cmd
	in    *os.File      // what is typed
	ready *bufio.Reader // a line for each command that the shell is done with
	ran   []ran
}

// ran is a step that was done: what was printed, and what was known before.
type ran struct {
	step
	printed string
	before  map[string]string
}

// TestTour does what docs/tour.md says, and holds what is printed against it.
func TestTour(t *testing.T) {
	if testing.Short() {
		t.Skip("builds hive, and takes ten seconds")
	}
	needs(t)
	r, local := newReader(t)
	for _, s := range steps(local(document(t, "docs/tour.md"))) {
		r.do(s)
	}
	require.Greater(t, len(r.ran), 20)
	// hive says its last words a moment before it has ended.
	require.Eventually(t, func() bool { return len(processesIn(r.dir, r.shell.Process.Pid)) == 0 }, timeout, 10*time.Millisecond,
		"the tour leaves processes behind")
	r.mistakes()
}

// needs skips the test where what the documents use is not there, or would find another hive's
// configuration.
func needs(t *testing.T) {
	t.Helper()
	for _, program := range []string{"bash", "curl", "python3"} {
		if _, err := exec.LookPath(program); err != nil {
			skip.Because(t, err)
		}
	}
	if os.Getuid() == 0 {
		if _, err := os.Stat("/etc/hive/hive.yaml"); err == nil {
			skip.Because(t, "a hive of root's would read the machine's /etc/hive/hive.yaml")
		}
	}
}

// newReader has a shell with ports and a state of its own, and local, which puts
// these into the document's text.
func newReader(t *testing.T) (r *reader, local func(string) string) {
	t.Helper()
	port, err := freeport.Range(4)
	require.NoError(t, err)
	r = buildReader(t)
	who, err := user.Current()
	require.NoError(t, err)
	state := filepath.Join(r.dir, "state")
	r.start("HIVE_DATA_DIR="+state, "HIVE_WORKER_USER="+who.Uid,
		fmt.Sprintf("HIVE_PORT=%d", port+3), fmt.Sprintf("HIVE_PORTS_RANGE=%d-%d", port, port+2))

	// A hive with another port than the default's says how hivectl finds it.
	addr := "bin/hivectl --addr unix:" + state + "/control.sock"
	said := strings.NewReplacer("try       bin/hivectl", "try       "+addr, "          bin/hivectl", "          "+addr,
		"root (uid 0", fmt.Sprintf("%s (uid %s", who.Username, who.Uid),
		`"uid":0,"user":"root"`, fmt.Sprintf(`"uid":%s,"user":"%s"`, who.Uid, who.Username), "/var/lib/hive", state)
	ports := map[string]int{"8080": port, "8081": port + 1, "8082": port + 2, "9999": port + 2, "7835": port + 3}
	for _, p := range ports {
		r.fixed[strconv.Itoa(p)] = true
	}
	counts := regexp.MustCompile(`\b19\d\d( in all| free)`) // of the 1,920 ports of the default range; here are 3
	numbers := regexp.MustCompile(`\b\d{4}\b`)
	return r, func(doc string) string {
		doc = counts.ReplaceAllStringFunc(said.Replace(doc), func(s string) string {
			n, _ := strconv.Atoi(s[:4])
			return strconv.Itoa(n-1920+3) + s[4:]
		})
		return numbers.ReplaceAllStringFunc(doc, func(s string) string {
			if p, ok := ports[s]; ok {
				return strconv.Itoa(p)
			}
			return s
		})
	}
}

// buildReader has the two programs, and no shell yet.
func buildReader(t *testing.T) *reader {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.Chmod(dir, 0o700)) // hive believes nothing in a directory that a group may write to
	for _, name := range []string{"hive", "hivectl"} {
		build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "bin", name), "rbeehive/cmd/"+name)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		out, err := build.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
	return &reader{T: t, dir: dir, out: filepath.Join(dir, "terminal"), transcript: transcript{fixed: map[string]bool{}, known: map[string]string{}}}
}

// start starts the shell. What it and its children print is in one file, in order.
func (r *reader) start(env ...string) {
	r.Helper()
	terminal, err := os.OpenFile(r.out, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	require.NoError(r, err)
	defer terminal.Close()
	typed, in, err := os.Pipe()
	require.NoError(r, err)
	defer typed.Close()
	done, said, err := os.Pipe()
	require.NoError(r, err)
	defer said.Close()
	r.in, r.ready = in, bufio.NewReader(done)
	r.shell = exec.Command("bash", "--noprofile", "--norc")
	r.shell.Dir = r.dir
	r.shell.Env = append(env, "PATH="+os.Getenv("PATH"), "HOME="+r.dir, "HIVE_LOG_LEVEL=error")
	r.shell.Stdin, r.shell.Stdout, r.shell.Stderr = typed, terminal, terminal
	r.shell.ExtraFiles = []*os.File{said} // descriptor 3
	require.NoError(r, r.shell.Start())
	r.Cleanup(func() {
		_ = r.in.Close() // the shell ends with its input
		_ = r.shell.Wait()
		_ = done.Close()
		require.Eventually(r, func() bool {
			left := processesIn(r.dir)
			for _, pid := range left {
				_ = syscall.Kill(pid, syscall.SIGKILL) // of a tour that was given up
			}
			return len(left) == 0
		}, timeout, 10*time.Millisecond)
	})
}

// do does one step. What a program in the background prints comes when it likes, so
// what is printed may be as the document says a moment later.
func (r *reader) do(s step) {
	r.Helper()
	if s.file != "" {
		require.NoError(r, os.WriteFile(filepath.Join(r.dir, s.file), []byte(s.text), 0o600))
		return
	}
	begin := len(r.terminal())
	_, err := fmt.Fprintf(r.in, "%s\necho done >&3\n", r.here(s.command))
	require.NoError(r, err)
	_, err = r.ready.ReadString('\n')
	require.NoError(r, err, "the shell has ended")

	r.awaitKilled(r.here(s.command))

	before := maps.Clone(r.known)
	var printed string
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	background := strings.Contains(s.command, "&") || strings.Contains(s.command, "kill")
	for deadline := time.Now().Add(timeout); ; <-tick.C {
		printed = jobNotice.ReplaceAllString(r.terminal()[begin:], "")
		if err = r.match(s, printed); err == nil {
			break
		}
		if !background || time.Now().After(deadline) {
			require.NoError(r, err)
		}
	}
	r.ran = append(r.ran, ran{s, printed, before})
}

// awaitKilled waits until the processes are gone that a command has killed. On a busy machine
// they may live for a moment after kill(1) has returned, and the next hive adopts them.
func (r *reader) awaitKilled(command string) {
	r.Helper()
	args, ok := strings.CutPrefix(command, "kill -9 ")
	if !ok {
		return
	}
	for arg := range strings.FieldsSeq(args) {
		if _, err := strconv.Atoi(arg); err != nil {
			continue // the shell's variable: a child of the shell, which hive does not look at
		}
		require.Eventually(r, func() bool {
			stat, err := os.ReadFile("/proc/" + arg + "/stat")
			return err != nil || strings.Contains(string(stat), ") Z ")
		}, timeout, time.Millisecond, "process %s was killed", arg)
	}
}

// jobNotice is what bash says when a program in the background was killed.
var jobNotice = regexp.MustCompile(`(?m)^bash: line \d+: +\d+ (Killed|Terminated) .*\n`)

func (r *reader) terminal() string {
	raw, err := os.ReadFile(r.out)
	require.NoError(r, err)
	return string(raw)
}

// processesIn are the processes whose working directory or output is below dir.
func processesIn(dir string, but ...int) (pids []int) {
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || len(but) > 0 && pid == but[0] {
			continue
		}
		for _, link := range []string{"cwd", "fd/1"} {
			if to, err := os.Readlink(filepath.Join("/proc", e.Name(), link)); err == nil && (to == dir || strings.HasPrefix(to, dir+"/")) {
				pids = append(pids, pid)
				break
			}
		}
	}
	return pids
}

// mistakes shows that the tour fails if the document is wrong: with a line that is not
// printed, without one that is, or with one thing called by another's name.
func (r *reader) mistakes() {
	r.Helper()
	lines, tokensTried := 0, 0
	for _, done := range r.ran {
		wrong := func(output []string, how string) {
			tr := transcript{r.fixed, maps.Clone(done.before)}
			require.Error(r, tr.match(step{output: output}, done.printed), "line %d: %s, and nobody notices: %q", done.line, how, output)
		}
		wrong(append([]string{"something else"}, done.output...), "a line too many")
		for i, line := range done.output {
			if line == "..." {
				break // says that more may come
			}
			without := append(append([]string{}, done.output[:i]...), done.output[i+1:]...)
			if i+1 == len(done.output) || done.output[i+1] != "..." {
				wrong(without, "a line is missing")
			}
			changed := func(text string) []string {
				return append(append(append([]string{}, done.output[:i]...), text), done.output[i+1:]...)
			}
			wrong(changed(line+"x"), "a line goes on")
			lines++
			tokens(line, func(string) {}, func(_, token string) {
				if done.before[token] != "" {
					other := token[:len(token)-1] + "1"
					if other == token {
						other = token[:len(token)-1] + "2"
					}
					tr := transcript{r.fixed, maps.Clone(done.before)}
					tr.known[other] = "another"
					require.Error(r, tr.match(step{output: changed(strings.ReplaceAll(line, token, other))}, done.printed), "line %d: %s is %s", done.line, token, other)
					tokensTried++
				}
			})
		}
	}
	require.Greater(r, lines, 50)
	require.Greater(r, tokensTried, 20)
}
