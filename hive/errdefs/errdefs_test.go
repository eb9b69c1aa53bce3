package errdefs_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/errdefs"
)

// An InputError is found by its kind, and names the field that is at fault.
func TestInputError(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		kind error
		text string
	}{
		"a field":         {&errdefs.InputError{Kind: errdefs.ErrUnknownField, Field: "modle", Detail: "is not a field"}, errdefs.ErrUnknownField, "modle: is not a field"},
		"the body":        {&errdefs.InputError{Kind: errdefs.ErrForbidden, Detail: "only admins may"}, errdefs.ErrForbidden, "only admins may"},
		"a field's value": {errdefs.BadField("port", "is 0"), errdefs.ErrBadRequest, "port: is 0"},
	} {
		wrapped := fmt.Errorf("decode: %w", c.err)
		require.ErrorIs(t, wrapped, c.kind, name)
		require.NotErrorIs(t, wrapped, errdefs.ErrConflict, name)
		require.EqualError(t, c.err, c.text, name)
		in, ok := errors.AsType[*errdefs.InputError](wrapped)
		require.True(t, ok, name)
		require.Equal(t, c.kind, in.Kind, name)
	}
}

// A failure has its code, plain text, and a log that is encoded as a list.
func TestFail(t *testing.T) {
	f := errdefs.Fail(errdefs.CodeNameInUse, "the name %q is\x1b[2J taken", "a")
	require.Equal(t, errdefs.CodeNameInUse, f.Code)
	require.NotContains(t, f.Message, "\x1b")
	require.Contains(t, f.Message, `the name "a" is`)
	require.Equal(t, "name_in_use: "+f.Message, f.Error())
	require.NotNil(t, f.Log, "null is no list")
	got, ok := errors.AsType[*errdefs.Failure](fmt.Errorf("spawn: %w", f))
	require.True(t, ok)
	require.Equal(t, f, got)
}

// A failure of what was cancelled is a cancellation, however it is told; no other is.
func TestAFailureOfWhatWasCancelled(t *testing.T) {
	require.ErrorIs(t, errdefs.Fail(errdefs.CodeExecFailed, "%s: %v", "before_start", fmt.Errorf("look for it: %w", errdefs.ErrCancelled)), errdefs.ErrCancelled)
	require.NotErrorIs(t, errdefs.Fail(errdefs.CodeExecFailed, "%v", errdefs.ErrClosing), errdefs.ErrCancelled)
	require.NotErrorIs(t, errdefs.Fail(errdefs.CodeCancelled, "another request"), errdefs.ErrCancelled)
}
