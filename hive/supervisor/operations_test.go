package supervisor_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/errdefs"
	"rbeehive/hive/operation"
	"rbeehive/store"
)

// A job ends in the transaction that records what it was for.
func TestJobsEndWithWhatTheyWereFor(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	spawn := newJob()
	result, err := r.s.Spawn(r.bounded(), spawn, operation.Spawn{Worker: "cpu", Wait: operation.WaitReady})
	require.NoError(t, err)
	require.Equal(t, result, spawn.result)
	require.Equal(t, store.WorkerReady, spawn.with)
	id := result.(operation.Spawned).WorkerID

	restart := newJob()
	result, err = r.s.RestartWorker(r.bounded(), restart, operation.RestartWorker{WorkerID: id})
	require.NoError(t, err)
	// It can be ready before the job comes to wait for that; then the queue ends it.
	if restart.result != nil {
		require.Equal(t, result, restart.result)
		require.Equal(t, store.WorkerReady, restart.with)
	}

	stop := newJob()
	result, err = r.s.StopWorker(r.bounded(), stop, operation.StopWorker{WorkerID: id})
	require.NoError(t, err)
	require.Equal(t, result, stop.result)
	require.Equal(t, store.WorkerStopped, stop.with)
}

// Nor does a job end with what it was not for: a failure, the worker of a check, a spawn
// that waits for nothing.
func TestJobsThatDoNotEndWithTheirWorker(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, script("early", "exit 3"))
	check := newJob()
	_, err := r.s.Check(r.bounded(), check, operation.Check{})
	require.NoError(t, err)
	require.Nil(t, check.result)

	early := newJob()
	_, err = r.s.Spawn(r.bounded(), early, operation.Spawn{Worker: "early", Wait: operation.WaitReady})
	var f *errdefs.Failure
	require.ErrorAs(t, err, &f)
	require.Equal(t, errdefs.CodeExitedEarly, f.Code)
	require.Nil(t, early.result)

	started := newJob()
	result, err := r.s.Spawn(r.bounded(), started, operation.Spawn{Worker: "cpu", Wait: operation.WaitStarted})
	require.NoError(t, err)
	r.eventually("it is ready", func() bool { return r.worker(result.(operation.Spawned).WorkerID).State == store.WorkerReady })
	require.Nil(t, started.result, "it had ended before")
}
