package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const port = 9001

// written is a history that a test writes down, in milliseconds.
type written struct{ *history }

func (w written) lease(id string, call, ret, from, by moment) {
	w.acquired(id, "of a test", []uint16{port}, call*ms, ret*ms, from)
	if by != never {
		w.ended(id, from, by*ms)
	}
}

const ms = moment(time.Millisecond)

// A check that takes every history proves nothing, and one that refuses a right
// one is of no use.
func TestCheck(t *testing.T) {
	for name, c := range map[string]struct {
		write func(w written)
		right bool
	}{
		"nothing happened": {func(written) {}, true},
		"one after the other": {func(w written) {
			w.lease("a", 1, 2, 3*ms, 4)
			w.lease("b", 5, 6, 7*ms, 8)
			w.saw(port, "", 9*ms, 10*ms)
		}, true},
		"two at once": {func(w written) {
			w.lease("a", 1, 2, 10*ms, 11)
			w.lease("b", 5, 6, 7*ms, 8)
		}, false},
		"two at once, neither ends": {func(w written) {
			w.lease("a", 1, 2, never, never)
			w.lease("b", 5, 6, never, never)
		}, false},
		"acquired while the other was released": {func(w written) {
			w.lease("a", 1, 2, 4*ms, 8)
			w.lease("b", 5, 6, 20*ms, 21)
		}, true},
		"an end that nobody ordered makes room": {func(w written) {
			w.lease("a", 1, 2, 4*ms, never)
			w.lease("b", 5, 6, never, never)
		}, true},
		"nothing can have ended it yet": {func(w written) {
			w.lease("a", 1, 2, 7*ms, never)
			w.lease("b", 5, 6, never, never)
		}, false},
		"seen free while it was held": {func(w written) {
			w.lease("a", 1, 2, 7*ms, 8)
			w.saw(port, "", 4*ms, 5*ms)
		}, false},
		"seen after its end was confirmed": {func(w written) {
			w.lease("a", 1, 2, 3*ms, 4)
			w.saw(port, "a", 5*ms, 6*ms)
		}, false},
		"seen while it was ended": {func(w written) {
			w.lease("a", 1, 2, 3*ms, 6)
			w.saw(port, "a", 4*ms, 5*ms)
		}, true},
		"seen free, and back without being acquired": {func(w written) {
			w.lease("a", 1, 2, 3*ms, never)
			w.saw(port, "", 4*ms, 5*ms)
			w.saw(port, "a", 6*ms, 7*ms)
		}, false},
		"two seen one after the other, and the first again": {func(w written) {
			w.lease("a", 1, 2, 2*ms, never)
			w.lease("b", 1, 9, 2*ms, never)
			w.saw(port, "a", 3*ms, 4*ms)
			w.saw(port, "b", 5*ms, 6*ms)
			w.saw(port, "a", 7*ms, 8*ms)
		}, false},
		"the response came late": {func(w written) {
			w.lease("a", 1, 2, 2*ms, never)
			w.lease("b", 1, 50, 20*ms, never)
			w.saw(port, "a", 3*ms, 4*ms)
			w.saw(port, "b", 5*ms, 6*ms)
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			w := written{newHistory()}
			c.write(w)
			_, wrong := w.check()
			require.Equal(t, c.right, len(wrong) == 0, "%v", wrong)
		})
	}
}

// A lease of several ports has each of them.
func TestCheckLooksAtEveryPort(t *testing.T) {
	h := newHistory()
	h.acquired("row", "of a test", []uint16{port, port + 1}, 1*ms, 2*ms, never)
	h.acquired("one", "of a test", []uint16{port + 1}, 3*ms, 4*ms, never)
	n, wrong := h.check()
	require.Equal(t, 3, n)
	require.Len(t, wrong, 1)
	require.Contains(t, wrong[0], "port 9002: no order of these is possible")
	require.Contains(t, wrong[0], "not placed acquire one [3ms, 4ms]")
}

// What was acquired by a request that was not answered is seen later, and may
// have been acquired at any time in between, and not before.
func TestAttribute(t *testing.T) {
	h := newHistory()
	call := h.ask("tag")
	h.saw(port, "a", call+5*ms, call+6*ms)
	h.saw(port, "a", call+7*ms, call+8*ms)
	require.Equal(t, map[string]moment{"a": call + 6*ms}, h.unknown())
	_, wrong := h.check()
	require.Len(t, wrong, 1, "it came from nowhere")
	require.False(t, h.attribute("a", []uint16{port}, "another tag", call+6*ms))
	require.True(t, h.attribute("a", []uint16{port}, "tag", call+6*ms))
	require.Empty(t, h.unknown())
	_, wrong = h.check()
	require.Empty(t, wrong)
}

func TestForge(t *testing.T) {
	h := newHistory()
	missed, tried := h.forge()
	require.Equal(t, []int{0, 0}, []int{missed, tried})
	h.acquired("a", "of a test", []uint16{port}, 1*ms, 2*ms, 5*ms)
	h.acquired("b", "of a test", []uint16{port + 1}, 1*ms, 2*ms, never)
	h.acquired("c", "of a test", []uint16{port + 2}, 1*ms, 2*ms, 1*ms) // may have ended before anybody knew of it
	missed, tried = h.forge()
	require.Equal(t, []int{0, 2}, []int{missed, tried})
}

func TestThin(t *testing.T) {
	say := func(s ...string) (all []observation) {
		for i, lease := range s {
			all = append(all, observation{lease, moment(i), moment(i)})
		}
		return all
	}
	var got []string
	for _, s := range thin(say("", "", "", "a", "b", "b", "b", "b", "a", "")) {
		got = append(got, s.lease)
	}
	require.Equal(t, []string{"", "", "a", "b", "b", "a", ""}, got)
	require.Empty(t, thin(nil))
}
