package hive_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAlive(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.open()
	require.NoError(t, r.h.Alive(context.Background()))

	// The writer of the state file is held up: by a disk that does not answer, say.
	release := r.h.HoldWriter()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, r.h.Alive(ctx), context.DeadlineExceeded)
	release()
	require.NoError(t, r.h.Alive(context.Background()))
}

// A hive that looks after itself says what is wrong until it is not any more.
func TestAHiveSaysThatItIsStuck(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	r.open()
	fault := func() string { return r.h.Status().Fault }
	require.Empty(t, fault())
	r.h.LookAfterItself(t.Context(), time.Hour, 0)
	r.eventually("it says so", func() bool { return strings.Contains(fault(), "the audit that began at ") })
	r.h.LookAfterItself(t.Context(), 0, 0)
	r.eventually("it is well again", func() bool { return fault() == "" })

	r.h.LookAfterItself(t.Context(), 0, time.Hour)
	require.Contains(t, fault(), "has not answered since", "and no second look is begun")
	r.h.LookAfterItself(t.Context(), 0, 0)
	r.eventually("it is well again", func() bool { return fault() == "" })
}
