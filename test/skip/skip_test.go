package skip_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/test/skip"
)

// recorder is a test that says what was asked of it.
type recorder struct {
	testing.TB
	calls []string
}

func (r *recorder) Helper() {}

func (r *recorder) Skip(args ...any) { r.calls = append(r.calls, "skip: "+fmt.Sprintln(args...)) }

func (r *recorder) Fatal(args ...any) {
	r.calls = append(r.calls, "fatal: "+fmt.Sprintln(args...))
	panic(r) // as the real one, it does not return
}

func TestBecause(t *testing.T) {
	t.Setenv("HIVE_TEST_STRICT", "")
	lenient := &recorder{TB: t}
	skip.Because(lenient, "no", "python3")
	require.Equal(t, []string{"skip: no python3\n"}, lenient.calls)

	t.Setenv("HIVE_TEST_STRICT", "1")
	strict := &recorder{TB: t}
	require.Panics(t, func() { skip.Because(strict, "no", "python3") })
	require.Equal(t, []string{"fatal: would be skipped: no python3\n"}, strict.calls)
}
