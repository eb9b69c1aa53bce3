package alloc_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/alloc"
	"rbeehive/alloc/internal/porttest"
	"rbeehive/alloc/sockets"
	"rbeehive/store"
	"rbeehive/store/storetest"
)

func TestNewRefusesWhatCannotWork(t *testing.T) {
	st := storetest.Open(t)
	ok := alloc.Options{Range: alloc.Range{First: 8080, Last: 8082}, Store: st}
	_, err := alloc.New(ok)
	require.NoError(t, err)
	for want, change := range map[error]func(*alloc.Options){
		alloc.ErrBadRange:  func(o *alloc.Options) { o.Range = alloc.Range{First: 2, Last: 1} },
		alloc.ErrBadPolicy: func(o *alloc.Options) { o.Policy = "random" },
	} {
		o := ok
		change(&o)
		_, err := alloc.New(o)
		require.ErrorIs(t, err, want)
	}
	for _, reserved := range [][]alloc.Range{{{}}, {ok.Range}, {{First: 1, Last: 8081}, {First: 8082, Last: 9000}}} {
		o := ok
		o.Reserved = reserved
		_, err := alloc.New(o)
		require.ErrorIs(t, err, alloc.ErrBadRange, reserved)
	}
	_, err = alloc.New(alloc.Options{Range: ok.Range})
	require.Error(t, err)
}

func TestNothingBeforeRebuildOrAfterClose(t *testing.T) {
	f := setUp(t, 2)
	a, err := alloc.New(alloc.Options{Range: f.rng, Store: f.store})
	require.NoError(t, err)
	for _, want := range []error{alloc.ErrNotReady, alloc.ErrClosed} {
		for _, req := range []alloc.Request{{}, {Port: f.port(0)}} {
			_, err = a.Acquire(t.Context(), req)
			require.ErrorIs(t, err, want)
		}
		_, err = a.Survey(t.Context())
		require.ErrorIs(t, err, want)
		_, err = a.Tally(t.Context())
		require.ErrorIs(t, err, want)
		require.Empty(t, a.Contested())
		require.NoError(t, a.Close())
		require.NoError(t, a.Close())
	}
	require.ErrorIs(t, a.Rebuild(t.Context()), alloc.ErrClosed)
}

func TestReservedAndOwnPortsAreNeverGivenOut(t *testing.T) {
	f := setUp(t, 5)
	f.restart(func(o *alloc.Options) {
		o.Reserved = []alloc.Range{{First: f.port(0), Last: f.port(1)}}
		o.Never = []uint16{f.port(3), 7835}
	})
	require.Equal(t, f.port(2), f.lease(alloc.Request{}).Port)
	require.Equal(t, f.port(4), f.lease(alloc.Request{}).Port)
	_, err := f.Acquire(t.Context(), alloc.Request{})
	var e *alloc.ExhaustedError
	require.ErrorAs(t, err, &e)
	require.Equal(t, &alloc.ExhaustedError{Range: f.rng, Leased: 2, Reserved: 3}, e)
	for port, why := range map[uint16]string{f.port(0): "reserved", f.port(3): "own API", 7835: "own API"} {
		_, err := f.Acquire(t.Context(), alloc.Request{Port: port})
		require.ErrorIs(t, err, alloc.ErrUnavailable)
		require.ErrorContains(t, err, why)
	}
}

func TestALeasedPortThatIsAskedForNamesItsHolder(t *testing.T) {
	f := setUp(t, 2)
	l := f.lease(alloc.Request{Port: f.port(1)})
	_, err := f.Acquire(t.Context(), alloc.Request{Port: l.Port})
	require.ErrorIs(t, err, alloc.ErrUnavailable)
	require.ErrorContains(t, err, "leased to worker "+l.WorkerID)
}

func TestLeasesSurviveARestart(t *testing.T) {
	f := setUp(t, 4)
	a, b := f.lease(alloc.Request{}), f.lease(alloc.Request{})
	require.NoError(t, f.store.Update(t.Context(), func(tx *store.Tx) error {
		b.State, b.Identity = store.LeaseQuarantined, nil
		w := worker(b)
		w.State = store.WorkerFailed
		return errors.Join(tx.PutLease(b), tx.PutWorker(w))
	}))
	f.restart()
	require.Equal(t, []uint16{a.Port, b.Port}, f.Ports(), "a quarantined port is taken")
	require.Empty(t, f.Contested())
	require.Equal(t, f.port(2), f.lease(alloc.Request{}).Port)
	f.release(a)
	require.Equal(t, a.Port, f.lease(alloc.Request{}).Port)
}

func TestTheCursorSurvivesARestart(t *testing.T) {
	f := setUp(t, 4, sequential)
	f.release(f.lease(alloc.Request{}))
	f.release(f.lease(alloc.Request{}))
	f.lease(alloc.Request{Port: f.port(3)}) // asked for: no business of the cursor
	f.restart(sequential)
	require.Equal(t, f.port(2), f.lease(alloc.Request{}).Port)
	require.Equal(t, f.port(0), f.lease(alloc.Request{}).Port)

	f.restart() // another policy in the configuration
	require.Equal(t, f.port(1), f.lease(alloc.Request{}).Port)
}

func TestTheCursorDoesNotGoBack(t *testing.T) {
	f := setUp(t, 4, sequential)
	first, second := f.acquire(alloc.Request{}), f.acquire(alloc.Request{})
	l := newLease(second.Port, 2)
	require.NoError(t, f.record(second, l))
	require.NoError(t, f.record(first, newLease(first.Port, 1))) // commits come in any order
	f.release(l)
	f.restart(sequential)
	require.Equal(t, f.port(2), f.lease(alloc.Request{}).Port)
}

func TestLeasesOutsideTheRangeLiveOn(t *testing.T) {
	f := setUp(t, 6)
	whole := f.rng
	old := f.lease(alloc.Request{})
	f.rng = alloc.Range{First: whole.First + 2, Last: whole.First + 3}
	f.restart()

	require.True(t, f.Leased(old.Port))
	s, err := f.Survey(t.Context())
	require.NoError(t, err)
	require.Equal(t, 3, s.Total)
	require.Equal(t, 1, s.Outside)
	tally, err := f.Tally(t.Context())
	require.NoError(t, err)
	s.Holders = nil
	require.Equal(t, s, tally, "a tally is a survey without the holders")
	require.Equal(t, 1, s.Leased)
	require.Equal(t, 2, s.Free)

	asked := f.lease(alloc.Request{Port: whole.Last}) // may lie outside
	require.Equal(t, whole.Last, asked.Port)
	f.release(old)
	for range 2 {
		require.True(t, f.rng.Contains(f.lease(alloc.Request{}).Port))
	}
	_, err = f.Acquire(t.Context(), alloc.Request{})
	require.ErrorIs(t, err, alloc.ErrExhausted, "the old port is not reissued")
}

func TestAbandonGivesThePortBack(t *testing.T) {
	f := setUp(t, 2)
	r := f.acquire(alloc.Request{Name: "llama"})
	require.True(t, f.Leased(r.Port))
	r.Abandon()
	r.Abandon()
	require.False(t, f.Leased(r.Port))
	require.ErrorIs(t, f.record(r, newLease(r.Port, 1)), alloc.ErrMisuse)
	require.Empty(t, f.leases())

	// Twice must not free what the next one got.
	again := f.acquire(alloc.Request{})
	require.Equal(t, r.Port, again.Port)
	r.Abandon()
	require.True(t, f.Leased(again.Port))
}

func TestAbandonAfterAFailedTransaction(t *testing.T) {
	f := setUp(t, 2)
	r := f.acquire(alloc.Request{Name: "llama"})
	refused := errors.New("refused")
	err := f.store.Update(t.Context(), func(tx *store.Tx) error {
		require.NoError(t, r.Record(tx, newLease(r.Port, 1)))
		return refused
	})
	require.ErrorIs(t, err, refused)
	require.True(t, f.Leased(r.Port))
	r.Abandon()
	require.False(t, f.Leased(r.Port))
	require.Zero(t, f.acquire(alloc.Request{Name: "llama"}).Former, "the name remembers nothing")
}

func TestAbandonAfterSuccessFreesNothing(t *testing.T) {
	f := setUp(t, 2)
	r := f.acquire(alloc.Request{})
	l := newLease(r.Port, 1)
	require.NoError(t, f.record(r, l))
	r.Abandon()
	require.True(t, f.Leased(r.Port))
	f.release(l)
	next := f.acquire(alloc.Request{})
	r.Abandon() // its lease has ended, and the port is somebody else's
	require.True(t, f.Leased(next.Port))
}

func TestRecordRefusesMisuse(t *testing.T) {
	f := setUp(t, 3)
	r := f.acquire(alloc.Request{})
	require.ErrorIs(t, f.record(r, newLease(r.Port+1, 1)), alloc.ErrMisuse)
	require.NoError(t, f.record(r, newLease(r.Port, 1)))
	require.ErrorIs(t, f.record(r, newLease(r.Port, 1)), alloc.ErrMisuse)

	// A lease that the pool does not know of: the port is not free, whatever it thinks.
	r = f.acquire(alloc.Request{})
	l := newLease(r.Port, 2)
	require.NoError(t, f.store.Update(t.Context(), func(tx *store.Tx) error {
		return errors.Join(tx.PutLease(l), tx.PutWorker(worker(l)))
	}))
	require.ErrorIs(t, f.record(r, newLease(r.Port, 3)), store.ErrLeaseConflict)
	r.Abandon()
	require.True(t, f.Leased(r.Port))
}

func TestAFailedReleaseReleasesNothing(t *testing.T) {
	f := setUp(t, 2)
	l := f.lease(alloc.Request{})
	refused := errors.New("refused")
	err := f.Release(t.Context(), l.Port, l.LeaseID, func(*store.Tx) error { return refused })
	require.ErrorIs(t, err, refused)
	require.True(t, f.Leased(l.Port))
	require.Equal(t, []store.Lease{l}, f.leases())

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, f.Release(ctx, l.Port, l.LeaseID, nil), context.Canceled)
	require.True(t, f.Leased(l.Port))
	f.release(l)
}

func TestAvoidedPortsAreSkippedForAWhile(t *testing.T) {
	f := setUp(t, 2)
	f.Avoid(f.port(0), "a second server was seen on it")
	r := f.acquire(alloc.Request{})
	require.Equal(t, f.port(1), r.Port)
	require.Equal(t, []sockets.Holder{{Port: f.port(0), Kind: sockets.KindUnknown, Program: "a second server was seen on it"}}, r.Skipped)

	asked := f.acquire(alloc.Request{Port: f.port(0)}) // a request by number is checked
	asked.Abandon()
	require.Equal(t, f.port(0), f.acquire(alloc.Request{}).Port, "which cleared it")
}

func TestSurveyCountsSumToTotal(t *testing.T) {
	f := setUp(t, 8)
	f.restart(func(o *alloc.Options) { o.Reserved = []alloc.Range{{First: f.port(7), Last: f.port(7)}} })
	held, quarantined := f.lease(alloc.Request{}), f.lease(alloc.Request{})
	quarantined.State, quarantined.Identity = store.LeaseQuarantined, nil
	require.NoError(t, f.store.Update(t.Context(), func(tx *store.Tx) error {
		w := worker(quarantined)
		w.State = store.WorkerFailed
		return errors.Join(tx.PutLease(quarantined), tx.PutWorker(w))
	}))
	open := f.acquire(alloc.Request{}) // port 2, being leased
	defer open.Abandon()
	porttest.Listen(t, loopback(held.Port), porttest.Options{})
	porttest.Listen(t, loopback(f.port(3)), porttest.Options{})
	porttest.TimeWait(t, f.port(4), false)
	porttest.Outgoing(t, f.port(5))
	for _, i := range []int{4, 5} { // what only a bind shows is known once somebody tried
		_, err := f.Acquire(t.Context(), alloc.Request{Port: f.port(i)})
		require.ErrorIs(t, err, alloc.ErrUnavailable)
	}

	s, err := f.Survey(t.Context())
	require.NoError(t, err)
	holders := s.Holders
	s.Holders = nil
	require.Equal(t, alloc.Survey{
		Range: f.rng, Total: 8, Free: 1, Leased: 2, Quarantined: 1, Reserved: 1, Foreign: 2, Draining: 1,
	}, s)
	kinds := map[uint16]string{}
	for _, h := range holders {
		kinds[h.Port] = h.Kind
		require.NotZero(t, h.PID)
	}
	require.Equal(t, map[uint16]string{
		held.Port: string(store.LeaseWorker), f.port(3): sockets.KindListener, f.port(5): sockets.KindConnection,
	}, kinds)
	require.Equal(t, s.Total, s.Free+s.Leased+s.Quarantined+s.Reserved+s.Foreign+s.Draining)
}

func TestAcquireStopsWithItsContext(t *testing.T) {
	f := setUp(t, 2)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, req := range []alloc.Request{{}, {Port: f.port(0)}} {
		_, err := f.Acquire(ctx, req)
		require.ErrorIs(t, err, context.Canceled)
	}
	require.Zero(t, f.Count())
}

// Many callers lease and release while other programs come and go on the same ports: nobody
// ever has a port that another has, and nothing is left over.
func TestNoPortTwiceAmongForeignPrograms(t *testing.T) {
	const ports, callers, enough = 12, 8, 200
	f := setUp(t, ports)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	var mu sync.Mutex
	owner := map[uint16]int{}
	leased := 0
	for i := range callers {
		wg.Go(func() {
			for ctx.Err() == nil {
				r, err := f.Acquire(ctx, alloc.Request{})
				if errors.Is(err, alloc.ErrExhausted) || errors.Is(err, context.Canceled) {
					continue
				}
				if !assertNil(t, err) {
					return
				}
				mu.Lock()
				if other, twice := owner[r.Port]; twice {
					t.Errorf("port %d: given to %d while %d has it", r.Port, i, other)
				}
				owner[r.Port] = i
				if leased++; leased == enough {
					cancel()
				}
				mu.Unlock()
				l := newLease(r.Port, 100+i)
				if !assertNil(t, f.record(r, l)) {
					return
				}
				mu.Lock()
				delete(owner, r.Port)
				mu.Unlock()
				if !assertNil(t, f.Release(context.Background(), l.Port, l.LeaseID, ended(l))) {
					return
				}
			}
		})
	}
	wg.Go(func() {
		for ctx.Err() == nil {
			foreignProgram(loopback(f.port(rand.IntN(ports))), rand.IntN(2) == 0)
		}
	})
	wg.Wait()
	require.GreaterOrEqual(t, leased, enough)
	require.Zero(t, f.Count())
	require.Empty(t, f.leases())
}
