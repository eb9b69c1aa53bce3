package procread_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"rbeehive/store/procread"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A read that ends is as if it had been made directly.
func TestReadThatEnds(t *testing.T) {
	got, err := procread.Read(1, func(procread.Progress) (string, error) { return "text", nil })
	require.NoError(t, err)
	require.Equal(t, "text", got)
	gone := errors.New("gone")
	_, err = procread.Read(1, func(procread.Progress) (string, error) { return "", gone })
	require.ErrorIs(t, err, gone)
}

// A read that is held up is given up, the next of the same process at once, of others not;
// and once it has ended the process can be read again.
func TestReadThatIsHeldUp(t *testing.T) {
	t.Parallel()
	free := make(chan struct{})
	_, err := procread.Read(2, func(procread.Progress) (int, error) { <-free; return 1, nil })
	require.ErrorIs(t, err, procread.ErrHeld)
	require.ErrorContains(t, err, "process 2")
	_, err = procread.Read(2, func(procread.Progress) (int, error) { panic("nobody asks again meanwhile") })
	require.ErrorIs(t, err, procread.ErrHeld)
	_, err = procread.Read(3, func(procread.Progress) (int, error) { return 1, nil })
	require.NoError(t, err)
	close(free)
	require.Eventually(t, func() bool {
		_, err := procread.Read(2, func(procread.Progress) (int, error) { return 1, nil })
		return err == nil
	}, 10*time.Second, time.Millisecond)
}

// A crowd of processes that are held does not cost a second each, and not more threads than a
// program can have.
func TestACrowdIsHeldUp(t *testing.T) {
	free := make(chan struct{})
	wait := func(procread.Progress) (int, error) { <-free; return 1, nil }
	begun := time.Now()
	for pid := range 24 {
		_, err := procread.Read(100+pid, wait)
		require.ErrorIs(t, err, procread.ErrHeld)
	}
	require.Less(t, time.Since(begun), 20*time.Second, "each would take a second")
	procread.Hold(1000, 2000)
	_, err := procread.Read(4000, func(procread.Progress) (int, error) { panic("one too many") })
	require.ErrorIs(t, err, procread.ErrHeld)
	procread.Release(1000, 2000)
	close(free)
	require.Eventually(t, func() bool { return procread.Held() == 0 }, 10*time.Second, time.Millisecond)
}

// One that goes on may take as long as it likes.
func TestReadThatIsLong(t *testing.T) {
	t.Parallel()
	n, err := procread.Read(4, func(progress procread.Progress) (n int, err error) {
		for ; n < 25; n++ {
			time.Sleep(100 * time.Millisecond)
			progress()
		}
		return n, nil
	})
	require.NoError(t, err)
	require.Equal(t, 25, n)
}

// One that computes, or waits for a CPU on a busy machine, is not held up by anybody.
func TestReadThatComputes(t *testing.T) {
	t.Parallel()
	n, err := procread.Read(5, func(procread.Progress) (n int, err error) {
		for begin := time.Now(); time.Since(begin) < 2500*time.Millisecond; n++ {
		}
		return n, nil
	})
	require.NoError(t, err)
	require.Positive(t, n)
}
