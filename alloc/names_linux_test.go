package alloc_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/alloc"
	"rbeehive/alloc/internal/porttest"
	"rbeehive/store"
)

func TestANameKeepsItsPort(t *testing.T) {
	f := setUp(t, 4)
	named := f.lease(alloc.Request{Name: "llama"})
	require.Equal(t, f.port(0), named.Port)
	f.release(named)
	f.restart()

	other := f.lease(alloc.Request{})
	require.Equal(t, f.port(1), other.Port, "the port of a name is given to others last")
	r := f.acquire(alloc.Request{Name: "llama"})
	require.Equal(t, named.Port, r.Port)
	require.Equal(t, named.Port, r.Former)
	require.False(t, r.NameMoved)
	r.Abandon()

	f.lease(alloc.Request{})
	f.lease(alloc.Request{})
	taken := f.lease(alloc.Request{})
	require.Equal(t, named.Port, taken.Port, "last, not never")
	f.release(other)
	moved := f.acquire(alloc.Request{Name: "llama"})
	require.Equal(t, other.Port, moved.Port)
	require.True(t, moved.NameMoved)
	require.NoError(t, f.record(moved, newLease(moved.Port, 7)))
	require.NoError(t, f.store.View(func(tx *store.Tx) error {
		port, err := tx.NamedPort("llama")
		require.Equal(t, moved.Port, port)
		return err
	}))
}

// names are those that the store knows.
func (f *fixture) names() map[string]uint16 {
	f.t.Helper()
	names := map[string]uint16{}
	require.NoError(f.t, f.store.View(func(tx *store.Tx) error {
		for n, err := range tx.NamedPorts() {
			if err != nil {
				return err
			}
			names[n.Name] = n.Port
		}
		return nil
	}))
	return names
}

// Names once stayed for ever: a caller who gave each worker a new one made the file, the
// memory and each start grow.
func TestAPortRemembersItsLastNameOnly(t *testing.T) {
	f := setUp(t, 3)
	for n := range 20 {
		f.release(f.lease(alloc.Request{Name: fmt.Sprintf("name-%d", n)}))
	}
	require.Len(t, f.names(), 3)
	f.restart()
	last := f.names()["name-19"]
	r := f.acquire(alloc.Request{Name: "name-19"})
	require.Equal(t, last, r.Port)
	require.Equal(t, last, r.Former)
	r.Abandon()
	require.Zero(t, f.acquire(alloc.Request{Name: "name-0"}).Former, "others have had its port since")
}

// A file that an older hive wrote may have several names of one port: which of them had it
// last is not known.
func TestSeveralNamesOfOnePort(t *testing.T) {
	f := setUp(t, 3)
	require.NoError(t, f.store.Update(t.Context(), func(tx *store.Tx) error {
		return errors.Join(tx.SetNamedPort("a", f.port(0)), tx.SetNamedPort("b", f.port(0)), tx.SetNamedPort("c", f.port(1)))
	}))
	f.restart()
	for _, name := range []string{"a", "b"} {
		r := f.acquire(alloc.Request{Name: name})
		require.Equal(t, f.port(0), r.Port)
		r.Abandon()
	}
	f.release(f.lease(alloc.Request{Name: "b"}))
	require.Equal(t, map[string]uint16{"b": f.port(0), "c": f.port(1)}, f.names())
}

// What was not recorded has changed no name's port.
func TestAbandonGivesNamesTheirPortsBack(t *testing.T) {
	f := setUp(t, 2)
	before := map[string]uint16{"a": f.port(0), "b": f.port(1)}
	f.release(f.lease(alloc.Request{Name: "a"}))
	f.release(f.lease(alloc.Request{Name: "b"}))
	require.Equal(t, before, f.names())
	r := f.acquire(alloc.Request{Name: "b", Port: f.port(0)})
	refused := errors.New("refused")
	require.ErrorIs(t, f.store.Update(t.Context(), func(tx *store.Tx) error {
		require.NoError(t, r.Record(tx, newLease(r.Port, 1)))
		return refused
	}), refused)
	r.Abandon()
	require.Equal(t, before, f.names())
	for name, port := range before {
		r := f.acquire(alloc.Request{Name: name})
		require.Equal(t, port, r.Port)
		require.Equal(t, port, r.Former)
		r.Abandon()
	}
}

func TestANameWhosePortIsForeign(t *testing.T) {
	f := setUp(t, 3)
	f.lease(alloc.Request{})
	named := f.lease(alloc.Request{Name: "llama"})
	f.release(named)
	porttest.Listen(t, loopback(named.Port), porttest.Options{ReuseAddr: true})
	r := f.acquire(alloc.Request{Name: "llama"})
	require.Equal(t, f.port(2), r.Port)
	require.True(t, r.NameMoved)
	require.Len(t, r.Skipped, 1)
	require.Equal(t, named.Port, r.Skipped[0].Port)
}
