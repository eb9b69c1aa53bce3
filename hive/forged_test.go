package hive_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/alloc/sockets"
	"rbeehive/hive"
	"rbeehive/hive/audit"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// attackerUID is a user of this machine who has nothing to do with hive or its workers.
const attackerUID = 12345

// openDir is a directory in which everybody may write.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hivetest")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o777))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// stampsOf are the stamps of a process.
func stampsOf(t *testing.T, pid int) (stamps []string) {
	t.Helper()
	env, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
	require.NoError(t, err)
	for kv := range strings.SplitSeq(string(env), "\x00") {
		if strings.HasPrefix(kv, "RBEEHIVE_") {
			stamps = append(stamps, kv)
		}
	}
	return stamps
}

// ids are the stamps of a worker that anybody can know: the API says them.
func (r *rig) ids(w store.Worker) []string {
	return []string{proc.StampState + "=" + r.h.Info().StateID, proc.StampLease + "=" + w.LeaseID, proc.StampWorker + "=" + w.WorkerID}
}

// attack starts the port user as the attacker.
func attack(t *testing.T, env []string, args ...string) *os.Process {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", append([]string{"port-user"}, args...)...)
	cmd.Dir, cmd.Env = "/", env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: &syscall.Credential{Uid: attackerUID, Gid: attackerUID}}
	require.NoError(t, cmd.Start())
	done := make(chan struct{})
	go func() { defer close(done); _ = cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-done })
	return cmd.Process
}

// listens waits until somebody listens on a port.
func (r *rig) listens(port uint16) {
	r.Helper()
	table := sockets.NewTable()
	r.eventually("somebody listens", func() bool {
		socks, err := table.Listening(context.Background(), port)
		return err == nil && len(socks) > 0
	})
}

// A program of another user puts the ids of a worker that loads into its environment and
// takes its port: it is a stranger, is asked nothing, and nothing is done to it.
func TestAForgedStampMakesNoWorker(t *testing.T) {
	needRoot(t)
	t.Parallel()
	for _, user := range []string{"", "54321:54322"} {
		t.Run("user "+user, func(t *testing.T) {
			t.Parallel()
			dir := openDir(t)
			start, asked := filepath.Join(dir, "start"), filepath.Join(dir, "asked")
			entry := portUserEntry(t, "late", "--wait-for", start)
			entry.User, entry.Dir = user, dir
			entry.Command[0] = "/proc/self/exe"
			r := quietRig(t, 2, entry)
			r.cfg.Orphans = hive.OrphansKill
			r.open()
			job := r.submit(map[string]any{"operation": "worker_spawn", "worker": "late"})
			r.eventually("the worker loads", func() bool { return len(r.h.Workers()) == 1 && r.h.Workers()[0].Identity != nil })
			w := r.h.Workers()[0]
			thief := attack(t, r.ids(w), "--port", strconv.Itoa(int(w.Port)), "--asked", asked)
			r.listens(w.Port)
			r.eventually("another port is tried", func() bool { return len(r.h.Workers()) == 2 })
			require.NoError(t, os.WriteFile(start, nil, 0o644))
			done := r.wait(job.JobID)
			require.Equal(t, store.JobSucceeded, done.State, "%+v", done.Error)

			lost, err := r.h.Worker(w.WorkerID)
			require.NoError(t, err)
			require.Nil(t, lost.ReadyAt)
			require.Contains(t, lost.Reason, "(pid "+strconv.Itoa(thief.Pid)+", user 12345)")
			for range 2 {
				require.Empty(t, finding(r.audit(), audit.FindingNoRecord), "it is no orphan")
			}
			require.True(t, alive(thief.Pid), "it was signalled")
			require.NoFileExists(t, asked, "it got a request")
			r.close()
			r.open()
			r.eventually("the sweep", func() bool { return r.h.Info().Recovery.Orphans != nil })
			require.Zero(t, *r.h.Info().Recovery.Orphans)
			require.True(t, alive(thief.Pid))
			require.NoFileExists(t, asked)
		})
	}
}

// A worker that is ready is adopted, and its forger is not ended with it.
func TestAForgedStampIsNotEndedWithTheWorker(t *testing.T) {
	needRoot(t)
	t.Parallel()
	r := quietRig(t, 2)
	r.open()
	w := r.worker(r.spawn("cpu").WorkerID)
	forged := attack(t, r.ids(w), "--wait-for", "/nonexistent")
	r.close()
	kill9(t, w.Identity.PID)
	r.eventually("its end", func() bool { return !alive(w.Identity.PID) })
	r.open()
	require.Zero(t, r.h.Info().Recovery.Unverified, "nobody is left of it")
	require.Empty(t, finding(r.audit(), audit.FindingQuarantined))
	require.True(t, alive(forged.Pid))
}

// The hive before stamps had a proof gave its workers none. What they have started is
// ended with them as ever, and what another user has started is not.
func TestWorkersOfAHiveWithoutProofs(t *testing.T) {
	needRoot(t)
	t.Parallel()
	r := quietRig(t, 2)
	r.open()
	w := r.worker(r.spawn("cpu").WorkerID)
	ids := r.ids(w)
	r.close()
	r.edit(func(tx *store.Tx) error {
		rec, err := tx.Worker(w.WorkerID)
		require.NoError(t, err)
		require.Zero(t, *rec.StampUID)
		rec.StampUID = nil
		l, err := tx.Lease(w.Port)
		require.NoError(t, err)
		require.Zero(t, *l.StampUID)
		l.StampUID = nil
		require.NoError(t, tx.PutLease(l))
		return tx.PutWorker(rec)
	})
	left := programWith(t, ids)
	forged := attack(t, ids, "--wait-for", "/nonexistent")
	r.open()
	require.Equal(t, 1, r.h.Info().Recovery.Adopted)
	require.Empty(t, finding(r.audit(), audit.FindingNoRecord))
	r.close()
	kill9(t, w.Identity.PID)
	r.eventually("its end", func() bool { return !alive(w.Identity.PID) })
	r.open()
	r.eventually("what is the worker's is ended", func() bool { return !alive(left.Pid) })
	require.True(t, alive(forged.Pid))
}

// The secret and what is made of it are in no record, answer or event.
func TestProofsAreShownNowhere(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	var logged bytes.Buffer
	r.cfg.Log.SetOutput(&logged)
	r.open()
	w := r.spawn("cpu")
	var proof string
	for _, kv := range stampsOf(t, w.PID) {
		if value, ok := strings.CutPrefix(kv, proc.StampProof+"="); ok {
			proof = value
		}
	}
	require.Len(t, proof, 64)
	r.stopWorker(w.WorkerID)
	r.close()
	file, err := os.ReadFile(filepath.Join(r.cfg.DataDir, "hive.db"))
	require.NoError(t, err)
	require.False(t, bytes.Contains(file, []byte(proof)), "records, jobs and events are in the file")
	require.NotContains(t, logged.String(), proof)
	logs, err := filepath.Glob(filepath.Join(r.cfg.DataDir, "logs", "*"))
	require.NoError(t, err)
	require.NotEmpty(t, logs)
	for _, path := range logs {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		require.NotContains(t, string(text), proof)
	}
}
