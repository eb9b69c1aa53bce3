//go:build linux

package programs_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/httpapi/wire"
	"rbeehive/test/harness"
	testprogram "rbeehive/test/program"
	"rbeehive/test/skip"
)

// TestExamples runs the files of docs/examples that name fixed ports and paths as
// they are: on a network of its own, where nobody else has these ports, and with a
// /srv of its own, with stand-ins for the programs.
func TestExamples(t *testing.T) {
	if os.Getenv(secludedVar) == "" {
		skip.UnlessRoot(t, "new network and mount namespaces need root")
		self, err := os.Executable()
		require.NoError(t, err)
		cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestExamples$", "-test.v", "-test.timeout=5m")
		cmd.Env = append(os.Environ(), secludedVar+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS}
		out, err := cmd.CombinedOutput()
		if err != nil && cmd.Process == nil {
			skip.Because(t, "no new network and mount namespaces here:", err)
		}
		require.NoError(t, err, "%s", out)
		t.Logf("%s", out)
		return
	}
	seclude(t)
	t.Run("llama-swap", llamaSwap)
	t.Run("supervisord", supervisord)
}

// seclude brings up the loopback of this process's network, and puts stand-ins into
// a /srv of its own. Both are gone when it ends.
func seclude(t *testing.T) {
	t.Helper()
	require.NoError(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	require.NoError(t, unix.Mount("srv", "/srv", "tmpfs", 0, "mode=755"))
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	require.NoError(t, err)
	lo.SetUint16(unix.IFF_UP)
	require.NoError(t, unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo))

	self, err := os.ReadFile("/proc/self/exe")
	require.NoError(t, err)
	for _, dir := range []string{"bin", "vllm/bin", "app/venv/bin", "api", "models"} {
		require.NoError(t, os.MkdirAll(filepath.Join("/srv", dir), 0o755))
	}
	// A copy: the users of the workers cannot enter the directory of this one.
	require.NoError(t, testprogram.Write("/srv/bin/standin", self, 0o755))
	for _, program := range []string{"bin/llama-server", "vllm/bin/vllm", "bin/docker", "app/venv/bin/gunicorn", "bin/node", "bin/redis-server", "bin/celery"} {
		require.NoError(t, os.Symlink("/srv/bin/standin", filepath.Join("/srv", program)))
	}
	t.Setenv("PATH", "/srv/bin:"+os.Getenv("PATH"))
}

// example starts hive with a file as it is, in which n workers start by themselves,
// and waits until these are ready.
func example(t *testing.T, file string, n int) *site {
	t.Helper()
	hive, err := harness.NewFrom(os.Getenv(binaryVar), 0, filepath.Join("../../docs/examples", file), "127.0.0.1:7835")
	s := newSite(t, hive, err)
	s.await("the workers that start with hive", func() bool { return len(s.ready()) == n })
	return s
}

// ready returns the workers that are, by the names of their types.
func (s *site) ready() map[string]wire.Worker {
	s.Helper()
	live, err := s.hive.Live(s.Context())
	require.NoError(s, err)
	ready := map[string]wire.Worker{}
	for _, w := range live {
		if w.State == "ready" {
			ready[w.Type] = w
		}
	}
	return ready
}

// outliveAndStop kills hive under n workers, stops all of them and checks that nothing is left.
func (s *site) outliveAndStop(n int) {
	s.Helper()
	before := s.ready()
	require.Len(s, before, n)
	s.crash(n)
	for kind, w := range s.ready() {
		require.Equal(s, *before[kind].PID, *w.PID)
	}
	tree := s.everybody()
	require.GreaterOrEqual(s, len(tree), n)
	for _, w := range before {
		job := s.stop(w.WorkerID)
		require.Equal(s, "succeeded", job.State, "%s: %+v", w.Type, job.Error)
		s.freed(w.Port, nil)
	}
	s.noneLives(tree, "after the stop")
	require.Empty(s, s.everybody())
	leases, err := s.hive.Leases(s.Context())
	require.NoError(s, err)
	require.Empty(s, leases)
	// They were stopped on request: a new start of hive does not bring them back.
	s.crash(0)
	live, err := s.hive.Live(s.Context())
	require.NoError(s, err)
	require.Empty(s, live)
}

func llamaSwap(t *testing.T) {
	for _, model := range []string{"qwen2.5-14b-q4_k_m.gguf", "nomic-embed-text-v1.5.gguf"} {
		require.NoError(t, os.WriteFile(filepath.Join("/srv/models", model), nil, 0o600))
	}
	t.Setenv("HF_TOKEN", "secret")
	docker := newContainers(t)
	s := example(t, "llama-swap.yaml", 2)
	coder, speech := s.up("coder", "ready"), s.up("speech", "ready")

	for kind, device := range map[string]string{"qwen": "0", "embed": "1", "coder": "2"} {
		w := s.ready()[kind]
		require.True(t, w.Port >= 5800 && w.Port <= 5899, "port %d", w.Port)
		require.Equal(t, device, s.about(w).Env["CUDA_VISIBLE_DEVICES"])
	}
	qwen := s.about(s.ready()["qwen"])
	require.Subset(t, qwen.Args, []string{"-m", "/srv/models/qwen2.5-14b-q4_k_m.gguf", "-ngl", "99", "-c", "16384"})
	require.Equal(t, "secret", s.about(coder).Env["HF_TOKEN"])
	require.Equal(t, "/srv/models/hf", s.about(coder).Env["HF_HOME"])
	require.Equal(t, []string{speech.WorkerID}, docker.names())

	s.outliveAndStop(4)
	require.Empty(t, docker.names(), "a container runs on")
}

func supervisord(t *testing.T) {
	s := example(t, "supervisord.yaml", 4)
	for kind, want := range map[string]struct {
		port      uint16
		user, dir string
	}{
		"site": {8000, "www-data", "/srv/app"}, "api": {3000, "www-data", "/srv/api"},
		"cache": {6379, "nobody", ""}, "flower": {5555, "www-data", "/srv/app"},
	} {
		w := s.ready()[kind]
		require.Equal(t, want.port, w.Port, kind)
		about := s.about(w)
		account, err := user.Lookup(want.user)
		require.NoError(t, err)
		require.Equal(t, account.Uid, strconv.Itoa(about.UID), kind)
		if want.dir != "" {
			require.Equal(t, want.dir, about.Dir, kind)
		}
	}
	require.Equal(t, "production", s.about(s.ready()["api"]).Env["NODE_ENV"])

	site := s.ready()["site"]
	require.NoError(t, syscall.Kill(*site.PID, syscall.SIGKILL))
	s.await("the new start of site", func() bool {
		now := s.ready()["site"]
		return now.PID != nil && *now.PID != *site.PID
	})
	require.Equal(t, uint16(8000), s.ready()["site"].Port)
	s.outliveAndStop(4)
}

// about asks a stand-in about itself.
func (s *site) about(w wire.Worker) (r report) {
	s.Helper()
	resp, err := http.Get(fmt.Sprintf("http://%s/standin", address(w)))
	require.NoError(s, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(s, err)
	require.NoError(s, json.Unmarshal(text, &r), "%s", text)
	return r
}
