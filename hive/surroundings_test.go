package hive_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/store"
	testprogram "rbeehive/test/program"
	"rbeehive/test/skip"
)

func envOf(t *testing.T, pid int) map[string]string {
	t.Helper()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid))
	require.NoError(t, err)
	env := map[string]string{}
	for kv := range strings.SplitSeq(string(raw), "\x00") {
		name, value, _ := strings.Cut(kv, "=")
		env[name] = value
	}
	return env
}

func TestDirAndEnvFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "env")
	require.NoError(t, os.WriteFile(file, []byte("# a comment\n\nFROM_FILE=a b \"c\"\nBOTH=file\nPORT=7\n"), 0o600))
	entry := fault("web")
	entry.Dir, entry.EnvFile, entry.Env = dir, file, []string{"BOTH=entry"}
	r := newRig(t, 2, entry)
	r.open()
	w := r.spawn("web")
	cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", w.PID))
	require.NoError(t, err)
	require.Equal(t, dir, cwd)
	env := envOf(t, w.PID)
	require.Equal(t, []string{`a b "c"`, "entry", "7"}, []string{env["FROM_FILE"], env["BOTH"], env["PORT"]})
	raw, err := os.ReadFile(filepath.Join(r.cfg.DataDir, "hive.db"))
	require.NoError(t, err)
	require.NotContains(t, string(raw), `a b \"c\"`, "values are never stored")

	// It is read at each start.
	require.NoError(t, os.WriteFile(file, []byte("FROM_FILE=new\n"), 0o600))
	job := r.do(map[string]any{"operation": "worker_restart", "worker_id": w.WorkerID})
	require.Equal(t, store.JobSucceeded, job.State, "%+v", job.Error)
	require.Equal(t, "new", envOf(t, r.worker(w.WorkerID).Identity.PID)["FROM_FILE"])

	for text, want := range map[string]string{"A=1\n1A=s3cret\n": "env:2: expected NAME=value", "RBEEHIVE_STATE=s3cret\n": "env:1: expected NAME=value"} {
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		job = r.do(map[string]any{"operation": "worker_spawn", "worker": "web"})
		require.Equal(t, errdefs.CodeExecFailed, job.Error.Code)
		require.Contains(t, job.Error.Message, want)
		require.NotContains(t, job.Error.Message, "s3cret")
	}
	require.NoError(t, os.Remove(file))
	job = r.do(map[string]any{"operation": "worker_spawn", "worker": "web"})
	require.Contains(t, job.Error.Message, `env_file of worker type "web": open `+file)
	require.Len(t, r.leases(), 1)
}

// hive reads the file with its own rights. A link in a directory of the worker's user,
// or one of that user's, would have a file of root's in the worker's environment.
func TestEnvFileThatIsNotBelieved(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		skip.Because(t, "only root can give files away")
	}
	dir := t.TempDir()
	secret, file, home := filepath.Join(dir, "secret"), filepath.Join(dir, "env"), filepath.Join(dir, "home")
	require.NoError(t, os.WriteFile(secret, []byte("SECRET=s3cret\n"), 0o600))
	require.NoError(t, os.Symlink(secret, file))
	require.NoError(t, os.Mkdir(home, 0o755))
	require.NoError(t, os.Symlink(secret, filepath.Join(home, "env")))
	require.NoError(t, syscall.Mkfifo(filepath.Join(dir, "fifo"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "open"), []byte("A=1\n"), 0o666))
	require.NoError(t, os.Chmod(filepath.Join(dir, "open"), 0o666))
	for _, path := range []string{file, home} {
		require.NoError(t, os.Lchown(path, 65534, 65534))
	}
	wants := map[string]string{
		"link": file + " belongs to ", "home": home + " belongs to ", "fifo": "fifo is a fifo, not a regular file", "open": "can be written to by every user",
	}
	var entries []catalog.Entry
	for name := range wants {
		entry := fault(name)
		entry.EnvFile = map[string]string{"link": file, "home": filepath.Join(home, "env"), "fifo": filepath.Join(dir, "fifo"), "open": filepath.Join(dir, "open")}[name]
		entries = append(entries, entry)
	}
	r := newRig(t, 2, entries...)
	r.open()
	for name, want := range wants {
		job := r.do(map[string]any{"operation": "worker_spawn", "worker": name})
		require.Equal(t, errdefs.CodeExecFailed, job.Error.Code, name)
		require.Contains(t, job.Error.Message, fmt.Sprintf("env_file of worker type %q: ", name))
		require.Contains(t, job.Error.Message, want)
		require.NotContains(t, job.Error.Message, "s3cret")
	}
	require.Empty(t, r.leases())
}

func TestAWorkerOfAnotherUser(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		skip.Because(t, "only root starts workers as other users")
	}
	entry := fault("web")
	entry.User, entry.Dir = "nobody", t.TempDir()
	for _, dir := range []string{filepath.Dir(entry.Dir), entry.Dir} {
		require.NoError(t, os.Chmod(dir, 0o755))
	}
	program := filepath.Join(entry.Dir, "web") // the test's own binary is where only root gets to
	text, err := os.ReadFile(entry.Command[0])
	require.NoError(t, err)
	require.NoError(t, testprogram.Write(program, text, 0o755))
	entry.Command[0] = program
	unknown := fault("unknown")
	unknown.User = "no-such-user-here"
	r := newRig(t, 2, entry, unknown)
	r.open()
	w := r.spawn("web", map[string]any{"name": "a"})
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.PID))
	require.NoError(t, err)
	require.Contains(t, string(status), "\nUid:\t65534\t65534\t65534\t65534\n")
	require.Equal(t, "nobody", envOf(t, w.PID)["USER"])
	r.close()
	r.open()
	require.Equal(t, 1, r.h.Info().Recovery.Adopted)
	r.eventually("it is recognised on its port", func() bool { return r.worker("a").State == store.WorkerReady })
	require.Empty(t, r.audit())
	r.stopWorker("a")
	require.False(t, alive(w.PID))
	job := r.do(map[string]any{"operation": "worker_spawn", "worker": "unknown"})
	require.Equal(t, errdefs.CodeExecFailed, job.Error.Code)
	require.Contains(t, job.Error.Message, `user of worker type "unknown": `)
}

func TestBeforeStart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	entry := fault("web")
	entry.Env = []string{"COLOUR=blue"}
	entry.BeforeStart = []string{"sh", "-c", "echo prepared {{.Port}} {{.WorkerID}} $COLOUR ${RBEEHIVE_HOOK:+hook} ${RBEEHIVE_LEASE:-nolease}; exit $(cat " + filepath.Join(dir, "code") + ")"}
	r := newRig(t, 2, entry)
	r.open()
	code := func(n int) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "code"), []byte(fmt.Sprint(n)), 0o600))
	}
	code(0)
	w := r.spawn("web")
	log, err := os.ReadFile(r.worker(w.WorkerID).Log)
	require.NoError(t, err)
	require.Contains(t, string(log), fmt.Sprintf("\nprepared %d %s blue hook nolease\n", w.Port, w.WorkerID))

	code(9)
	job := r.do(map[string]any{"operation": "worker_spawn", "worker": "web"})
	require.Equal(t, errdefs.CodeExecFailed, job.Error.Code)
	require.Equal(t, "before_start exited with code 9", job.Error.Message)
	require.Contains(t, strings.Join(job.Error.Log, "\n"), "prepared")
	require.Len(t, r.leases(), 1, "nothing is leased")
	require.Len(t, r.h.Workers(), 1)
	job = r.do(map[string]any{"operation": "worker_restart", "worker_id": w.WorkerID})
	require.Equal(t, errdefs.CodeExecFailed, job.Error.Code)
	require.Equal(t, store.WorkerFailed, r.worker(w.WorkerID).State)
	require.Empty(t, r.leases())
}

// A client of a container runtime: the command that stops it ends what listens,
// which is no process of the worker's.
func TestStopCommand(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stopped := filepath.Join(dir, "stopped")
	entry := portUserEntry(t, "box")
	entry.Stop = catalog.StopEntry{Grace: ref(5 * time.Second), Command: []string{"sh", "-c", "echo stopping {{.WorkerID}}; echo {{.Port}} >" + stopped + "; kill -TERM $(cat " + filepath.Join(dir, "pid") + ")"}}
	entry.Command = []string{"sh", "-c", "echo $$ >" + filepath.Join(dir, "pid") + `; exec "$@"`, "sh", entry.Command[0], "port-user", "--port", "{{.Port}}"}
	broken := portUserEntry(t, "broken")
	broken.Stop = catalog.StopEntry{Grace: ref(time.Second), Command: []string{"no-such-command-here"}}
	r := newRig(t, 2, entry, broken)
	r.open()
	w := r.spawn("box")
	r.stopWorker(w.WorkerID)
	text, err := os.ReadFile(stopped)
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintln(w.Port), string(text))
	require.Equal(t, "SIGTERM", r.worker(w.WorkerID).Exit.Signal)
	log, err := os.ReadFile(r.worker(w.WorkerID).Log)
	require.NoError(t, err)
	require.Contains(t, string(log), "\nstopping "+w.WorkerID+"\n")

	b := r.spawn("broken")
	r.stopWorker(b.WorkerID)
	require.False(t, alive(b.PID), "signals end what the command does not")
	log, err = os.ReadFile(r.worker(b.WorkerID).Log)
	require.NoError(t, err)
	require.Contains(t, string(log), "--- hive: exec_failed: stop.command: program not found")
}
