package routes_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/alloc/sockets"
	"rbeehive/hive/catalog"
	"rbeehive/hive/routes"
	"rbeehive/hive/supervisor"
	"rbeehive/store"
)

// workers is a supervisor that counts how often it proves.
type workers struct {
	list   []store.Worker
	proven map[string]int
	fails  map[string]bool
}

func (w *workers) Workers() []store.Worker { return w.list }

func (w *workers) Prove(_ context.Context, ref string) (supervisor.Proof, error) {
	w.proven[ref]++
	if w.fails[ref] {
		return supervisor.Proof{}, errors.New("a stranger listens")
	}
	n := slices.IndexFunc(w.list, func(rec store.Worker) bool { return rec.WorkerID == ref })
	return supervisor.Proof{Worker: w.list[n], Listeners: []sockets.Socket{{Cookie: uint64(w.proven[ref])}}}, nil
}

func (w *workers) set(id string, change func(*store.Worker)) {
	n := slices.IndexFunc(w.list, func(rec store.Worker) bool { return rec.WorkerID == id })
	w.list = slices.Clone(w.list)
	change(&w.list[n])
}

func ready(id, typ, name, model string) store.Worker {
	w := store.Worker{WorkerID: id, Type: typ, Name: name, LeaseID: "lease-" + id, State: store.WorkerReady, Identity: &store.Identity{PID: 1}}
	w.Spec.Model = model
	return w
}

func newTable(t *testing.T, list ...store.Worker) (*routes.Table, *workers) {
	t.Helper()
	types, err := catalog.New([]catalog.Entry{
		{Name: "chat", Command: []string{"x", "{{.Port}}"}, Serve: catalog.ServeEntry{Names: []string{"gpt"}}, Model: "m.gguf"},
		{Name: "other", Command: []string{"x", "{{.Port}}"}},
	}, "/bin/hive")
	require.NoError(t, err)
	w := &workers{list: list, proven: map[string]int{}, fails: map[string]bool{}}
	return routes.New(w, func() *catalog.Catalog { return types }), w
}

func get(t *testing.T, table *routes.Table) map[string]routes.Route {
	t.Helper()
	list, err := table.Routes(t.Context())
	require.NoError(t, err)
	byName := map[string]routes.Route{}
	for _, r := range list {
		byName[r.Name] = r
	}
	return byName
}

// What leads to which worker: its names, its entry's and its model's.
func TestNamesOfRoutes(t *testing.T) {
	stopped := ready("old-1", "chat", "", "")
	stopped.State = store.WorkerStopped
	table, _ := newTable(t,
		ready("chat-1", "chat", "", "m.gguf"), ready("chat-2", "chat", "mine", "other.gguf"), ready("l-1", "llama-server", "", "q.gguf"), ready("l-2", "llama-server", "tiny", ""),
		ready("o-1", "other", "silent", ""), stopped,
	)
	got := get(t, table)
	require.Len(t, got, 4, "%+v", got)
	require.Equal(t, []string{"chat", "gpt", "m.gguf", "chat/m.gguf"}, got["chat"].Names)
	require.Len(t, got["chat"].Replicas, 1)
	require.Equal(t, []string{"mine", "chat", "gpt", "other.gguf", "chat/other.gguf"}, got["mine"].Names)
	require.Equal(t, []string{"q.gguf", "llama-server/q.gguf"}, got["q.gguf"].Names)
	require.Equal(t, []string{"tiny"}, got["tiny"].Names)
}

// A configured entry has a route also while nothing of it runs, and says how near it is.
func TestStatesOfRoutes(t *testing.T) {
	table, w := newTable(t)
	require.Equal(t, routes.Stopped, get(t, table)["chat"].State)
	w.list = []store.Worker{ready("chat-1", "chat", "", "")}
	w.set("chat-1", func(rec *store.Worker) { rec.State, rec.Reason = store.WorkerLoading, "half" })
	got := get(t, table)["chat"]
	require.Equal(t, "loading", got.State)
	require.Equal(t, "half", got.Reason)
	require.Empty(t, got.Replicas)
	require.Empty(t, w.proven, "nobody listens there for requests yet")
	w.set("chat-1", func(rec *store.Worker) { rec.State, rec.Reason = store.WorkerReady, "" })
	got = get(t, table)["chat"]
	require.Equal(t, "ready", got.State)
	require.Len(t, got.Replicas, 1)
}

// A proof is made once for each start, and again on request; who cannot be proven is no replica.
func TestProofsAreKept(t *testing.T) {
	table, w := newTable(t, ready("chat-1", "chat", "", ""))
	for range 3 {
		require.Equal(t, uint64(1), get(t, table)["chat"].Replicas[0].Listeners[0].Cookie)
	}
	require.Equal(t, 1, w.proven["chat-1"])

	again, err := table.Prove(t.Context(), "chat-1")
	require.NoError(t, err)
	require.Equal(t, uint64(2), again.Listeners[0].Cookie)
	require.Equal(t, uint64(2), get(t, table)["chat"].Replicas[0].Listeners[0].Cookie)

	w.set("chat-1", func(rec *store.Worker) { rec.Identity, rec.LeaseID = &store.Identity{PID: 2}, "another" })
	require.Equal(t, uint64(3), get(t, table)["chat"].Replicas[0].Listeners[0].Cookie, "it was started again")

	w.fails["chat-1"] = true
	_, err = table.Prove(t.Context(), "chat-1")
	require.Error(t, err)
	require.Empty(t, get(t, table)["chat"].Replicas)
	w.fails["chat-1"] = false
	require.Len(t, get(t, table)["chat"].Replicas, 1)
}
