package sockets_test

import (
	"context"
	"net/netip"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/alloc/internal/porttest"
	"rbeehive/alloc/sockets"
	"rbeehive/test/skip"
)

// tables are the two sources; each test of what is seen runs on both.
func tables() map[string]*sockets.Table {
	return map[string]*sockets.Table{
		sockets.SourceSockDiag: sockets.NewTable(),
		sockets.SourceProc:     sockets.NewProcTable(),
	}
}

func fresh(t *testing.T, table *sockets.Table) *sockets.Snapshot {
	t.Helper()
	snap, err := table.Snapshot(t.Context(), 0)
	require.NoError(t, err)
	return snap
}

func itoa(n int) string { return strconv.Itoa(n) }

func at(addr string, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(addr), port)
}

func TestSnapshotShowsListeners(t *testing.T) {
	for source, table := range tables() {
		for _, addr := range []string{"127.0.0.1", "127.0.0.2", "0.0.0.0", "::1", "::"} {
			t.Run(source+" "+addr, func(t *testing.T) {
				port := porttest.Free(t, 1)
				s := porttest.Listen(t, at(addr, port), porttest.Options{ReuseAddr: true})

				snap := fresh(t, table)
				require.Equal(t, source, snap.Source)
				require.False(t, snap.AllStates)
				got := snap.Listeners(port)
				require.Len(t, got, 1)
				require.Equal(t, at(addr, port), got[0].Local)
				require.Equal(t, sockets.Listen, got[0].State)
				require.Equal(t, porttest.Inode(t, s.FD()), got[0].Inode)
				require.EqualValues(t, os.Getuid(), got[0].UID)
				require.Equal(t, source == sockets.SourceSockDiag, got[0].CgroupID != 0)
				require.Empty(t, snap.Residue(port))

				s.Close()
				require.Empty(t, fresh(t, table).Port(port))
			})
		}
	}
}

func TestSnapshotShowsBothReusePortListeners(t *testing.T) {
	for source, table := range tables() {
		t.Run(source, func(t *testing.T) {
			port := porttest.Free(t, 1)
			for range 2 {
				porttest.Listen(t, at("127.0.0.1", port), porttest.Options{ReusePort: true})
			}
			require.Len(t, fresh(t, table).Listeners(port), 2)
		})
	}
}

// vLLM binds its port when it starts and listens minutes later.
func TestSnapshotShowsBoundSockets(t *testing.T) {
	table := sockets.NewTable()
	if !fresh(t, table).BoundKnown {
		skip.Because(t, "kernel older than 6.8 does not list bound sockets")
	}
	port := porttest.Free(t, 1)
	s := porttest.Bind(t, at("127.0.0.1", port), porttest.Options{ReuseAddr: true, ReusePort: true})

	got := fresh(t, table).Listeners(port)
	require.Len(t, got, 1)
	require.Equal(t, sockets.Bound, got[0].State)
	require.Equal(t, porttest.Inode(t, s.FD()), got[0].Inode)

	old := fresh(t, sockets.NewProcTable())
	require.False(t, old.BoundKnown)
	require.Empty(t, old.Listeners(port))
}

func TestPortShowsEveryState(t *testing.T) {
	for source, table := range tables() {
		t.Run(source, func(t *testing.T) {
			port := porttest.Free(t, 2)
			server := porttest.Listen(t, at("127.0.0.1", port), porttest.Options{ReuseAddr: true})
			server.Connect()
			porttest.Outgoing(t, port+1)

			snap, err := table.Port(t.Context(), port)
			require.NoError(t, err)
			require.True(t, snap.AllStates)
			states := map[sockets.State]int{}
			for _, s := range snap.Port(port) {
				states[s.State]++
			}
			require.Equal(t, map[sockets.State]int{sockets.Listen: 1, sockets.Established: 1}, states)
			require.Len(t, snap.All(), 2, "sockets of other ports")

			shared := fresh(t, table)
			require.Len(t, shared.Port(port), 1, "the shared snapshot leaves connections out")
			require.Empty(t, shared.Port(port+1))
		})
	}
}

func TestPortShowsResidue(t *testing.T) {
	for source, table := range tables() {
		t.Run(source, func(t *testing.T) {
			port := porttest.Free(t, 2)
			porttest.TimeWait(t, port, true)
			porttest.FinWait2(t, port+1)
			for i, want := range []sockets.State{sockets.TimeWait, sockets.FinWait2} {
				snap, err := table.Port(t.Context(), port+uint16(i))
				require.NoError(t, err)
				require.Empty(t, snap.Listeners(port+uint16(i)))
				got := snap.Residue(port + uint16(i))
				require.Len(t, got, 1)
				require.Equal(t, want, got[0].State)
			}
		})
	}
}

// The kernel's walk is interrupted between pieces, and then can list one twice.
func TestSnapshotListsASocketOnce(t *testing.T) {
	one := sockets.Socket{Local: at("127.0.0.1", 9), State: sockets.Listen, Inode: 7}
	other, residue := one, one
	other.Inode = 8 // SO_REUSEPORT
	residue.Inode, residue.State, residue.Remote = 0, sockets.TimeWait, at("127.0.0.1", 1)
	second := residue
	second.Remote = at("127.0.0.1", 2)
	moved := one
	moved.Local = at("127.0.0.1", 8)
	moved.Inode = 9
	snap := sockets.NewSnapshot(one, residue, other, moved, one, second, residue)
	require.Equal(t, []sockets.Socket{moved, residue, second, one, other}, snap.All())
	require.Equal(t, []sockets.Socket{one, other}, snap.Listeners(9))
	require.Equal(t, []sockets.Socket{residue, second}, snap.Residue(9))
	require.Empty(t, snap.Port(10))
}

func TestSnapshotIsSharedByThoseWhoWait(t *testing.T) {
	table := sockets.NewTable()
	release := table.Occupy()
	var started, done sync.WaitGroup
	for range 50 {
		started.Add(1)
		done.Go(func() {
			started.Done()
			_, err := table.Snapshot(context.Background(), 0)
			require.NoError(t, err)
		})
	}
	started.Wait()
	release()
	done.Wait()
	// Those that had not begun to wait when the first read began need one more.
	require.LessOrEqual(t, table.Reads(), uint64(10))
	require.NotZero(t, table.Reads())
}

func TestSnapshotAge(t *testing.T) {
	table := sockets.NewTable()
	first := fresh(t, table)
	again, err := table.Snapshot(t.Context(), time.Hour)
	require.NoError(t, err)
	require.Same(t, first, again)

	require.NotSame(t, first, fresh(t, table), "0 means: begun after the call")
	again, err = table.Snapshot(t.Context(), time.Nanosecond)
	require.NoError(t, err)
	require.EqualValues(t, 3, table.Reads())
	require.True(t, again.TakenAt.After(first.TakenAt))
}

func TestSnapshotGivesUpWaiting(t *testing.T) {
	table := sockets.NewTable()
	release := table.Occupy()
	defer release()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := table.Snapshot(ctx, 0)
	require.ErrorIs(t, err, context.Canceled)
	_, err = table.Port(ctx, 80)
	require.ErrorIs(t, err, context.Canceled)
}

func TestReleaseAtLeast(t *testing.T) {
	for release, want := range map[string]bool{
		"6.8.0": true, "6.8-rc1": true, "6.18.44-x": true, "7.0": true, "10.1.2": true, "6.8": true,
		"6.7.12": false, "5.15.0-91-generic": false, "4.19": false, "": false, "next": false, "6": false,
	} {
		require.Equal(t, want, sockets.ReleaseAtLeast(release, 6, 8), release)
	}
}

func TestParseDiagRefusesNonsense(t *testing.T) {
	valid := make([]byte, 72)
	valid[0], valid[1] = 2, 10
	_, err := sockets.ParseDiag(valid)
	require.NoError(t, err)
	for name, b := range map[string][]byte{
		"short":            valid[:71],
		"attribute size 0": append(valid[:72:72], 0, 0, 21, 0),
		"attribute beyond": append(valid[:72:72], 200, 0, 21, 0, 1, 2, 3, 4),
	} {
		_, err := sockets.ParseDiag(b)
		require.ErrorIs(t, err, sockets.ErrMalformed, name)
	}
}
