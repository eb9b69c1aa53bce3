package httpapi_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"

	"rbeehive/httpapi"
	"rbeehive/store"
)

var at = time.Date(2025, 11, 23, 17, 4, 5, 6789000, time.FixedZone("CET", 3600))

func TestWorkerShape(t *testing.T) {
	code, ready := 1, at.Add(time.Second)
	w := store.Worker{
		WorkerID: "cpu-8080-abc123", Name: "llama", Type: "cpu", Port: 8080, Ports: []uint16{8080}, LeaseID: "lease-1",
		Spec:     store.Spec{Host: "127.0.0.1", Model: "test", Device: "0"},
		Identity: &store.Identity{PID: 77}, State: store.WorkerReady, Desired: store.DesiredRunning,
		Log: "/x/logs/cpu-8080-abc123.log", StartedAt: at, ReadyAt: &ready,
	}
	requireJSON(t, `{"worker_id":"cpu-8080-abc123","name":"llama","type":"cpu","model":"test","device":"0","port":8080,
		"ports":[8080],"pid":77,"url":"http://127.0.0.1:8080","state":"ready","reason":null,"stale":false,"desired":"running","restarts":0,
		"exit":null,"lease_id":"lease-1","log":"/x/logs/cpu-8080-abc123.log",
		"started_at":"2025-11-23T16:04:05.006Z","ready_at":"2025-11-23T16:04:06.006Z"}`, httpapi.WorkerShape(w))

	w.State, w.Reason, w.Exit = store.WorkerFailed, "exited with 1", &store.Exit{Code: &code, At: at}
	w.Name, w.Spec.Model, w.Spec.Device, w.ReadyAt, w.Ports = "", "", "", nil, nil
	requireJSON(t, `{"worker_id":"cpu-8080-abc123","name":null,"type":"cpu","model":null,"device":null,"port":8080,
		"ports":[],"pid":null,"url":"http://127.0.0.1:8080","state":"failed","reason":"exited with 1","stale":false,"desired":"running","restarts":0,
		"exit":{"code":1,"signal":null,"oom":false,"at":"2025-11-23T16:04:05.006Z"},"lease_id":null,"log":"/x/logs/cpu-8080-abc123.log",
		"started_at":"2025-11-23T16:04:05.006Z","ready_at":null}`, httpapi.WorkerShape(w))
}

func TestWorkerStates(t *testing.T) {
	shown := map[store.WorkerState]string{
		store.WorkerSpawning: "starting", store.WorkerRunning: "starting", store.WorkerLoading: "loading", store.WorkerReady: "ready", store.WorkerUnhealthy: "unhealthy",
		store.WorkerStopping: "stopping", store.WorkerStopped: "stopped", store.WorkerFailed: "failed", store.WorkerUnverified: "unverified",
	}
	for state, want := range shown {
		w := httpapi.WorkerShape(store.Worker{State: state, LeaseID: "l", Identity: &store.Identity{PID: 5}})
		require.Equal(t, want, w.State)
		require.Equal(t, state.Ended(), w.PID == nil, "%s: a PID after death may be a stranger's", state)
		require.Equal(t, state.Ended(), w.LeaseID == nil, "%s", state)
	}
}

func TestJobShape(t *testing.T) {
	j := store.Job{JobID: "job-1", Operation: "worker_spawn", State: store.JobQueued, CreatedAt: at}
	requireJSON(t, `{"job_id":"job-1","operation":"worker_spawn","state":"queued","requested_by":null,"request":null,"result":null,"error":null,
		"created_at":"2025-11-23T16:04:05.006Z","started_at":null,"finished_at":null}`, httpapi.JobShape(j))

	uid := uint32(1000)
	j.RequestedBy = &store.Requester{UID: &uid, User: "alice", PID: 7}
	j.Request, j.Result = json.RawMessage(`{ "operation": "x" }`), json.RawMessage{}
	j.Error, j.State, j.StartedAt, j.FinishedAt = &store.JobError{Code: "internal", Message: "m"}, store.JobFailed, &at, &at
	requireJSON(t, `{"job_id":"job-1","operation":"worker_spawn","state":"failed","requested_by":{"name":"alice (uid 1000, pid 7)","hive":false,"token":null,"uid":1000,"user":"alice","pid":7},"request":{"operation":"x"},"result":null,
		"error":{"code":"internal","message":"m","log":[]},"created_at":"2025-11-23T16:04:05.006Z",
		"started_at":"2025-11-23T16:04:05.006Z","finished_at":"2025-11-23T16:04:05.006Z"}`, httpapi.JobShape(j))
}

func TestLeaseShape(t *testing.T) {
	l := store.Lease{Port: 8080, LeaseID: "l1", Kind: store.LeaseWorker, WorkerID: "w", Identity: &store.Identity{PID: 9}, State: store.LeaseHeld, AcquiredAt: at}
	requireJSON(t, `{"port":8080,"lease_id":"l1","kind":"worker","worker_id":"w","owner":null,"requested_by":null,"pid":9,"state":"held",
		"ports":[8080],"reason":null,"ttl_ms":null,"acquired_at":"2025-11-23T16:04:05.006Z","expires_at":null}`, httpapi.LeaseShape(l))
	l.Identity, l.State = nil, store.LeaseQuarantined
	require.Nil(t, httpapi.LeaseShape(l).PID)
}

func TestEventShape(t *testing.T) {
	requireJSON(t, `{"seq":3,"job_seq":null,"at":"2025-11-23T16:04:05.006Z","type":"state","job_id":null,"worker_id":"w","message":"m","data":null}`,
		httpapi.EventShape(store.Event{Seq: 3, At: at, Type: store.EventState, WorkerID: "w", Message: "m"}))
}

func TestWorkerCursor(t *testing.T) {
	w := store.Worker{Port: 8080, StartedAt: at, WorkerID: "a/b-8080-x"}
	back, err := httpapi.WorkerCursorRoundTrip(w)
	require.NoError(t, err)
	require.Equal(t, w.Port, back.Port)
	require.Equal(t, w.WorkerID, back.WorkerID)
	require.True(t, w.StartedAt.Equal(back.StartedAt))
	for _, bad := range []string{"x", "8080", "8080/x/y", "99999/1/y", "-1/1/y"} {
		require.ErrorContains(t, httpapi.ParseWorkerCursor(bad), "after:", bad)
	}
}

// requireJSON compares every member: what is absent is null, never left out.
func requireJSON(t *testing.T, want string, got any) {
	t.Helper()
	var w, g any
	require.NoError(t, json.Unmarshal([]byte(want), &w))
	require.NoError(t, json.Unmarshal([]byte(httpapi.MustJSON(got)), &g))
	if diff := cmp.Diff(w, g); diff != "" {
		t.Fatalf("(-want +got)\n%s", diff)
	}
}
