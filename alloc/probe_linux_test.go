package alloc_test

import (
	"net/netip"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/alloc"
	"rbeehive/alloc/internal/porttest"
	"rbeehive/alloc/sockets"
)

// situation is a row of the table "Is it really free?".
type situation struct {
	make func(t *testing.T, port uint16)
	// What becomes of the port where the table lists bound sockets, and where not.
	want, wantOld string
	kind          string // of the holder, if foreign
}

const (
	free     = "free"
	foreign  = "foreign"
	draining = "draining" // unavailable until the kernel frees it
	last     = "last"     // given out, as draining
)

func listener(addr string, o porttest.Options) func(*testing.T, uint16) {
	return func(t *testing.T, port uint16) {
		porttest.Listen(t, netip.AddrPortFrom(netip.MustParseAddr(addr), port), o)
	}
}

func bound(addr string, o porttest.Options) func(*testing.T, uint16) {
	return func(t *testing.T, port uint16) {
		porttest.Bind(t, netip.AddrPortFrom(netip.MustParseAddr(addr), port), o)
	}
}

func situations() map[string]situation {
	reuse := porttest.Options{ReuseAddr: true}
	both := porttest.Options{ReuseAddr: true, ReusePort: true}
	all := map[string]situation{
		"nobody":                    {make: func(*testing.T, uint16) {}, want: free, wantOld: free},
		"TIME_WAIT, reuse":          {make: func(t *testing.T, p uint16) { porttest.TimeWait(t, p, true) }, want: free, wantOld: last},
		"TIME_WAIT, no reuse":       {make: func(t *testing.T, p uint16) { porttest.TimeWait(t, p, false) }, want: draining, wantOld: draining},
		"FIN_WAIT2, no process":     {make: func(t *testing.T, p uint16) { porttest.FinWait2(t, p) }, want: free, wantOld: last},
		"outgoing connection":       {make: func(t *testing.T, p uint16) { porttest.Outgoing(t, p) }, want: foreign, wantOld: foreign, kind: sockets.KindConnection},
		"SO_REUSEPORT listener":     {make: listener("127.0.0.1", porttest.Options{ReusePort: true}), want: foreign, wantOld: foreign, kind: sockets.KindListener},
		"listener without flags":    {make: listener("127.0.0.1", porttest.Options{}), want: foreign, wantOld: foreign, kind: sockets.KindListener},
		"listener on IPv6 only":     {make: listener("::", porttest.Options{ReuseAddr: true, V6Only: true}), want: foreign, wantOld: foreign, kind: sockets.KindListener},
		"bound without flags":       {make: bound("127.0.0.1", porttest.Options{}), want: foreign, wantOld: foreign, kind: sockets.KindBound},
		"bound, on another address": {make: bound("127.0.0.9", both), want: foreign, wantOld: foreign, kind: sockets.KindBound},
	}
	for _, addr := range []string{"127.0.0.1", "127.0.0.2", "0.0.0.0", "::1", "::"} {
		all["listener on "+addr] = situation{make: listener(addr, reuse), want: foreign, wantOld: foreign, kind: sockets.KindListener}
		all["bound with reuse flags on "+addr] = situation{make: bound(addr, both), want: foreign, wantOld: foreign, kind: sockets.KindBound}
	}
	return all
}

func TestIsItReallyFree(t *testing.T) {
	for source, table := range map[string]*sockets.Table{"sock_diag": sockets.NewTable(), "proc": sockets.NewProcTable()} {
		snap, err := table.Snapshot(t.Context(), 0)
		require.NoError(t, err)
		for name, s := range situations() {
			want := s.want
			if !snap.BoundKnown {
				want = s.wantOld
			}
			t.Run(source+"/"+name, func(t *testing.T) {
				f := setUp(t, 2, func(o *alloc.Options) { o.Sockets = table })
				s.make(t, f.port(0))
				f.expect(want, s.kind, snap.BoundKnown)
			})
		}
	}
}

// expect says what becomes of the first of two ports: by itself, and when the
// policy chooses.
func (f *fixture) expect(want, kind string, boundKnown bool) {
	t := f.t
	t.Helper()
	one, err := f.Acquire(t.Context(), alloc.Request{Port: f.port(0), Host: "127.0.0.1"})
	if want == free || want == last {
		require.NoError(t, err)
		require.Equal(t, want == last, one.Draining)
		one.Abandon()
	} else {
		require.ErrorIs(t, err, alloc.ErrUnavailable)
	}
	any, err := f.Acquire(t.Context(), alloc.Request{Host: "127.0.0.1"})
	require.NoError(t, err)
	defer any.Abandon()
	if want == free {
		require.Equal(t, f.port(0), any.Port)
		require.False(t, any.Draining)
		return
	}
	require.Equal(t, f.port(1), any.Port)
	if want == foreign {
		f.expectHolder(any, kind, boundKnown)
		return
	}
	require.Empty(t, any.Skipped, "nobody has it")
	second, err := f.Acquire(t.Context(), alloc.Request{})
	require.NoError(t, err, "a draining port is handed out last, not never")
	require.Equal(t, f.port(0), second.Port)
	require.True(t, second.Draining)
	second.Abandon()
}

func (f *fixture) expectHolder(r *alloc.Reservation, kind string, boundKnown bool) {
	t := f.t
	t.Helper()
	require.Len(t, r.Skipped, 1)
	h := r.Skipped[0]
	require.Equal(t, f.port(0), h.Port)
	_, err := f.Acquire(t.Context(), alloc.Request{Port: f.port(0)})
	var e *alloc.UnavailableError
	require.ErrorAs(t, err, &e)
	require.False(t, e.Draining)
	require.Equal(t, h, *e.Holder)
	if kind == sockets.KindBound && !boundKnown { // nothing shows it
		require.Equal(t, sockets.KindUnknown, h.Kind)
		return
	}
	require.Equal(t, kind, h.Kind)
	require.Equal(t, os.Getpid(), h.PID)
	require.NotEmpty(t, h.Program)
	require.NotEmpty(t, h.User)
	require.Contains(t, err.Error(), "held by "+h.Program+" (pid ")
}

func TestForeignPortsExhaustTheRange(t *testing.T) {
	f := setUp(t, 3)
	f.lease(alloc.Request{Port: f.port(1)})
	foreign := porttest.Listen(t, loopback(f.port(0)), porttest.Options{})
	porttest.Bind(t, loopback(f.port(2)), porttest.Options{ReuseAddr: true})
	for range 2 { // the second time all is known
		_, err := f.Acquire(t.Context(), alloc.Request{})
		var e *alloc.ExhaustedError
		require.ErrorAs(t, err, &e)
		require.Equal(t, &alloc.ExhaustedError{Range: f.rng, Leased: 1, Foreign: 2}, e)
		require.EqualError(t, err, "no ports available (all "+f.rng.String()+
			" in use); 2 of them by programs that hive did not start")
	}
	foreign.Close()
	r := f.acquire(alloc.Request{}) // in spite of the back-off: there is nothing else
	require.Equal(t, f.port(0), r.Port)
	require.Len(t, r.Skipped, 1)
	require.Equal(t, f.port(2), r.Skipped[0].Port)
}

// The same search that finds a port draining gives it out if there is no other.
func TestADrainingPortIsTheLastResort(t *testing.T) {
	f := setUp(t, 2)
	porttest.TimeWait(t, f.port(1), false)
	f.lease(alloc.Request{})
	r := f.acquire(alloc.Request{})
	require.Equal(t, f.port(1), r.Port)
	require.True(t, r.Draining)

	_, err := f.Acquire(t.Context(), alloc.Request{})
	require.ErrorIs(t, err, alloc.ErrExhausted)
	r.Abandon()
	_, err = f.Acquire(t.Context(), alloc.Request{Port: f.port(1)})
	var e *alloc.UnavailableError
	require.ErrorAs(t, err, &e)
	require.True(t, e.Draining, "worth waiting for")
	require.Nil(t, e.Holder)
}

func TestSkippedPortsOfThePolicies(t *testing.T) {
	f := setUp(t, 5, sequential)
	for _, i := range []int{0, 2, 4} {
		porttest.Listen(t, loopback(f.port(i)), porttest.Options{ReuseAddr: true})
	}
	skipped := func(r *alloc.Reservation) (ports []uint16) {
		for _, h := range r.Skipped {
			ports = append(ports, h.Port)
		}
		return ports
	}
	first := f.acquire(alloc.Request{})
	require.Equal(t, f.port(1), first.Port)
	require.Equal(t, []uint16{f.port(0)}, skipped(first))
	second := f.acquire(alloc.Request{})
	require.Equal(t, f.port(3), second.Port)
	require.Equal(t, []uint16{f.port(2)}, skipped(second), "only what was passed over this time")
	first.Abandon()
	third := f.acquire(alloc.Request{})
	require.Equal(t, f.port(1), third.Port)
	require.Equal(t, []uint16{f.port(4), f.port(0)}, skipped(third), "around the end")
}

func TestHostOfTheWorker(t *testing.T) {
	f := setUp(t, 2)
	for _, host := range []string{"", "127.0.0.1", "127.3.4.5", "localhost", "::1", "0.0.0.0", "::", "::ffff:127.0.0.1", "no.such.name.invalid", "fe80::1%lo"} {
		f.acquire(alloc.Request{Host: host}).Abandon()
	}
	// TEST-NET-1 (RFC 5737) is nobody's address.
	_, err := f.Acquire(t.Context(), alloc.Request{Host: "192.0.2.1"})
	require.ErrorIs(t, err, alloc.ErrBadHost)
	require.Zero(t, f.Count(), "the port was given back")
}

// Two hives on one machine, with the same range and different files.
func TestTwoHivesNeverLeaseTheSamePort(t *testing.T) {
	f := setUp(t, 3)
	other := setUp(t, 1, func(o *alloc.Options) { o.Range = f.rng })
	mine := f.lease(alloc.Request{})
	require.Equal(t, f.port(0), mine.Port)

	r := other.acquire(alloc.Request{})
	require.Equal(t, f.port(1), r.Port)
	require.Len(t, r.Skipped, 1)
	require.Equal(t, sockets.KindHive, r.Skipped[0].Kind)
	require.Equal(t, os.Getpid(), r.Skipped[0].PID)
	_, err := other.Acquire(t.Context(), alloc.Request{Port: f.port(0)})
	require.ErrorIs(t, err, alloc.ErrUnavailable)

	r.Abandon()
	f.release(mine)
	other.Forget()
	require.Equal(t, f.port(0), other.acquire(alloc.Request{}).Port)
}

func TestContestedClaims(t *testing.T) {
	f := setUp(t, 3)
	l := f.lease(alloc.Request{})
	require.NoError(t, f.Close())

	squatter, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, unix.Bind(squatter, &unix.SockaddrUnix{Name: "@" + alloc.ClaimName(l.Port)}))
	f.Allocator = f.again()
	require.Equal(t, []uint16{l.Port}, f.Contested(), "reported, not an error")
	require.True(t, f.Leased(l.Port))

	require.NoError(t, unix.Close(squatter))
	require.Empty(t, f.Contested(), "taken as soon as it can be")
	open := f.acquire(alloc.Request{})
	require.Empty(t, f.Contested())
	open.Abandon()
	f.release(l)
	f.lease(alloc.Request{Port: l.Port})
}
