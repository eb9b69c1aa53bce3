package pidreuse_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/httpapi/wire"
	"rbeehive/store"
	"rbeehive/test/harness"
)

// scene is the test inside the namespace. It stands in for testing.T: the process is not a
// test, it is init.
type scene struct {
	dir  string // of this scene
	hive *harness.Instance
}

// Errorf implements require.TestingT.
func (s *scene) Errorf(format string, args ...any) { fmt.Printf(format+"\n", args...) }

// FailNow implements require.TestingT. With init all other processes end.
func (s *scene) FailNow() {
	if s.hive != nil {
		out, _ := os.ReadFile(s.hive.Output())
		fmt.Printf("hive has printed:\n%s\n", out)
	}
	os.Exit(1)
}

// inside is the main function of the namespace's init.
func inside(args []string) {
	binary, proof := args[0], args[1]
	ownProc()
	s := &scene{dir: os.TempDir()}
	var err error
	s.hive, err = harness.New(binary, 8, "[]", "audit: {interval: 1s}")
	require.NoError(s, err)
	s.start()
	past := s.before()
	s.hive.Kill()
	for _, pid := range []int{past.port.PID, past.plain.PID, past.holder} {
		s.endAndReap(pid)
	}
	s.numbersFrom(elsewhere)
	s.edit(proof)
	s.after(past)
}

// ownProc mounts the /proc of this namespace, where nobody else sees it.
func ownProc() {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		cannot("make the mounts private: %v", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		cannot("mount /proc of a new PID namespace: %v", err)
	}
	last, err := os.OpenFile(lastPID, os.O_WRONLY, 0)
	if err != nil {
		cannot("choose a PID: %v", err)
	}
	_ = last.Close()
}

// worker is what the test needs of a worker.
type worker struct {
	ID   string `json:"worker_id"`
	PID  int    `json:"pid"`
	Port uint16 `json:"port"`
}

// recorded is what hive knows when it is killed.
type recorded struct {
	port  worker // whose PID, session and port a stranger will have
	plain worker // whose PID only
	// A process lease, whose holder's PID a stranger will have.
	holder int
	lease  wire.Lease
}

func (s *scene) before() (r recorded) {
	s.numbersFrom(5000)
	r.port = s.spawn()
	s.numbersFrom(7000)
	r.plain = s.spawn()
	cmd := s.impostor(9000, false, "", "") // any process will do for a holder
	s.awaitReady(cmd, 1)
	r.holder = cmd.pid()
	require.NoError(s, s.hive.Call(context.Background(), http.MethodPost, "/v1/leases", wire.AcquireLease{PID: r.holder}, &r.lease))
	session, err := unix.Getsid(r.port.PID)
	require.NoError(s, err)
	require.Equal(s, r.port.PID, session, "a worker leads a session")
	return r
}

// after starts the strangers, and then hive.
func (s *scene) after(r recorded) {
	strangers := map[string]*other{
		"the one on the port": s.impostor(r.port.PID, true, strconv.Itoa(int(r.port.Port)), "family"),
		"the one with a PID":  s.impostor(r.plain.PID, false, "", ""),
		"the holder's heir":   s.impostor(r.holder, false, "", ""),
	}
	squatter := strangers["the one on the port"]
	s.awaitReady(squatter, 2)
	s.awaitReady(strangers["the one with a PID"], 1)
	s.awaitReady(strangers["the holder's heir"], 1)
	session, err := unix.Getsid(r.port.PID)
	require.NoError(s, err)
	require.Equal(s, r.port.PID, session, "the stranger has the session's number")

	s.start()
	info, err := s.hive.Info(context.Background())
	require.NoError(s, err)
	require.Equal(s, []int{0, 1, 0}, []int{info.Recovery.Adopted, info.Recovery.Freed, info.Recovery.Unverified})
	s.nobodyIsOurs(r)
	s.never("the quarantine ends, though somebody listens", 3*time.Second, func() bool { return len(s.leases()) != 1 })
	for who, o := range strangers {
		s.unharmed(who, o)
	}

	_, err = fmt.Fprintln(squatter.stdin)
	require.NoError(s, err)
	squatter.lines++ // closed
	s.eventually("the port is free when nobody listens any more", func() bool { return len(s.leases()) == 0 })
	next := s.spawn()
	require.Equal(s, r.port.Port, next.Port)
	require.Equal(s, "succeeded", s.do(map[string]any{"operation": "worker_stop", "worker_id": next.ID}).State)
	s.eventually("the sweep has found no process", func() bool {
		info, err := s.hive.Info(context.Background())
		return err == nil && info.Recovery.Orphans != nil && *info.Recovery.Orphans == 0
	})
	require.NoError(s, s.hive.Term())
	for who, o := range strangers {
		s.unharmed(who, o)
	}
	fmt.Printf("strangers had the PIDs %d (worker, with session and port), %d (worker) and %d (holder)\n", r.port.PID, r.plain.PID, r.holder)
}

// nobodyIsOurs checks what hive says of the strangers, and that it does not stop
// them when it is asked to.
func (s *scene) nobodyIsOurs(r recorded) {
	live, err := s.hive.Live(context.Background())
	require.NoError(s, err)
	require.Empty(s, live)
	leases := s.leases()
	require.Len(s, leases, 1, "%+v", leases)
	require.Equal(s, []any{r.port.Port, "quarantined", (*int)(nil)}, []any{leases[0].Port, leases[0].State, leases[0].PID})
	for _, op := range []map[string]any{
		{"operation": "worker_process_delete", "pid": r.port.PID},
		{"operation": "worker_process_delete", "pid": r.plain.PID},
		{"operation": "worker_process_delete", "pid": r.holder},
		{"operation": "worker_process_get", "pid": r.port.PID},
		{"operation": "worker_stop", "worker_id": r.port.ID},
		{"operation": "worker_stop", "worker_id": r.plain.ID},
	} {
		job := s.do(op)
		require.NotNil(s, job.Error, "%v", op)
		require.Equal(s, "not_found", job.Error.Code, "%v", op)
	}
	err = s.hive.Call(context.Background(), http.MethodDelete, fmt.Sprintf("/v1/leases/%d?lease_id=%s", r.lease.Port, r.lease.LeaseID), nil, nil)
	require.Equal(s, "not_found", harness.Code(err), "the holder's lease has ended with it")
}

// elsewhere is where numbers come from that are of no interest.
const elsewhere = 20000

// numbersFrom has the next processes and threads get numbers above last. Threads
// of everybody in here take numbers too: they must not take those that a stranger
// is to have.
func (s *scene) numbersFrom(last int) {
	require.NoError(s, os.WriteFile(lastPID, []byte(strconv.Itoa(last)), 0))
}

func (s *scene) start() {
	require.NoError(s, s.hive.Start(context.Background()))
}

func (s *scene) do(op harness.Op) wire.Job {
	job, err := s.hive.Do(context.Background(), op)
	require.NoError(s, err, "%v", op)
	return job
}

func (s *scene) spawn() (w worker) {
	job := s.do(map[string]any{"operation": "worker_spawn", "worker": "cpu"})
	require.Equal(s, "succeeded", job.State, "%+v", job.Error)
	require.NoError(s, json.Unmarshal(job.Result, &w))
	return w
}

func (s *scene) leases() []wire.Lease {
	list, err := s.hive.Leases(context.Background())
	require.NoError(s, err)
	return list
}

// endAndReap ends a process and takes its zombie away, so that its number is free.
// With hive dead its workers are init's children.
func (s *scene) endAndReap(pid int) {
	require.NoError(s, unix.Kill(pid, unix.SIGKILL))
	got, err := unix.Wait4(pid, nil, 0, nil)
	require.NoError(s, err)
	require.Equal(s, pid, got)
	require.ErrorIs(s, unix.Kill(pid, 0), unix.ESRCH)
}

// edit reads the records, and takes the pidfd's inode out of them if the start
// time is to be what tells the strangers apart.
func (s *scene) edit(proof string) {
	st, err := store.Open(context.Background(), store.Options{Path: filepath.Join(s.hive.Dir, "data", "hive.db")})
	require.NoError(s, err)
	defer func() { require.NoError(s, st.Close()) }()
	require.NoError(s, st.Update(context.Background(), func(tx *store.Tx) error {
		for w, err := range tx.Workers() {
			require.NoError(s, err)
			*w.Identity = s.weaken(proof, *w.Identity)
			require.NoError(s, tx.PutWorker(w))
		}
		for l, err := range tx.Leases() {
			require.NoError(s, err)
			*l.Identity = s.weaken(proof, *l.Identity)
			require.NoError(s, tx.PutLease(l))
		}
		return nil
	}))
}

func (s *scene) weaken(proof string, id store.Identity) store.Identity {
	if id.PidfdInode == 0 && proof == "inode" {
		cannot("pidfds have no inodes here (kernel before 6.9)")
	}
	if proof == "start" {
		id.PidfdInode = 0
	}
	return id
}

const tick = 5 * time.Millisecond

// eventually waits for a condition.
func (s *scene) eventually(what string, ok func() bool) {
	for end := time.Now().Add(20 * time.Second); !ok(); <-time.After(tick) {
		require.True(s, time.Now().Before(end), "not in 20 s: %s", what)
	}
}

// never watches that a condition does not come about.
func (s *scene) never(what string, d time.Duration, bad func() bool) {
	for end := time.Now().Add(d); time.Now().Before(end); <-time.After(tick) {
		require.False(s, bad(), what)
	}
}
