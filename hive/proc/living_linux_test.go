package proc_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/proc"
	"rbeehive/store"
	"rbeehive/test/program"
)

// The program of a process is whatever its user likes.
func TestTheProgramOfAProcessIsPlainText(t *testing.T) {
	logs, dir := t.TempDir(), t.TempDir()
	foul := filepath.Join(dir, "\x1b]0;x\x07\u202e")
	raw, err := os.ReadFile("/bin/sleep")
	require.NoError(t, err)
	require.NoError(t, program.Write(foul, raw, 0o700))
	log, err := os.Create(filepath.Join(logs, "cpu-1-aaaaaa.log"))
	require.NoError(t, err)
	defer log.Close()
	cmd := exec.CommandContext(t.Context(), foul, "600")
	cmd.Stdout = log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	found, err := proc.FindLiving(t.Context(), proc.Search{Logs: logs, Owner: uint32(os.Geteuid())})
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.Equal(t, `\x1b]0;x\x07\u202e`, found[0].Program)
	require.Equal(t, []string{foul, "600"}, found[0].Argv, "what is started again by it stays as it is")
}

// What a process says by itself: by its log, by its stamps, by both, or not at all.
func TestFindLiving(t *testing.T) {
	logs, other := t.TempDir(), t.TempDir()
	start := func(log string, env ...string) int {
		cmd := exec.CommandContext(t.Context(), "/bin/sleep", "600")
		cmd.Env, cmd.SysProcAttr = append([]string{"A=b"}, env...), &syscall.SysProcAttr{Setsid: true}
		if log != "" {
			f, err := os.Create(log)
			require.NoError(t, err)
			defer f.Close()
			cmd.Stdout = f
		}
		require.NoError(t, cmd.Start())
		t.Cleanup(func() {
			_ = cmd.Process.Kill() // its end is what Wait says
			_ = cmd.Wait()
		})
		return cmd.Process.Pid
	}
	stamps := func(state, worker string) []string {
		return []string{proc.StampState + "=" + state, proc.StampLease + "=lease-" + worker, proc.StampWorker + "=" + worker}
	}
	byLog := start(filepath.Join(logs, "cpu-1-aaaaaa.log"))
	byStamp := start("", stamps("mine", "cpu-2-aaaaaa")...)
	both := start(filepath.Join(logs, "cpu-3-aaaaaa.log"), stamps("of another state", "cpu-3-aaaaaa")...)
	start(filepath.Join(other, "cpu-4-aaaaaa.log"), stamps("another's", "cpu-4-aaaaaa")...)
	start(filepath.Join(logs, "cpu-5-aaaaaa.log"), proc.StampCommand+"=mine/before_start")
	start(filepath.Join(other, "cpu-6-aaaaaa.log"))

	found, err := proc.FindLiving(t.Context(), proc.Search{Logs: logs, States: []string{"mine"}, Owner: uint32(os.Geteuid())})
	require.NoError(t, err)
	byPID := map[int]proc.Living{}
	for _, l := range found {
		byPID[l.PID] = l
	}
	require.Len(t, byPID, 3)
	l := byPID[byLog]
	require.Equal(t, "cpu-1-aaaaaa", l.WorkerID)
	require.Equal(t, proc.ProofLog, l.Proof)
	require.Empty(t, l.StateID)
	require.True(t, l.Leader)
	require.Equal(t, []string{"/bin/sleep", "600"}, l.Argv)
	require.NotEmpty(t, l.Dir)
	require.Equal(t, os.Getpid(), l.Parent)
	l = byPID[byStamp]
	require.Equal(t, []string{"cpu-2-aaaaaa", "mine", "lease-cpu-2-aaaaaa", proc.ProofStamp}, []string{l.WorkerID, l.StateID, l.LeaseID, l.Proof})
	l = byPID[both]
	require.Equal(t, []string{"cpu-3-aaaaaa", "of another state", "lease-cpu-3-aaaaaa", proc.ProofLog}, []string{l.WorkerID, l.StateID, l.LeaseID, l.Proof})
}

// A worker's name is what hive has put into its environment: a process cannot take another
// one, not even with the proof of its own stamps.
func TestTheNameOfALivingWorker(t *testing.T) {
	for name, c := range map[string]struct {
		forge          func(env map[string]string)
		known, unknown string
	}{
		"named":                       {func(map[string]string) {}, "chat", "chat"},
		"without one, as by an older": {func(env map[string]string) { delete(env, proc.StampName); delete(env, proc.StampNameProof) }, "", ""},
		"another's":                   {func(env map[string]string) { env[proc.StampName] = "bank" }, "", "bank"},
		"without its proof":           {func(env map[string]string) { delete(env, proc.StampNameProof) }, "", "chat"},
		"with the proof of the ids":   {func(env map[string]string) { env[proc.StampNameProof] = env[proc.StampProof] }, "", "chat"},
		"another's, without proofs": {func(env map[string]string) {
			env[proc.StampName] = "bank"
			delete(env, proc.StampProof)
			delete(env, proc.StampNameProof)
		}, "", "bank"},
	} {
		t.Run(name, func(t *testing.T) {
			uid := uint32(os.Geteuid())
			secret := store.Secret("0123456789abcdef0123456789abcdef")
			env := map[string]string{
				proc.StampState: "mine", proc.StampLease: "lease", proc.StampWorker: "cpu-1-aaaaaa", proc.StampName: "chat",
				proc.StampProof: proc.Prove(secret, "mine", "lease", "cpu-1-aaaaaa", uid), proc.StampNameProof: proc.ProveName(secret, "lease", "cpu-1-aaaaaa", "chat", uid),
			}
			c.forge(env)
			cmd := exec.CommandContext(t.Context(), "/bin/sleep", "600")
			cmd.Env = []string{}
			for k, v := range env {
				cmd.Env = append(cmd.Env, k+"="+v)
			}
			require.NoError(t, cmd.Start())
			t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
			for _, search := range []struct {
				secrets map[string]store.Secret
				want    string
			}{{map[string]store.Secret{"mine": secret}, c.known}, {nil, c.unknown}} {
				found, err := proc.FindLiving(t.Context(), proc.Search{Logs: t.TempDir(), States: []string{"mine"}, Secrets: search.secrets, Owner: uid})
				require.NoError(t, err)
				require.Len(t, found, 1)
				require.Equal(t, "cpu-1-aaaaaa", found[0].WorkerID)
				require.Equal(t, search.want, found[0].Name)
			}
		})
	}
}

func TestVerify(t *testing.T) {
	id, err := proc.SelfIdentity()
	require.NoError(t, err)
	verdict, err := proc.Verify(id)
	require.NoError(t, err)
	require.Equal(t, proc.Alive, verdict)
	id.BootID = "another"
	verdict, err = proc.Verify(id)
	require.Error(t, err)
	require.Equal(t, proc.Dead, verdict)
}
