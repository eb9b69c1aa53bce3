package main_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	main "rbeehive/cmd/hive"
)

// What does not end is left, and what ends in time is no reason to.
func TestMustEnd(t *testing.T) {
	exits := make(chan int, 1)
	exit := func(code int) { exits <- code }
	main.MustEndWithin(time.Millisecond, "the test", exit)
	select {
	case code := <-exits:
		require.Equal(t, 1, code)
	case <-time.After(testTimeout):
		require.Fail(t, "it waits on")
	}
	main.MustEndWithin(time.Hour, "the test", exit)()
	require.Empty(t, exits)
}
