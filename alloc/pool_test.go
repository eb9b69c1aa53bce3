package alloc_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"rbeehive/alloc"
	"rbeehive/alloc/sockets"
)

// model is the pool as one would write it without thinking of speed.
type model struct {
	rng        alloc.Range
	policy     alloc.Policy
	reserved   map[uint16]bool
	taken      map[uint16]bool
	foreign    map[uint16]bool
	draining   map[uint16]bool
	remembered map[string]uint16
	aside      map[uint16]bool // fixed or cooling
	cursor     int
}

// order returns the ports of the range as the policy goes through them.
func (m *model) order() []uint16 {
	var out []uint16
	n := m.rng.Len()
	start := 0
	if m.policy == alloc.Sequential {
		start = m.cursor
	}
	for i := range n {
		out = append(out, m.rng.First+uint16((start+i)%n))
	}
	return out
}

func (m *model) candidate(c alloc.Class, p uint16) bool {
	if m.taken[p] || m.reserved[p] || m.aside[p] {
		return false
	}
	named := false
	for _, q := range m.remembered {
		named = named || p == q
	}
	switch c {
	case alloc.ClassUnnamed:
		return !m.foreign[p] && !m.draining[p] && !named
	case alloc.ClassForeign:
		return !m.draining[p]
	case alloc.ClassDraining:
		return !m.foreign[p]
	}
	return !m.foreign[p] && !m.draining[p]
}

// take takes the first n ports in a row that are candidates.
func (m *model) take(c alloc.Class, n int) (uint16, bool) {
	for _, p := range m.order() {
		row := int(p)+n-1 <= int(m.rng.Last)
		for i := range n {
			row = row && m.candidate(c, p+uint16(i))
		}
		if !row {
			continue
		}
		for i := range n {
			m.taken[p+uint16(i)] = true
		}
		m.cursor = (int(p-m.rng.First) + n) % m.rng.Len()
		return p, true
	}
	return 0, false
}

func TestPoolIsTheModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		// Ranges that begin and end anywhere in a word, and at the ends of all ports.
		first := rapid.OneOf(rapid.Uint16Range(1, 400), rapid.Uint16Range(65300, 65535)).Draw(t, "first")
		size := rapid.IntRange(1, min(200, 65536-int(first))).Draw(t, "size")
		m := &model{
			rng:      alloc.Range{First: first, Last: first + uint16(size-1)},
			policy:   rapid.SampledFrom([]alloc.Policy{alloc.Lowest, alloc.Sequential}).Draw(t, "policy"),
			reserved: map[uint16]bool{}, taken: map[uint16]bool{}, foreign: map[uint16]bool{},
			draining: map[uint16]bool{}, remembered: map[string]uint16{}, aside: map[uint16]bool{},
		}
		anyPort := rapid.Uint16Range(m.rng.First, m.rng.Last)
		reserved := rapid.SliceOfN(anyPort, 0, 5).Draw(t, "reserved")
		for _, p := range reserved {
			m.reserved[p] = true
		}
		pool := alloc.NewPool(m.rng, m.policy, reserved...)
		now := time.Now()

		t.Repeat(map[string]func(*rapid.T){
			"take": func(t *rapid.T) {
				c := rapid.SampledFrom([]alloc.Class{alloc.ClassUnnamed, alloc.ClassFree, alloc.ClassForeign, alloc.ClassDraining}).Draw(t, "class")
				n := rapid.IntRange(1, min(5, size)).Draw(t, "ports in a row")
				want, ok := m.take(c, n)
				got, gotOK := pool.TakeConsecutive(c, n)
				require.Equal(t, ok, gotOK)
				require.Equal(t, want, got)
			},
			"free": func(t *rapid.T) {
				p := anyPort.Draw(t, "port")
				delete(m.taken, p)
				pool.Free(p)
			},
			"foreign": func(t *rapid.T) {
				p := anyPort.Draw(t, "port")
				m.foreign[p] = true
				delete(m.draining, p)
				pool.AvoidForeign(p, 1, now)
			},
			"draining": func(t *rapid.T) {
				p := anyPort.Draw(t, "port")
				m.draining[p] = true
				delete(m.foreign, p)
				pool.AvoidDraining(p, now)
			},
			"cooldown": func(t *rapid.T) {
				p, on := anyPort.Draw(t, "port"), rapid.Bool().Draw(t, "on")
				m.aside[p] = on
				pool.SetCooling(p, on)
			},
			"clear": func(t *rapid.T) {
				p := anyPort.Draw(t, "port")
				delete(m.foreign, p)
				delete(m.draining, p)
				pool.Clear(p)
			},
			"remember": func(t *rapid.T) {
				name := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "name")
				p := rapid.OneOf(rapid.Just(uint16(0)), anyPort).Draw(t, "port")
				delete(m.remembered, name)
				if p != 0 {
					m.remembered[name] = p
				}
				pool.Remember(name, p)
			},
			"": func(t *rapid.T) {
				require.Equal(t, len(m.taken), pool.Count())
				require.Len(t, pool.Taken(), pool.Count())
				require.True(t, slices.IsSorted(pool.Taken()))
				for _, p := range pool.Taken() {
					require.True(t, m.taken[p])
					require.False(t, m.reserved[p])
				}
			},
		})
	})
}

func TestPoolCursorOutsideTheRangeStartsAnew(t *testing.T) {
	pool := alloc.NewPool(alloc.Range{First: 100, Last: 102}, alloc.Sequential)
	for _, cursor := range []uint16{0, 99, 103, 65535} {
		pool.SetCursor(cursor)
		port, ok := pool.Pick(alloc.ClassFree)
		require.True(t, ok)
		require.EqualValues(t, 100, port)
	}
	top := alloc.NewPool(alloc.Range{First: 65534, Last: 65535}, alloc.Sequential)
	for _, want := range []uint16{65534, 65535} {
		port, _ := top.Take(alloc.ClassFree)
		require.Equal(t, want, port)
	}
	require.EqualValues(t, 65534, top.Cursor())
}

func TestPortsOfNamesComeLast(t *testing.T) {
	pool := alloc.NewPool(alloc.Range{First: 100, Last: 102}, alloc.Lowest)
	pool.Remember("a", 100)
	pool.Remember("b", 100)
	pool.Remember("a", 101)
	port, _ := pool.Pick(alloc.ClassUnnamed)
	require.EqualValues(t, 102, port, "b still remembers 100")
	pool.Remember("b", 0)
	port, _ = pool.Pick(alloc.ClassUnnamed)
	require.EqualValues(t, 100, port)
}

// listed is a snapshot with one listener, for decisions that need no kernel.
func listed(port uint16, inode uint64) *sockets.Snapshot {
	return sockets.NewSnapshot(sockets.Socket{
		Local: netip.AddrPortFrom(netip.IPv6Loopback(), port), State: sockets.Listen, Inode: inode,
	})
}

func TestForeignPortsAreRecheckedLessAndLess(t *testing.T) {
	pool := alloc.NewPool(alloc.Range{First: 100, Last: 101}, alloc.Lowest)
	now := time.Now()
	pool.AvoidForeign(100, 7, now)

	empty, still := sockets.NewSnapshot(), listed(100, 7)
	pool.Recheck(empty, now.Add(alloc.AvoidMin-1))
	require.True(t, pool.IsForeign(100), "not rechecked before its time")

	checks := 0
	for end := now.Add(time.Hour); now.Before(end) && checks < 1000; checks++ {
		now = pool.Until(100)
		pool.Recheck(still, now)
		require.True(t, pool.IsForeign(100))
	}
	require.Less(t, checks, 130, "at most every 30 s in the end")
	require.Greater(t, checks, 100, "and not less")

	now = pool.Until(100)
	pool.Recheck(empty, now)
	require.False(t, pool.IsForeign(100), "gone: a candidate again")
	port, _ := pool.Pick(alloc.ClassUnnamed)
	require.EqualValues(t, 100, port)

	pool.AvoidForeign(100, 7, now)
	require.Equal(t, now.Add(alloc.AvoidMax), pool.Until(100), "one that comes back is remembered")
	pool.Clear(100)
	pool.AvoidForeign(100, 7, now)
	require.Equal(t, now.Add(alloc.AvoidMin), pool.Until(100), "until the port proved to be free")
}

func TestAvoidedPortsAreForgotten(t *testing.T) {
	pool := alloc.NewPool(alloc.Range{First: 100, Last: 101}, alloc.Lowest)
	now := time.Now()
	pool.AvoidForeign(100, 0, now)
	pool.AvoidDraining(101, now)
	require.True(t, pool.IsDraining(101))
	pool.Recheck(sockets.NewSnapshot(), now.Add(alloc.DrainTime))
	require.False(t, pool.IsForeign(100))
	require.False(t, pool.IsDraining(101))
	require.Equal(t, 2, pool.Avoided())
	pool.Recheck(sockets.NewSnapshot(), now.Add(time.Hour))
	require.Zero(t, pool.Avoided())
}

func TestRange(t *testing.T) {
	for text, want := range map[string]alloc.Range{
		"8080-9999": {First: 8080, Last: 9999}, "8080": {First: 8080, Last: 8080},
		" 1 - 65535 ": {First: 1, Last: 65535}, "5-5": {First: 5, Last: 5},
	} {
		got, err := alloc.ParseRange(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got)
		again, err := alloc.ParseRange(got.String())
		require.NoError(t, err)
		require.Equal(t, got, again)
	}
	for _, text := range []string{"", "-", "0", "65536", "9-8", "a-b", "1-2-3", "-5", "5-", "+5", "0-5"} {
		_, err := alloc.ParseRange(text)
		require.ErrorIs(t, err, alloc.ErrBadRange, text)
	}
	r := alloc.Range{First: 8080, Last: 9999}
	require.Equal(t, 1920, r.Len())
	require.Equal(t, "8080-9999", r.String())
	require.Equal(t, 65535, alloc.Range{First: 1, Last: 65535}.Len())
	require.True(t, r.Contains(8080) && r.Contains(9999))
	require.False(t, r.Contains(8079) || r.Contains(10000))
	require.Zero(t, alloc.Range{}.Len())
	require.False(t, alloc.Range{}.Contains(0))
}

func TestParsePolicy(t *testing.T) {
	for text, want := range map[string]alloc.Policy{"": alloc.Lowest, "lowest": alloc.Lowest, "sequential": alloc.Sequential} {
		got, err := alloc.ParsePolicy(text)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err := alloc.ParsePolicy("random")
	require.ErrorIs(t, err, alloc.ErrBadPolicy)
}
