package hive_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/operation"
	"rbeehive/store"
	testprogram "rbeehive/test/program"
	"rbeehive/test/skip"
)

// outsider is a user who has nothing: not in the user database, and no groups.
const outsider = "54321:54322"

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		skip.Because(t, "only root starts workers as other users")
	}
}

// publicDir is a directory in which everybody may write; t.TempDir is below one that
// only its owner may enter.
func publicDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hivetest")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o777))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// publicSelf puts this test binary, which is where only root gets to, into dir.
func publicSelf(t *testing.T, dir string) string {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	text, err := os.ReadFile(self)
	require.NoError(t, err)
	program := filepath.Join(dir, "web")
	require.NoError(t, testprogram.Write(program, text, 0o755))
	return program
}

func script(t *testing.T, path, text string) string {
	t.Helper()
	require.NoError(t, testprogram.Write(path, []byte("#!/bin/sh\n"+text+"\n"), 0o755))
	return path
}

// whoami is what a program of an entry tells of itself, a line.
const whoami = `echo "as $(id -u) $(id -g) $(id -G) nnp $(sed -n 's/NoNewPrivs:.//p' /proc/self/status) in $(pwd) home $HOME token ${HF_TOKEN:-none} secret ${AWS_SECRET_ACCESS_KEY:-none} ${SSH_AUTH_SOCK:-none} ${CREDENTIALS_DIRECTORY:-none} lang $LANG"`

// Whatever hive runs of an entry runs as the entry's user, without new rights and
// without what is hive's: the worker, what prepares and what stops it, and the program
// that is asked for its version.
func TestWhatRunsAsTheUserOfAnEntry(t *testing.T) {
	needRoot(t)
	for name, value := range map[string]string{
		"HF_TOKEN": "hf_s3cret", "AWS_SECRET_ACCESS_KEY": "s3cret", "SSH_AUTH_SOCK": "/s3cret", "CREDENTIALS_DIRECTORY": "/run/s3cret", "LANG": "C.UTF-8",
	} {
		t.Setenv(name, value)
	}
	dir := publicDir(t)
	self := publicSelf(t, dir)
	asks := filepath.Join(dir, "asked")
	program := script(t, filepath.Join(dir, "vllm"), whoami+" >>"+asks+`; echo 1.2.3`)
	web := fault("web")
	web.Command[0], web.User = self, outsider
	web.BeforeStart = []string{"sh", "-c", whoami}
	web.Stop = catalog.StopEntry{Grace: ref(5 * time.Second), Command: []string{"sh", "-c", whoami + "; kill -TERM $(cat " + dir + "/pid)"}}
	web.Command = []string{"/bin/sh", "-c", "echo $$ >" + dir + "/pid; " + whoami + `; exec "$@"`, "sh", self, "worker", "--port", "{{.Port}}"}
	named := web
	named.Name, named.Env, named.Dir = "named", []string{"HF_TOKEN", "HOME=/srv"}, dir
	named.NoNewPrivileges = ref(false)
	r := newRig(t, 2, web, named, catalog.Entry{Name: "v", Preset: "vllm", Program: program, User: outsider})
	r.open()

	const plain = "as 54321 54322 54322 nnp 1 in / home / token none secret none none none lang C.UTF-8\n"
	for typ, want := range map[string]string{
		"web":   plain,
		"named": "as 54321 54322 54322 nnp 0 in " + dir + " home /srv token hf_s3cret secret none none none lang C.UTF-8\n",
	} {
		w := r.spawn(typ)
		r.stopWorker(w.WorkerID)
		log := r.log(r.worker(w.WorkerID))
		require.Equal(t, 3, strings.Count(log, "\n"+want), "%s: before_start, the worker, stop.command: %s", typ, log)
		require.NotContains(t, log, "s3cret\n")
	}
	v, err := r.h.TypeInfo(t.Context(), operation.Spawn{Worker: "v", Model: "m"}, true)
	require.NoError(t, err)
	require.Equal(t, "1.2.3", v.Version)
	require.Equal(t, []string{outsider, "/"}, []string{v.User, v.Dir})
	require.True(t, v.Plan.NoNewPrivs)
	require.Contains(t, v.Plan.Inherited, "LC_*")
	require.NotContains(t, v.Plan.Inherited, "*")
	require.Contains(t, v.Plan.Removed, "*")
	text, err := os.ReadFile(asks)
	require.NoError(t, err)
	require.Equal(t, plain, string(text))

	// By worker_list_installed too, as rbee's page asks for it.
	require.NoError(t, os.Remove(asks))
	require.NoError(t, os.Chtimes(program, time.Now(), time.Now().Add(time.Second))) // what it said is forgotten
	job := r.do(map[string]any{"operation": "worker_list_installed"})
	require.Equal(t, store.JobSucceeded, job.State, "%+v", job.Error)
	text, err = os.ReadFile(asks)
	require.NoError(t, err)
	require.Equal(t, plain, string(text))
}

// A stop command runs as the worker does, not as the entry says by now, also where
// its type is gone.
func TestStopCommandAfterTheEntryHasChanged(t *testing.T) {
	needRoot(t)
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
	dir := publicDir(t)
	self := publicSelf(t, dir)
	entry := fault("web")
	entry.Command[0], entry.User, entry.Dir = self, outsider, dir
	entry.Stop = catalog.StopEntry{Grace: ref(5 * time.Second), Command: []string{"sh", "-c", whoami + "; kill -TERM $(cat pid)"}}
	entry.Command = []string{"/bin/sh", "-c", `echo $$ >pid; exec "$@"`, "sh", self, "worker", "--port", "{{.Port}}"}
	r := newRig(t, 1, entry)
	r.open()
	for _, next := range []func(){
		func() { entry.User = ""; r.types(entry) },
		func() { r.types() },
	} {
		w := r.spawn("web")
		r.close()
		next()
		r.open()
		require.Equal(t, 1, r.h.Info().Recovery.Adopted)
		r.stopWorker(w.WorkerID)
		require.Contains(t, r.log(r.worker(w.WorkerID)), "\nas 54321 54322 54322 nnp 1 in "+dir+" home / token none secret none none none")
		r.close()
		entry.User = outsider
		r.types(entry)
		r.open()
	}
}

// A root hive with a user for workers: all types run as that user but those that say
// otherwise, the reference worker and the self-test too.
func TestWorkersOfADefaultUser(t *testing.T) {
	needRoot(t)
	t.Parallel()
	dir := publicDir(t)
	self := publicSelf(t, dir)
	own := fault("own")
	own.Command[0], own.User = self, "root"
	other := fault("other")
	other.Command[0], other.User = self, "54399:54322"
	r := newRig(t, 3)
	types, err := catalog.New([]catalog.Entry{own, other}, self)
	require.NoError(t, err)
	r.cfg.Catalog = types.WithUser(outsider)
	require.Same(t, types, types.WithUser(""))
	r.open()
	for typ, want := range map[string]string{"cpu": "54321", "own": "0", "other": "54399"} {
		w := r.spawn(typ)
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", w.PID))
		require.NoError(t, err)
		require.Contains(t, string(status), "\nUid:\t"+want+"\t"+want+"\t"+want+"\t"+want+"\n", typ)
		require.Equal(t, want != "0", strings.Contains(string(status), "\nNoNewPrivs:\t1\n"), typ)
		require.Equal(t, want != "0", strings.Contains(string(status), "\nCapEff:\t0000000000000000\n"), typ)
		r.stopWorker(w.WorkerID)
	}
	job := r.do(map[string]any{"operation": "hive_check"})
	require.Equal(t, store.JobSucceeded, job.State, "%+v", job.Error)

	// One who was root's until now is said to be stale.
	w := r.spawn("cpu")
	r.close()
	r.cfg.Catalog = types
	r.open()
	r.eventually("it is stale", func() bool { return r.worker(w.WorkerID).Stale })
	require.Equal(t, []string{"user"}, r.worker(w.WorkerID).Changed)
}

// The file may be the user's, or what the user has made in its place.
func TestEnvFileOfAnotherUser(t *testing.T) {
	needRoot(t)
	t.Setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
	t.Setenv("LC_TIME", "C")
	dir := publicDir(t)
	self := publicSelf(t, dir)
	file := filepath.Join(dir, "env")
	secret := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(secret, []byte("TAKEN=s3cret\n"), 0o644))
	entry := fault("web")
	entry.Command[0], entry.User, entry.EnvFile = self, outsider, file
	r := newRig(t, 1, entry)
	r.open()
	spawn := func() store.Job { return r.do(map[string]any{"operation": "worker_spawn", "worker": "web"}) }
	for name, c := range map[string]struct {
		put  func() error
		want string
	}{
		"a link to a file of root's": {func() error { return os.Symlink(secret, file) }, "permission denied: user " + outsider},
		"a file of root's":           {func() error { return os.WriteFile(file, []byte("TAKEN=s3cret\n"), 0o600) }, "permission denied: user " + outsider},
		"a pipe":                     {func() error { return unix.Mkfifo(file, 0o666) }, "not a regular file"},
		"a link to a device":         {func() error { return os.Symlink("/dev/zero", file) }, "not a regular file"},
		"hive's secrets by name":     {func() error { return os.WriteFile(file, []byte("A=b\nAWS_SECRET_ACCESS_KEY\n"), 0o644) }, "env:2: AWS_SECRET_ACCESS_KEY of hive's own environment is not handed on"},
	} {
		require.NoError(t, c.put(), name)
		begun := time.Now()
		job := spawn()
		require.Less(t, time.Since(begun), 10*time.Second)
		require.NotNil(t, job.Error, name)
		require.Equal(t, errdefs.CodeExecFailed, job.Error.Code, name)
		require.Contains(t, job.Error.Message, `env_file of worker type "web": `, name)
		require.Contains(t, job.Error.Message, c.want, name)
		require.NotContains(t, job.Error.Message, "s3cret", name)
		require.NoError(t, os.Remove(file))
	}
	require.NoError(t, os.WriteFile(file, []byte("A=b\nLC_TIME\n"), 0o600))
	require.NoError(t, os.Chown(file, 54321, 54322))
	job := spawn()
	require.Equal(t, store.JobSucceeded, job.State, "%+v", job.Error)
	var res result
	require.NoError(t, json.Unmarshal(job.Result, &res))
	env := envOf(t, res.PID)
	require.Equal(t, []string{"b", "C", ""}, []string{env["A"], env["LC_TIME"], env["AWS_SECRET_ACCESS_KEY"]})
}

// A model that the worker's user cannot read is said to be so before anything is
// leased; a program would say no more than that it cannot be loaded.
func TestModelThatTheUserCannotRead(t *testing.T) {
	needRoot(t)
	dir := publicDir(t)
	require.NoError(t, os.Chmod(dir, 0o755)) // what holds models is nobody else's to write to
	entry := fault("web", "--model", "{{.Model}}")
	entry.Command[0], entry.User = publicSelf(t, dir), outsider
	r, _, _ := newModelRig(t, 1<<10, entry)
	r.cfg.Models.Dir = filepath.Join(dir, "private", "models")
	require.NoError(t, os.Mkdir(filepath.Dir(r.cfg.Models.Dir), 0o700))
	r.open()
	m := r.model(download("org/name:m.gguf"))
	job := r.do(map[string]any{"operation": "worker_spawn", "worker": "web", "model": m.ID})
	require.NotNil(t, job.Error)
	require.Equal(t, errdefs.CodeExecFailed, job.Error.Code)
	require.Equal(t, "model org/name:m.gguf: user "+outsider+", whom the worker runs as, must be able to read it, and to enter the directories it is in: open "+m.Path+": permission denied", job.Error.Message)
	require.Empty(t, r.leases())
	// As the data directory is for the group of worker_user.
	require.NoError(t, os.Chown(filepath.Dir(r.cfg.Models.Dir), 0, 54322))
	require.NoError(t, os.Chmod(filepath.Dir(r.cfg.Models.Dir), 0o710))
	r.spawn("web", map[string]any{"model": m.ID})
}

// Whoever owns a program can have its execution wait, as by a lease of the file; that
// must not take one of the few places for spawns for good.
func TestProgramThatIsNotExecuted(t *testing.T) {
	if testing.Short() {
		t.Skip("long: waits the 30 s in which a program has to be executed")
	}
	t.Parallel()
	const breakTime = "/proc/sys/fs/lease-break-time"
	text, err := os.ReadFile(breakTime)
	if seconds, _ := strconv.Atoi(strings.TrimSpace(string(text))); err != nil || seconds <= 30 {
		skip.Because(t, breakTime+" is too short: "+string(text))
	}
	program := script(t, filepath.Join(t.TempDir(), "leased"), "exit 0")
	f, err := os.Open(program)
	require.NoError(t, err)
	defer f.Close()
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		skip.Because(t, "no leases of files here: "+err.Error())
	}
	r := newRig(t, 1, catalog.Entry{Name: "web", Command: []string{program}})
	r.open()
	begun := time.Now()
	job := r.do(map[string]any{"operation": "worker_spawn", "worker": "web"})
	require.Less(t, time.Since(begun), 40*time.Second)
	require.NotNil(t, job.Error)
	require.Equal(t, errdefs.CodeExecFailed, job.Error.Code)
	require.Equal(t, "not executed within 30s", job.Error.Message)
	require.Empty(t, r.leases())
	_, err = unix.FcntlInt(f.Fd(), unix.F_SETLEASE, unix.F_UNLCK)
	require.NoError(t, err)
}
