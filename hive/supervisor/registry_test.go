package supervisor_test

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/errdefs"
)

// The list is made once for all who ask, and again after each change.
func TestTheListOfWorkersIsKeptUntilAChange(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, serving("serve"))
	w := r.spawn("serve")
	list := r.s.Workers()
	require.Len(t, list, 1)
	require.Same(t, &list[0], &r.s.Workers()[0])
	r.spawn("serve")
	require.Len(t, list, 1, "a list that was handed out stays as it was")
	list = r.s.Workers()
	require.Len(t, list, 2)
	require.Same(t, &list[0], &r.s.Workers()[0])
	r.stop(w.WorkerID)
	require.NotSame(t, &list[0], &r.s.Workers()[0])
}

// Workers are found by id, name and PID: the living one of a name before those that had it.
func TestWorkersAreFound(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3, serving("serve"))
	a, b := r.spawn("serve"), r.spawn("serve")
	byPID, ok := r.s.LiveByPID(b.Identity.PID)
	require.True(t, ok)
	require.Equal(t, b.WorkerID, byPID.WorkerID)
	_, ok = r.s.LiveByPID(os.Getpid())
	require.False(t, ok)
	var ports []uint16
	for _, w := range r.s.Live() {
		ports = append(ports, w.Port)
	}
	require.Equal(t, []uint16{a.Port, b.Port}, ports, "by port")
	processes := r.s.Processes()
	require.Len(t, processes, 2)
	require.Equal(t, a.Identity.PID, processes[0].Tree.Main.PID())
	r.stop(a.WorkerID)
	require.Len(t, r.s.Live(), 1)
	require.Len(t, r.s.Workers(), 2)
	_, ok = r.s.LiveByPID(a.Identity.PID)
	require.False(t, ok)
	_, err := r.s.Worker("")
	require.ErrorIs(t, err, errdefs.ErrNotFound, "an empty name is nobody's")
	_, err = r.s.Worker("nobody")
	require.EqualError(t, err, `worker "nobody": not found`)
	require.NoError(t, r.s.Alive())
}

// Starts that hang in all places are nothing that waiting helps against.
func TestAliveWithoutAPlaceForStarts(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, serving("serve"))
	r.s.TakeAllStarts(time.Minute)()
	require.NoError(t, r.s.Alive())
	release := r.s.TakeAllStarts(time.Minute)
	require.NoError(t, r.s.Alive(), "a start may take longer")
	release()
	release = r.s.TakeAllStarts(time.Hour)
	require.ErrorContains(t, r.s.Alive(), "all 8 places for starts are taken, and none has moved for 1h0m")
	release()
	require.NoError(t, r.s.Alive())
}

// The logs that are to be rotated: those of another hive's workers are not.
func TestLogSources(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2, serving("serve"))
	old, ended := r.spawn("serve"), r.spawn("serve")
	r.stop(ended.WorkerID)
	r.close()
	r.relocated = true
	r.open()
	since := time.Now()
	young := r.spawn("serve")
	is := map[string][2]bool{}
	for _, s := range r.s.LogSources(since) {
		is[s.ID] = [2]bool{s.Foreign, s.Ended}
	}
	require.Equal(t, map[string][2]bool{
		old.WorkerID: {true, false}, young.WorkerID: {false, false}, ended.WorkerID: {false, true},
	}, is)
	r.relocated = false
}
