package jobs_test

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/access"
	"rbeehive/hive/errdefs"
	"rbeehive/store"
)

// What a job waits for of an earlier one on the same worker.
func TestOrderOfTwoJobs(t *testing.T) {
	stopByID := `{"operation":"worker_stop","worker_id":"w-1"}`
	for name, c := range map[string]struct {
		earlier, later string
		let            func(*call) // what lets the later one begin; nil: it need not wait
	}{
		"of different workers":                    {spawnA, spawnB, nil},
		"about no worker":                         {check, check, nil},
		"two stops want the same":                 {stopA, stopA, nil},
		"a stop waits for the effect of a spawn":  {spawnA, stopA, (*call).MarkEffective},
		"a stop waits for a spawn that fails":     {spawnA, stopA, func(c *call) { c.ends(nil, errors.New("failed")) }},
		"a restart waits for the effect":          {spawnA, restartA, (*call).MarkEffective},
		"a spawn waits for the end of a stop":     {stopA, spawnA, func(c *call) { c.ends(nil, nil) }},
		"a worker by its id is the one by name":   {stopByID, spawnA, func(c *call) { c.ends(nil, nil) }},
		"a stop by id waits for a spawn by name":  {spawnA, stopByID, (*call).MarkEffective},
		"a second spawn waits for the first":      {spawnA, spawnA, (*call).MarkEffective},
		"a restart waits for the end of a stop":   {stopA, restartA, func(c *call) { c.ends(nil, nil) }},
		"a spawn without a name is nobody else's": {`{"operation":"worker_spawn","worker":"cpu"}`, `{"operation":"worker_spawn","worker":"cpu"}`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := serving(t)
			r.workers["w-1"] = store.Worker{WorkerID: "w-1", Name: "a"}
			earlier := r.submit(c.earlier)
			first := r.begun(earlier)
			later := r.submit(c.later)
			if c.let != nil {
				r.waits(later, earlier)
				c.let(first)
			}
			r.begun(later).ends(nil, nil)
			require.Equal(t, store.JobSucceeded, r.wait(later).State)
		})
	}
}

// An effect is not enough to let pass what must wait for the end of a stop.
func TestTheEffectOfAStopIsNotItsEnd(t *testing.T) {
	r := serving(t)
	stop := r.submit(stopA)
	c := r.begun(stop)
	c.MarkEffective()
	spawn := r.submit(spawnA)
	r.waits(spawn, stop)
	c.ends(nil, nil)
	r.begun(spawn).ends(nil, nil)
	require.Equal(t, store.JobSucceeded, r.wait(spawn).State)
}

// Jobs on one worker have their effects in the order in which they were submitted.
func TestAQueueOfJobsOnOneWorker(t *testing.T) {
	r := serving(t)
	first := r.submit(stopA)
	c := r.begun(first)
	want := []string{first}
	for _, raw := range []string{spawnA, restartA, restartA, stopA} {
		id := r.submit(raw)
		r.waits(id, want[len(want)-1])
		want = append(want, id)
	}
	c.ends(nil, nil)
	for _, id := range want[1:] {
		r.begun(id).ends(nil, nil)
	}
	r.idle()
	require.Equal(t, want, r.exec.order)
}

// A job that waits can be cancelled, and those behind it then wait for those before it.
func TestCancelAJobThatWaits(t *testing.T) {
	r := serving(t)
	stop := r.submit(stopA)
	c := r.begun(stop)
	spawn := r.submit(spawnA)
	r.waits(spawn, stop)
	restart := r.submit(restartA)
	r.waits(restart, spawn)
	rec, err := r.Cancel(t.Context(), access.Hive(), spawn)
	require.NoError(t, err)
	require.Equal(t, store.JobCancelled, rec.State)
	require.Nil(t, r.exec.call(spawn), "it was never begun")
	r.waits(restart, stop)
	c.ends(nil, nil)
	r.begun(restart).ends(nil, nil)
	r.idle()
}

// A stop finds the worker of an earlier spawn also between two ports.
func TestAwaitTarget(t *testing.T) {
	r := serving(t)
	spawn := r.begun(r.submit(spawnA))
	spawn.MarkEffective()
	stop := r.begun(r.submit(stopA))

	looks := make(chan bool) // what each look finds
	result := make(chan error, 1)
	go func() { result <- stop.AwaitTarget(stop.ctx, func() bool { return <-looks }) }()
	looks <- false
	spawn.MarkEffective() // another port, another worker
	looks <- true
	require.NoError(t, <-result)

	// The spawn fails: nobody is left who could start one, and the last look counts.
	go func() { result <- stop.AwaitTarget(stop.ctx, func() bool { return <-looks }) }()
	looks <- false
	spawn.ends(nil, errdefs.Fail(errdefs.CodeNotReady, "never"))
	looks <- false
	require.NoError(t, <-result)
	stop.ends(nil, nil)
	r.idle()
}

func TestAwaitTargetEndsWithItsContext(t *testing.T) {
	r := serving(t)
	spawn := r.begun(r.submit(spawnA))
	spawn.MarkEffective()
	stop := r.begun(r.submit(stopA))
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errdefs.ErrCancelled)
	require.ErrorIs(t, stop.AwaitTarget(ctx, func() bool { return false }), errdefs.ErrCancelled)
	// It is the first of its own, and has nobody to wait for.
	require.NoError(t, spawn.AwaitTarget(ctx, func() bool { return false }))
	stop.ends(nil, nil)
	spawn.ends(nil, nil)
	r.idle()
}
