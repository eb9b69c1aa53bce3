package hive_test

import (
	"context"
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
