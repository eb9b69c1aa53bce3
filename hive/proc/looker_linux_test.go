package proc_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/hive/proc"
)

// lookAtSelf says which process looks, and opens a file.
var lookAtSelf = proc.NewLook("test", func(path string) (int, error) {
	f, err := os.Open(path)
	if err == nil {
		_ = f.Close()
	}
	return os.Getpid(), err
})

func lookApart(t *testing.T) {
	t.Helper()
	proc.LookApart()
	t.Cleanup(proc.LookHere)
}

// looker is the PID of the process that looks at a file that is there.
func looker(t *testing.T) int {
	t.Helper()
	pid, err := lookAtSelf.As(t.Context(), "", "/dev/null")
	require.NoError(t, err)
	return pid
}

// Looks are done by another process, and answered as by this one.
func TestLooksApart(t *testing.T) {
	dir := openDir(t)
	closed := filepath.Join(dir, "closed")
	require.NoError(t, os.WriteFile(closed, nil, 0o600))
	program := filepath.Join(dir, "program")
	require.NoError(t, os.WriteFile(program, nil, 0o755))
	ask := func() (said []string) {
		say := func(v any, err error) {
			said = append(said, fmt.Sprint(v, err, errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission), errors.Is(err, proc.ErrProgramNotFound), errors.Is(err, proc.ErrUnknownUser)))
		}
		say(proc.FindProgram(t.Context(), program, ""))
		say(proc.FindProgram(t.Context(), "program", dir))
		say(proc.FindProgram(t.Context(), "./program", dir))
		say(proc.FindProgram(t.Context(), closed, ""))
		say(proc.StatFile(t.Context(), program))
		say(proc.StatFile(t.Context(), filepath.Join(dir, "none")))
		_, err := lookAtSelf.As(t.Context(), "nobody-of-this-name", closed)
		say(nil, err)
		if os.Geteuid() == 0 {
			_, err = lookAtSelf.As(t.Context(), anotherUser, closed)
			require.ErrorIs(t, err, fs.ErrPermission)
			say(nil, err)
		}
		return said
	}
	here := ask()
	require.Equal(t, os.Getpid(), looker(t))
	lookApart(t)
	require.Equal(t, here, ask())
	pid := looker(t)
	require.NotEqual(t, os.Getpid(), pid)
	require.Equal(t, proc.Looker(), pid)
	require.Equal(t, pid, looker(t), "it is kept")

	proc.DismissLooker()
	next := looker(t)
	require.NotEqual(t, pid, next)
	await(t, "the end of the one before", func() bool { return errors.Is(unix.Kill(pid, 0), unix.ESRCH) })

	require.NoError(t, unix.Kill(next, unix.SIGKILL))
	await(t, "another one", func() bool { return looker(t) != next })
}

// A look that hangs is a thread of the other process, and the end of this one does not wait for
// it; looks at other files are answered meanwhile.
func TestALookThatHangs(t *testing.T) {
	f, server := fuseFile(t)
	path := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd())
	lookApart(t)
	pid := looker(t)
	server.hang(true)
	t.Cleanup(func() { server.hang(false) })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := proc.StatFile(ctx, path)
	require.ErrorIs(t, err, proc.ErrHangs)
	await(t, "a thread that waits", func() bool { return server.asker() > 0 })
	require.DirExists(t, fmt.Sprintf("/proc/%d/task/%d", pid, server.asker()))
	require.Equal(t, pid, looker(t))
	proc.DismissLooker()
	require.Equal(t, pid, looker(t), "it has something to do")
}

// asker is the thread that the first request which was not answered is from; 0: there is none.
func (s *fuseServer) asker() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) == 0 {
		return 0
	}
	return int(binary.NativeEndian.Uint32(s.waiting[0][32:]))
}
