package jobs_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/access"
	"rbeehive/hive/errdefs"
	"rbeehive/store"
)

// How a job ends by what its executor returns.
func TestHowAJobEnds(t *testing.T) {
	for name, c := range map[string]struct {
		result any
		err    error
		state  store.JobState
		code   string
		logged bool
	}{
		"with a result":          {map[string]int{"n": 1}, nil, store.JobSucceeded, "", false},
		"without a result":       {nil, nil, store.JobSucceeded, "", false},
		"with a failure":         {nil, errdefs.Fail(errdefs.CodeNotReady, "never"), store.JobFailed, errdefs.CodeNotReady, false},
		"with a wrapped failure": {nil, fmt.Errorf("spawn: %w", errdefs.Fail(errdefs.CodeWrongPort, "never")), store.JobFailed, errdefs.CodeWrongPort, false},
		"by a cancellation, told as a failure": {
			nil, errdefs.Fail(errdefs.CodeExecFailed, "before_start: %v", errdefs.ErrCancelled), store.JobCancelled, errdefs.CodeCancelled, false,
		},
		"on a full disk": {nil, fmt.Errorf("update: %w", store.ErrDiskFull), store.JobFailed, errdefs.CodeDiskFull, false},
		"by a fault":     {nil, errors.New("a bug"), store.JobFailed, errdefs.CodeInternal, true},
	} {
		t.Run(name, func(t *testing.T) {
			r := serving(t)
			id := r.submit(check)
			r.begun(id).ends(c.result, c.err)
			rec := r.wait(id)
			require.Equal(t, c.state, rec.State)
			require.NotNil(t, rec.StartedAt)
			require.NotNil(t, rec.FinishedAt)
			evs := r.recordedEvents(id)
			last := evs[len(evs)-1]
			require.Equal(t, store.EventEnd, last.Type)
			if c.code == "" {
				require.Nil(t, rec.Error)
				require.Equal(t, c.result != nil, rec.Result != nil)
			} else {
				require.Equal(t, c.code, rec.Error.Code)
				want := "hive_check " + string(c.state)
				if c.state == store.JobFailed {
					want += ": " + c.code
				}
				require.Contains(t, last.Message, want)
			}
			require.Equal(t, c.logged, len(r.logs.AllEntries()) == 1)
			require.Equal(t, []string{"hive_check " + string(c.state)}, r.counted())
			r.idle()
		})
	}
}

// The last lines of a worker's log are events of the job that failed.
func TestTheLogOfAFailedJob(t *testing.T) {
	r := serving(t)
	id := r.submit(check)
	f := errdefs.Fail(errdefs.CodeExitedEarly, "it ended")
	f.Log = []string{"one", "two"}
	r.begun(id).ends(nil, f)
	r.wait(id)
	var lines []string
	for _, ev := range r.recordedEvents(id) {
		if ev.Type == store.EventLog {
			lines = append(lines, ev.Message)
		}
	}
	require.Equal(t, []string{"one", "two"}, lines)
}

// A failure of a cancelled job says more than that it was cancelled.
func TestAFailureGoesBeforeACancellation(t *testing.T) {
	r := serving(t)
	id := r.submit(check)
	c := r.begun(id)
	c.ends(nil, errdefs.Fail(errdefs.CodeStopIncomplete, "it lives"))
	_, err := r.Cancel(t.Context(), access.Hive(), id)
	require.ErrorIs(t, err, errdefs.ErrConflict)
	require.Equal(t, errdefs.CodeStopIncomplete, r.wait(id).Error.Code)
}

// Jobs that a closing hive leaves unfinished are the next recovery's, as are those of a
// state file that has failed.
func TestUnfinishedJobsAreLeftToTheNextRecovery(t *testing.T) {
	for name, leave := range map[string]func(*rig, *call){
		"the hive closes":      func(r *rig, _ *call) { r.run.Close() },
		"the store has failed": func(_ *rig, c *call) { c.ends(nil, fmt.Errorf("update: %w", store.ErrFailed)) },
		"the store is closed":  func(_ *rig, c *call) { c.ends(nil, fmt.Errorf("update: %w", store.ErrClosed)) },
	} {
		t.Run(name, func(t *testing.T) {
			r := serving(t)
			id := r.submit(check)
			leave(r, r.begun(id))
			r.idle()
			rec, err := r.recorded(id)
			require.NoError(t, err)
			require.False(t, rec.State.Ended())
			require.Empty(t, r.counted())
			require.Empty(t, r.logs.AllEntries())
		})
	}
}

// A drain cancels what starts workers, and waits for it; the rest goes on.
func TestCancelStarts(t *testing.T) {
	r := serving(t)
	spawn, stop := r.submit(spawnA), r.submit(`{"operation":"worker_stop","worker_id":"z"}`)
	r.begun(spawn)
	stopping := r.begun(stop)
	require.NoError(t, r.CancelStarts(t.Context()))
	rec, err := r.recorded(spawn)
	require.NoError(t, err)
	require.Equal(t, store.JobCancelled, rec.State, "it has ended when CancelStarts returns")
	require.Equal(t, errdefs.CodeCancelled, rec.Error.Code)
	require.NoError(t, stopping.ctx.Err())
	stopping.ends(nil, nil)
	require.Equal(t, store.JobSucceeded, r.wait(stop).State)
}

// What was admitted before a drain and comes behind its list is cancelled too.
func TestAStartThatIsResumedWhileHiveDrains(t *testing.T) {
	r := newRig(t)
	r.put(store.Job{JobID: "job-1", Operation: "worker_spawn", Request: []byte(spawnA), State: store.JobQueued, CreatedAt: now()})
	r.run.Drain()
	r.recover(false, found{})
	require.Equal(t, store.JobCancelled, r.wait("job-1").State)
}
