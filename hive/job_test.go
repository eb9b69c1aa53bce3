package hive_test

import (
	"context"
	"encoding/json"
	"math"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/access"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/jobs"
	"rbeehive/hive/operation"
	"rbeehive/store"
)

func TestDecodeRefuses(t *testing.T) {
	r := newRig(t, 1)
	r.open()
	for body, want := range map[string]struct {
		kind error
		text string
	}{
		``:                      {errdefs.ErrBadRequest, "the body is empty"},
		`[]`:                    {errdefs.ErrBadRequest, "not a JSON object"},
		`{"operation":`:         {errdefs.ErrBadRequest, "ends in the middle"},
		`{"operation":"x"} {}`:  {errdefs.ErrBadRequest, "something follows"},
		`{}`:                    {errdefs.ErrBadRequest, "operation: is required"},
		`{"operation":5}`:       {errdefs.ErrBadRequest, "operation: is 5; expected a string"},
		`{"operation":"dance"}`: {errdefs.ErrUnknownOperation, `unknown operation "dance" (known: hive_check,`},
		`{"operation":"hive_check","hive_id":"other"}`:                                            {errdefs.ErrBadRequest, `hive_id: is "other", but this hive is "localhost"`},
		`{"operation":"hive_check","operation":"hive_check"}`:                                     {errdefs.ErrBadRequest, "is there twice"},
		`{"operation":"worker_spawn"}`:                                                            {errdefs.ErrBadRequest, "worker: is required"},
		`{"operation":"worker_spawn","worker":"nope"}`:                                            {errdefs.ErrUnknownWorkerType, `no worker type "nope" (known: comfyui, cpu, cuda,`},
		`{"operation":"worker_spawn","worker":"cpu","modle":"m"}`:                                 {errdefs.ErrUnknownField, "modle: is not a field of worker_spawn"},
		`{"operation":"worker_spawn","worker":"cpu","model":"-m"}`:                                {errdefs.ErrBadRequest, "may not begin with '-'"},
		`{"operation":"worker_spawn","worker":"cpu","model":"a\u0007"}`:                           {errdefs.ErrBadRequest, "control characters"},
		`{"operation":"worker_spawn","worker":"cpu","model":"a\u202e"}`:                           {errdefs.ErrBadRequest, `model: has \u202e, which is invisible`},
		`{"operation":"worker_spawn","worker":"cpu","device":"0\u200b"}`:                          {errdefs.ErrBadRequest, `device: has \u200b`},
		`{"operation":"worker_spawn","worker":"cpu","params":{"a":"\udb40\udc41"}}`:               {errdefs.ErrBadRequest, `params.a: has \U000e0041`},
		`{"operation":"worker_spawn","worker":"cpu","name":"Not OK"}`:                             {errdefs.ErrBadRequest, "name: is"},
		`{"operation":"worker_spawn","worker":"cpu","port":70000}`:                                {errdefs.ErrBadRequest, "port: is 70000; expected an integer from 1 to 65535"},
		`{"operation":"worker_spawn","worker":"cpu","port":"8080"}`:                               {errdefs.ErrBadRequest, "port: is"},
		`{"operation":"worker_spawn","worker":"cpu","device":-1}`:                                 {errdefs.ErrBadRequest, "device: is -1"},
		`{"operation":"worker_spawn","worker":"cpu","device":1.5}`:                                {errdefs.ErrBadRequest, "device: is 1.5"},
		`{"operation":"worker_spawn","worker":"cpu","params":{"A":"b"}}`:                          {errdefs.ErrBadRequest, "params.A: expected a key"},
		`{"operation":"worker_spawn","worker":"cpu","params":{"a":1}}`:                            {errdefs.ErrBadRequest, "params: expected an object of strings"},
		`{"operation":"worker_spawn","worker":"cpu","params":{"unknown":"1"}}`:                    {errdefs.ErrBadRequest, `"unknown"`},
		`{"operation":"worker_spawn","worker":"cpu","wait":"never"}`:                              {errdefs.ErrBadRequest, "wait: is \"never\"; expected ready or started"},
		`{"operation":"worker_spawn","worker":"cpu","params":{"a":"1","a":"2"}}`:                  {errdefs.ErrBadRequest, "params.a: is there twice"},
		`{"operation":"worker_spawn","worker":"cpu","model":[` + "\n" + `]}`:                      {errdefs.ErrBadRequest, `model: is [\n]; expected a string`},
		`{"operation":"hive_check","a\nb":1}`:                                                     {errdefs.ErrUnknownField, `a\nb: is not a field`},
		`{"operation":"rhai_script_a b"}`:                                                         {errdefs.ErrUnknownOperation, `unknown operation "rhai_script_a b"`},
		`{"operation":"worker_stop"}`:                                                             {errdefs.ErrBadRequest, "worker_id: is required"},
		`{"operation":"worker_process_delete","pid":0}`:                                           {errdefs.ErrBadRequest, "pid: is 0"},
		`{"operation":"worker_process_delete","pid":4294967295}`:                                  {errdefs.ErrBadRequest, "pid: is 4294967295"},
		`{"operation":"worker_process_get"}`:                                                      {errdefs.ErrBadRequest, "pid: is required"},
		`{"operation":"worker_spawn","worker":"cpu","model":"` + strings.Repeat("x", 5000) + `"}`: {errdefs.ErrBadRequest, "longer than"},
	} {
		_, err := r.h.Decode([]byte(body))
		require.ErrorIs(t, err, want.kind, body)
		require.ErrorContains(t, err, want.text, body)
		var input *errdefs.InputError
		require.ErrorAs(t, err, &input, body)
	}
	op, err := r.h.Decode([]byte(`{"operation":"worker_spawn","hive_id":"localhost","worker":"cpu","model":"m","device":"0,1","name":"a-1","port":8080,"params":null,"wait":"started"}`))
	require.NoError(t, err)
	require.Equal(t, operation.Spawn{Worker: "cpu", Model: "m", Device: "0,1", Name: "a-1", Port: 8080, Wait: operation.WaitStarted}, op)
	require.Empty(t, r.leases(), "refused requests change nothing")
}

func TestOperationsOfOthersFail(t *testing.T) {
	r := newRig(t, 1)
	r.open()
	for tag, text := range map[string]string{
		"infer":              "operation 'infer' is not supported by a hive (send it to the queen)",
		"rhai_script_create": "send it to the queen",
		"model_load":         "spawn a worker with this model",
	} {
		job := r.do(map[string]any{"operation": tag, "whatever": 1})
		require.Equal(t, errdefs.CodeUnsupportedOperation, job.Error.Code)
		require.Contains(t, job.Error.Message, text)
	}
}

func (r *rig) events(id string, after uint64) (evs []store.Event) {
	r.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	seq, err := r.h.JobEvents(ctx, id, after)
	require.NoError(r, err)
	for ev, err := range seq {
		require.NoError(r, err)
		evs = append(evs, ev)
	}
	return evs
}

func TestJobEventsFollowAndReplay(t *testing.T) {
	r := newRig(t, 2)
	r.open()
	job := r.submit(map[string]any{"operation": "worker_spawn", "worker": "cpu"})
	var wg sync.WaitGroup
	live := make([][]store.Event, 20)
	for i := range live {
		wg.Go(func() { live[i] = r.events(job.JobID, 0) })
	}
	wg.Wait()
	var kinds []string
	for _, ev := range live[0] {
		kinds = append(kinds, string(ev.Type))
	}
	require.Subset(t, kinds, []string{"state", "port", "process", "result", "end"})
	require.Equal(t, store.EventEnd, live[0][len(live[0])-1].Type)
	for _, l := range live {
		require.Equal(t, live[0], l, "all listeners see the same")
	}
	require.Equal(t, live[0][2:], r.events(job.JobID, live[0][1].JobSeq), "replay from the middle")
	require.Empty(t, r.events(job.JobID, live[0][len(live[0])-1].JobSeq))
	r.close()
	r.open()
	require.Equal(t, live[0], r.events(job.JobID, 0), "replay after a restart")
	_, err := r.h.JobEvents(t.Context(), "job-unknown", 0)
	require.ErrorIs(t, err, errdefs.ErrNotFound)
}

// rbee's page polls worker_process_list every 2 s: nothing of it is written.
func TestListingsAreNotWritten(t *testing.T) {
	r := newRig(t, 1)
	r.open()
	before, _, err := r.h.Jobs(jobs.Filter{})
	require.NoError(t, err)
	job := r.do(map[string]any{"operation": "worker_process_list"})
	require.JSONEq(t, `[]`, string(job.Result))
	evs := r.events(job.JobID, 0)
	require.Len(t, evs, 2)
	require.Equal(t, store.EventEnd, evs[1].Type)
	after, _, err := r.h.Jobs(jobs.Filter{})
	require.NoError(t, err)
	require.Equal(t, before, after)
	for range 1100 {
		r.do(map[string]any{"operation": "worker_process_list"})
	}
	_, err = r.h.Job(job.JobID)
	require.ErrorIs(t, err, errdefs.ErrNotFound, "old ones are forgotten")
}

func TestOtherNamesOfThisHive(t *testing.T) {
	r := newRig(t, 1)
	r.open()
	body := []byte(`{"operation":"hive_check","hive_id":"gpubox.lan"}`)
	_, err := r.h.Decode(body)
	require.ErrorContains(t, err, `hive_id: is "gpubox.lan", but this hive is "localhost"`)
	for name, ours := range map[string]bool{"gpubox.lan": true, "other.lan": false} {
		_, err = r.h.DecodeFor(body, func(hiveID string) bool { return hiveID == name })
		require.Equal(t, ours, err == nil, name)
	}
}

func TestJobsArePagedNewestFirst(t *testing.T) {
	r := newRig(t, 1)
	r.open()
	var want []string
	for range 5 {
		want = append([]string{r.do(map[string]any{"operation": "infer"}).JobID}, want...)
	}
	var got []string
	for after, pages := "", 0; ; pages++ {
		page, next, err := r.h.Jobs(jobs.Filter{Limit: 2, After: after, State: store.JobFailed, Operation: "infer"})
		require.NoError(t, err)
		for _, j := range page {
			got = append(got, j.JobID)
		}
		if next == "" {
			require.Equal(t, 2, pages)
			break
		}
		after = next
	}
	require.Equal(t, want, got)
	none, _, err := r.h.Jobs(jobs.Filter{State: store.JobSucceeded})
	require.NoError(t, err)
	require.Empty(t, none)
}

func TestQueueIsBounded(t *testing.T) {
	r := newRig(t, 3, fault("mute", "--no-listen"))
	r.cfg.Jobs.MaxQueued = 2
	r.open()
	spawn := map[string]any{"operation": "worker_spawn", "worker": "mute"}
	one, two := r.submit(spawn), r.submit(spawn)
	raw, err := json.Marshal(spawn)
	require.NoError(t, err)
	op, err := r.h.Decode(raw)
	require.NoError(t, err)
	_, err = r.h.Submit(t.Context(), op, raw)
	require.ErrorIs(t, err, errdefs.ErrQueueFull)
	for _, j := range []store.Job{one, two} {
		_, err = r.h.Cancel(t.Context(), access.Hive(), j.JobID)
		require.NoError(t, err)
	}
	r.do(map[string]any{"operation": "hive_check"})
}

// Many clients at once: no port twice, nothing left over.
func TestManyClients(t *testing.T) {
	r := newRig(t, 12)
	r.open()
	var wg sync.WaitGroup
	var mu sync.Mutex
	holders := map[uint16]string{}
	for range 8 {
		wg.Go(func() {
			for range 3 {
				w := r.spawn("cpu")
				mu.Lock()
				if other := holders[w.Port]; other != "" {
					t.Errorf("port %d is leased to %s and %s", w.Port, other, w.WorkerID)
				}
				holders[w.Port] = w.WorkerID
				mu.Unlock()
				// Freed in the books before hive frees it: after the stop another client may have it at once.
				mu.Lock()
				delete(holders, w.Port)
				mu.Unlock()
				r.stopWorker(w.WorkerID)
			}
		})
	}
	wg.Wait()
	require.Empty(t, r.leases())
	require.Empty(t, r.processes())
	require.Len(t, r.h.Workers(), 24, "dead workers stay listed")
}

// What can be one transaction is one: each costs a flush of the disk.
func TestCommitsOfASpawnAndAStop(t *testing.T) {
	r := newRig(t, 1)
	r.open()
	spawn, stop := uint64(math.MaxUint64), uint64(math.MaxUint64)
	// hive writes for itself, too, and on a busy machine a job that takes its time is recorded
	// alone: as few as these are needed at some time.
	for begin := time.Now(); spawn+stop > 4 && time.Since(begin) < time.Minute; {
		before := r.h.Commits()
		w := r.spawn("cpu")
		started := r.h.Commits()
		r.stopWorker(w.WorkerID)
		spawn, stop = min(spawn, started-before), min(stop, r.h.Commits()-started)
	}
	require.EqualValues(t, 2, spawn, "queued and started; ready, and with it the end of the job")
	require.EqualValues(t, 2, stop, "queued and stopping; stopped, and with it the end of the job")
}
