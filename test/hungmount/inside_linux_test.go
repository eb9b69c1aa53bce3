package hungmount_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"rbeehive/httpapi/wire"
	"rbeehive/test/harness"
)

// scene is the test inside the namespaces. It stands in for testing.T: the process is not a
// test, it is init. It never asks the mount anything itself: an init that waits for it cannot end.
type scene struct {
	mount  string
	server *exec.Cmd
	said   *bufio.Scanner // what the server says
	hive   *harness.Instance
}

// Errorf implements require.TestingT.
func (s *scene) Errorf(format string, args ...any) { fmt.Printf(format+"\n", args...) }

// FailNow implements require.TestingT.
func (s *scene) FailNow() {
	if s.hive != nil {
		out, _ := os.ReadFile(s.hive.Output())
		fmt.Printf("hive has printed:\n%s\n", out)
	}
	s.exit(1)
}

// exit ends init, and with it all processes: those that wait for the mount can end only when
// its server has.
func (s *scene) exit(code int) {
	if s.server != nil {
		_ = s.server.Process.Kill()
		_ = s.server.Wait()
	}
	os.Exit(code)
}

// types are worker types that need the mount, each for something else, and one that does not.
const types = `
  - {name: healthy, preset: reference, restart: {policy: always, backoff: 100ms}}
  - {name: program, command: [MOUNT/program, "{{.Port}}"]}
  - {name: program-2, command: [MOUNT/program-2, "{{.Port}}"]}
  - {name: program-3, command: [MOUNT/program-3, "{{.Port}}"]}
  - {name: program-4, command: [MOUNT/program-4, "{{.Port}}"]}
  - {name: dir, preset: reference, dir: MOUNT/dir}
  - {name: env, preset: reference, env_file: MOUNT/env}
  - {name: model, preset: reference, model: MOUNT/model.gguf}`

// wrong is what a start of these says.
var wrong = map[string]string{
	"program": "MOUNT/program does not answer", "dir": "MOUNT/dir does not answer",
	"env": "MOUNT/env: the file system does not answer", "model": "MOUNT/model.gguf does not answer",
}

// Bounds. All but those of hive's own promises are for a busy machine.
const (
	recovery = 15 * time.Second
	end      = 5 * time.Second
	bound    = 20 * time.Second // more than one look that hangs, and less than one for each program
)

// newScene makes mounts and /proc the namespaces' own.
func newScene() *scene {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		cannot("make the mounts private: %v", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		cannot("mount /proc of a new PID namespace: %v", err)
	}
	return &scene{mount: filepath.Join(os.TempDir(), "mount")}
}

// inside is the main function of the namespaces' init.
func inside(binary string) {
	s := newScene()
	s.mounts()
	s.hangs()
	var err error
	s.hive, err = harness.New(binary, 16, strings.ReplaceAll(types, "MOUNT", s.mount), "audit: {interval: 1s}")
	require.NoError(s, err)
	s.within(recovery, "hive serves", func(ctx context.Context) error { return s.hive.Start(ctx) })
	s.workersExit()
	s.starts()
	s.isAsked()

	// Once more, so that hive ends while it waits.
	s.submit("program", "dir", "env", "model")
	s.hive.Kill()
	s.within(recovery, "the next hive serves", func(ctx context.Context) error { return s.hive.Start(ctx) })
	info, err := s.hive.Info(context.Background())
	require.NoError(s, err)
	require.Equal(s, 2, info.Recovery.Adopted)
	s.submit("program", "dir", "env", "model")
	s.within(end, "hive ends", func(context.Context) error { return s.hive.Term() })
	s.exit(0)
}

// mounts mounts the file system.
func (s *scene) mounts() {
	require.NoError(s, os.Mkdir(s.mount, 0o755))
	self, err := os.Executable()
	require.NoError(s, err)
	s.server = exec.Command(self, s.mount)
	s.server.Env = append(os.Environ(), roleVar+"=server")
	said, err := s.server.StdoutPipe()
	require.NoError(s, err)
	require.NoError(s, s.server.Start())
	s.said = bufio.NewScanner(said)
	if s.said.Scan(); s.said.Text() != saysMounted {
		cannot("%s", s.said.Text())
	}
}

// hang has the file system answer no more.
func (s *scene) hang() {
	require.NoError(s, s.server.Process.Signal(unix.SIGUSR1))
	require.True(s, s.said.Scan() && s.said.Text() == saysHangs)
}

// hangs has a process write to a file of the mount, and hangs it, with one that waits for it.
func (s *scene) hangs() {
	output, err := os.OpenFile(filepath.Join(s.mount, outputFile), os.O_WRONLY, 0)
	require.NoError(s, err)
	stranger := exec.Command("sleep", "600")
	stranger.Stdout, stranger.Stderr = output, output
	require.NoError(s, stranger.Start())
	// Before it hangs: a program that is executed while such a file is closed with it has
	// everybody wait who looks at the process, in every namespace.
	require.NoError(s, output.Close())
	s.hang()
	asker := exec.Command("stat", filepath.Join(s.mount, "program"))
	require.NoError(s, asker.Start())
	require.True(s, s.said.Scan() && s.said.Text() == saysAsked)
	require.NoError(s, unix.Kill(asker.Process.Pid, unix.SIGKILL))
	s.within(bound, "kill -9 does not end who waits for the mount", func(ctx context.Context) error {
		return harness.Eventually(ctx, bound, func() (string, error) {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", asker.Process.Pid))
			if err == nil && !strings.Contains(string(stat), "(stat) D ") {
				return string(stat), nil
			}
			return "", err
		})
	})
}

// within requires that something is done in time.
func (s *scene) within(limit time.Duration, what string, do func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*limit)
	defer cancel()
	begun := time.Now()
	done := make(chan error, 1)
	go func() { done <- do(ctx) }()
	select {
	case err := <-done:
		require.NoError(s, err, what)
	case <-time.After(2 * limit):
		require.Fail(s, "not in time", what)
	}
	require.Less(s, time.Since(begun), limit, what)
	fmt.Printf("%s after %s\n", what, time.Since(begun).Round(time.Millisecond))
}

// workersExit starts a worker and kills it: it is started again.
func (s *scene) workersExit() {
	var w wire.Spawned
	s.within(bound, "a worker is ready", func(ctx context.Context) error { return s.hive.Succeed(ctx, harness.Spawn("healthy"), &w) })
	require.NoError(s, unix.Kill(*w.PID, unix.SIGKILL))
	s.within(bound, "it is started again", func(ctx context.Context) error {
		return harness.Eventually(ctx, bound, func() (string, error) {
			live, err := s.hive.Live(ctx)
			again := live[w.WorkerID]
			if err == nil && (again.PID == nil || *again.PID == *w.PID || again.State != "ready") {
				return fmt.Sprintf("%+v", again), nil
			}
			return "", err
		})
	})
}

// submit submits a spawn of each of these types, and waits for none.
func (s *scene) submit(types ...string) (jobs []string) {
	for _, typ := range types {
		var job wire.Job
		require.NoError(s, s.hive.Call(context.Background(), http.MethodPost, "/v1/jobs", harness.Spawn(typ), &job))
		jobs = append(jobs, job.JobID)
	}
	return jobs
}

// starts begins more starts that hang than hive carries out at once: each fails in time and says
// why, one can be cancelled, and one that needs nothing of the mount gets through.
func (s *scene) starts() {
	types := []string{"program", "dir", "env", "model", "program", "dir", "env", "model", "program", "program"}
	jobs := s.submit(types...)
	cancelled := jobs[len(jobs)-1]
	s.within(bound, "a job is cancelled", func(ctx context.Context) error {
		if err := s.hive.Call(ctx, http.MethodDelete, "/v1/jobs/"+cancelled, nil, nil); err != nil {
			return err
		}
		var job wire.Job
		err := s.hive.Get(ctx, "/v1/jobs/"+cancelled+"?wait=30s", &job)
		require.Equal(s, "cancelled", job.State)
		return err
	})
	s.within(bound, "a start gets through", func(ctx context.Context) error { return s.hive.Succeed(ctx, harness.Spawn("healthy"), nil) })
	s.within(bound, "the others have failed", func(ctx context.Context) error {
		for i, id := range jobs[:len(jobs)-1] {
			var job wire.Job
			if err := s.hive.Get(ctx, "/v1/jobs/"+id+"?wait=60s", &job); err != nil {
				return err
			}
			require.Equal(s, "failed", job.State, "%s: %+v", types[i], job)
			require.Equal(s, "exec_failed", job.Error.Code)
			require.Contains(s, job.Error.Message, strings.ReplaceAll(wrong[types[i]], "MOUNT", s.mount))
		}
		return nil
	})
}

// isAsked asks hive for all that it has to look at: it answers after the time of one look, and
// what needs none is answered at once meanwhile.
func (s *scene) isAsked() {
	s.within(bound, "hive has answered", func(ctx context.Context) error {
		g, ctx := errgroup.WithContext(ctx)
		var list wire.Types
		g.Go(func() error { return s.hive.Get(ctx, "/v1/types", &list) })
		g.Go(func() error {
			return s.hive.Succeed(ctx, harness.Op{"operation": "worker_list_installed"}, nil)
		})
		for _, path := range []string{"/v1/types/program", "/v1/types/dir", "/v1/types/model", "/v1/doctor", "/v1/audit", "/v1/workers"} {
			g.Go(func() error { return s.hive.Get(ctx, path, nil) })
		}
		for range 20 {
			if err := s.hive.Get(ctx, "/health", nil); err != nil {
				return err
			}
		}
		if err := g.Wait(); err != nil {
			return err
		}
		missing := 0
		for _, t := range list.Types {
			if t.Reason != nil && strings.Contains(*t.Reason, "the file system does not answer") {
				missing++
			}
		}
		require.Equal(s, 4, missing, "%+v", list)
		return nil
	})
}
