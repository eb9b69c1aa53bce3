package hive_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive"
	"rbeehive/hive/access"
	"rbeehive/hive/audit"
	"rbeehive/hive/catalog"
	"rbeehive/hive/doctor"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// audit audits once and returns the findings.
func (r *rig) audit() []audit.Finding {
	r.Helper()
	report, err := r.h.Audit(r.Context())
	require.NoError(r, err)
	return report.Findings
}

// finding is the one with this code; an empty one if there is none.
func finding(found []audit.Finding, code string) audit.Finding {
	for _, f := range found {
		if f.Code == code {
			return f
		}
	}
	return audit.Finding{}
}

// quietRig audits only when told to.
func quietRig(t *testing.T, n int, entries ...catalog.Entry) *rig {
	r := newRig(t, n, entries...)
	r.cfg.AuditInterval = time.Hour
	return r
}

func (r *rig) state(id string) store.WorkerState {
	r.Helper()
	w, err := r.h.Worker(id)
	require.NoError(r, err)
	return w.State
}

func TestAuditFindsNothingWhereAllIsWell(t *testing.T) {
	t.Parallel()
	r := quietRig(t, 4, portUserEntry(t, "plain"))
	r.open()
	require.Zero(t, r.h.LastAudit().Runs)
	r.spawn("plain")
	r.spawn("cpu")
	r.lease(byPID(program(t).Pid))
	r.lease(byTTL(time.Hour))
	require.Empty(t, r.audit())
	require.Empty(t, r.audit())
	require.Equal(t, 2, r.h.LastAudit().Runs)
}

// Two servers on one port: SO_REUSEPORT lets a stranger in beside the worker, and
// the kernel deals connections out at random. Such a worker is not listed as ready.
func TestAStrangerSharesTheWorkersPort(t *testing.T) {
	t.Parallel()
	r := quietRig(t, 2, portUserEntry(t, "shared", "--reuse-port"))
	r.open()
	w := r.spawn("shared")
	srv := stranger(t, "127.0.0.1", w.Port, true)
	first := finding(r.audit(), audit.FindingShared)
	require.Equal(t, 1, first.Sightings)
	require.Equal(t, w.WorkerID, first.WorkerID)
	require.Equal(t, os.Getpid(), first.PID)
	require.Contains(t, first.Message, "beside worker "+w.WorkerID)
	require.Equal(t, store.WorkerReady, r.state(w.WorkerID), "once may be a moment between two states")

	second := finding(r.audit(), audit.FindingShared)
	require.Equal(t, 2, second.Sightings)
	require.Equal(t, first.Since, second.Since)
	r.eventually("it is not shown as ready any more", func() bool { return r.state(w.WorkerID) == store.WorkerUnhealthy })
	rec, err := r.h.Worker(w.WorkerID)
	require.NoError(t, err)
	require.Contains(t, rec.Reason, "is held by ")
	require.Contains(t, rec.Reason, "(pid "+strconv.Itoa(os.Getpid())+", ", "it is not the worker that is named")
	require.True(t, alive(w.PID), "nothing is stopped for a stranger's sake")

	require.NoError(t, srv.Close())
	r.eventually("it is ready again by itself", func() bool { return r.state(w.WorkerID) == store.WorkerReady })
	require.Empty(t, r.audit())
}

// A worker that was ready stops listening, and a stranger takes its place.
func TestAWorkerStopsListening(t *testing.T) {
	t.Parallel()
	closing := filepath.Join(t.TempDir(), "close")
	r := quietRig(t, 2, portUserEntry(t, "tired", "--until", closing))
	r.open()
	w := r.spawn("tired")
	require.NoError(t, os.WriteFile(closing, nil, 0o600))
	r.eventually("it is seen", func() bool { return finding(r.audit(), audit.FindingNotListening).Sightings >= 2 })
	r.eventually("it is unhealthy", func() bool { return r.state(w.WorkerID) == store.WorkerUnhealthy })
	rec, err := r.h.Worker(w.WorkerID)
	require.NoError(t, err)
	require.Equal(t, "nothing listens on port "+strconv.Itoa(int(w.Port)), rec.Reason)

	stranger(t, "127.0.0.1", w.Port, false)
	f := finding(r.audit(), audit.FindingForeign)
	require.Equal(t, os.Getpid(), f.PID)
	require.Equal(t, store.WorkerUnhealthy, r.state(w.WorkerID), "a stranger's 200 does not make it ready")
	r.close()
	r.open()
	require.Equal(t, store.WorkerUnhealthy, r.state(w.WorkerID), "nor does a restart of hive")
}

func TestAWorkerListensOnAPortItHasNoLeaseFor(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	r.cfg.AuditInterval = time.Hour
	r.types(portUserEntry(t, "greedy", "--extra", strconv.Itoa(int(r.port(2)))))
	r.open()
	w := r.spawn("greedy")
	f := finding(r.audit(), audit.FindingUnleased)
	require.Equal(t, []any{r.port(2), w.WorkerID, w.PID}, []any{f.Port, f.WorkerID, f.PID})
	require.Equal(t, store.WorkerReady, r.state(w.WorkerID), "it serves on its own port all the same")
	// Who does what the doctor says of a squatter would end the worker.
	require.Equal(t, doctor.OK, named(t, r.doctor(), "squatters").Status)
	require.Contains(t, named(t, r.doctor(), "unleased").Found, fmt.Sprintf("%d worker %s: ", r.port(2), w.WorkerID))
	require.Equal(t, r.port(1), r.spawn("cpu").Port)
	job := r.do(map[string]any{"operation": "worker_spawn", "worker": "cpu"})
	require.Equal(t, errdefs.CodePortsExhausted, job.Error.Code, "and nobody is given that port")
}

func TestQuarantinedAndContestedAreFindings(t *testing.T) {
	t.Parallel()
	r := quietRig(t, 3)
	r.open()
	l := r.lease(byTTL(time.Hour))
	listener := listenOn(t, l.Port)
	_, err := r.h.ReleaseLease(access.Hive(), l.Port, l.LeaseID)
	require.NoError(t, err)
	f := finding(r.audit(), audit.FindingQuarantined)
	require.Equal(t, l.Port, f.Port)
	require.Contains(t, f.Message, "still has it")
	require.NoError(t, listener.Close())
	report, err := r.h.Repair(t.Context())
	require.NoError(t, err)
	require.Empty(t, report.Findings, "repair frees what two looks prove free")
	require.Empty(t, r.leases())
}

// A worker's own daemon, left behind on purpose or by a crash: reported, and with
// orphans: kill ended once its lease is known to have ended.
func TestMembersWithoutARecord(t *testing.T) {
	t.Parallel()
	for _, orphans := range []hive.Orphans{hive.OrphansKeep, hive.OrphansKill} {
		t.Run(string(orphans), func(t *testing.T) {
			t.Parallel()
			r := quietRig(t, 2)
			r.cfg.Orphans = orphans
			r.open()
			w := r.spawn("cpu")
			stamps := stampsOf(t, w.PID)
			require.Len(t, stamps, 4)
			r.stopWorker(w.WorkerID)
			// Started later with the stamps of the ended lease: nothing but the stamps says whose it is.
			p := programWith(t, stamps)
			forged := programWith(t, slices.DeleteFunc(stamps, func(kv string) bool { return strings.HasPrefix(kv, proc.StampProof+"=") }))
			unknown := programWith(t, []string{
				"RBEEHIVE_STATE=" + r.h.Info().StateID, "RBEEHIVE_LEASE=unknown", "RBEEHIVE_WORKER=cpu-1-x",
			})
			var pids []int
			for _, f := range r.audit() {
				require.Equal(t, audit.FindingNoRecord, f.Code)
				pids = append(pids, f.PID)
			}
			require.ElementsMatch(t, []int{p.Pid, unknown.Pid}, pids)
			require.True(t, alive(p.Pid), "nothing is done at the first sight")
			r.audit()
			require.Equal(t, orphans == hive.OrphansKeep, alive(p.Pid))
			require.True(t, alive(unknown.Pid), "a lease that is merely unknown proves nothing")
			require.True(t, alive(forged.Pid), "ids that anybody can read prove nothing")
		})
	}
}

func TestALeaseOfAWorkerThatHasEnded(t *testing.T) {
	t.Parallel()
	r := quietRig(t, 2)
	r.open()
	w := r.spawn("cpu")
	r.stopWorker(w.WorkerID)
	rec, err := r.h.Worker(w.WorkerID)
	require.NoError(t, err)
	r.close()
	st, err := store.Open(t.Context(), store.Options{Path: filepath.Join(r.cfg.DataDir, "hive.db")})
	require.NoError(t, err)
	require.NoError(t, st.Update(t.Context(), func(tx *store.Tx) error {
		return tx.PutLease(store.Lease{Port: rec.Port, LeaseID: "mended", Kind: store.LeaseWorker, WorkerID: rec.WorkerID, State: store.LeaseHeld})
	}))
	require.NoError(t, st.Close())
	r.open()
	require.Equal(t, rec.Port, finding(r.audit(), audit.FindingNoHolder).Port)
	require.Len(t, r.leases(), 1)
	r.audit()
	require.Empty(t, r.leases(), "freed when nobody was found on it twice")
}
