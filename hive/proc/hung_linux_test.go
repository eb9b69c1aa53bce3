package proc_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/hive/proc"
	"rbeehive/test/skip"
)

// fuseServer answers for a file system in user space (fuse(4)) with one file, until it
// hangs.
type fuseServer struct {
	fd    int
	ended chan struct{}

	mu      sync.Mutex
	hung    bool
	waiting [][]byte // requests that were not answered
}

// fuseFile is that file, open for writing.
func fuseFile(t *testing.T) (*os.File, *fuseServer) {
	t.Helper()
	skip.UnlessRoot(t, "mounting a file system needs root")
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		skip.Because(t, "there is no /dev/fuse: "+err.Error())
	}
	s := &fuseServer{fd: fd, ended: make(chan struct{})}
	at := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(at, nil, 0o600))
	var f *os.File
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: the mount is this thread's alone
		err := unix.Unshare(unix.CLONE_NEWNS)
		if err == nil {
			err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
		}
		if err == nil {
			err = unix.Mount("fuse", at, "fuse", 0, fmt.Sprintf("fd=%d,rootmode=100000,user_id=0,group_id=0,allow_other", fd))
		}
		if err == nil {
			go s.serve()
			var opened int
			opened, err = unix.Open(at, unix.O_WRONLY|unix.O_CLOEXEC, 0)
			f = os.NewFile(uintptr(opened), at) // os.OpenFile would ask for events of it, on a processor of Go's that the server may need
		}
		done <- err
	}()
	if err := <-done; err != nil {
		_ = unix.Close(fd)
		skip.Because(t, "mount a file system of one's own: "+err.Error())
	}
	t.Cleanup(func() {
		require.NoError(t, f.Close()) // the last one: the server is told
		<-s.ended
	})
	return f, s
}

// hang makes the server keep what it is asked, or answer that, and all from then on.
func (s *fuseServer) hang(hung bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hung = hung
	for _, request := range s.waiting {
		s.answer(request)
	}
	s.waiting = nil
}

func (s *fuseServer) serve() {
	defer close(s.ended)
	defer unix.Close(s.fd)
	for {
		request := make([]byte, 256<<10)
		n, err := unix.Read(s.fd, request)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n < 40 {
			return
		}
		s.mu.Lock()
		if s.hung {
			s.waiting = append(s.waiting, request[:n])
		} else {
			s.answer(request[:n])
		}
		s.mu.Unlock()
		if opcode(request) == fuseRelease {
			return
		}
	}
}

// Numbers of fuse(4).
const (
	fuseGetattr = 3
	fuseOpen    = 14
	fuseRelease = 18
	fuseInit    = 26
)

func opcode(request []byte) uint32 { return binary.NativeEndian.Uint32(request[4:]) }

// answer answers one request; mu is held.
func (s *fuseServer) answer(request []byte) {
	var body []byte
	put := func(words ...uint32) {
		for _, w := range words {
			body = binary.NativeEndian.AppendUint32(body, w)
		}
	}
	failed := unix.Errno(0)
	switch opcode(request) {
	case fuseInit: // version 7.31
		put(7, 31, 0, 0, 0, 64<<10, 1)
		body = append(body, make([]byte, 64-len(body))...)
	case fuseGetattr: // valid for no time
		put(0, 0, 0, 0)
		body = append(body, make([]byte, 60)...)
		put(unix.S_IFREG|0o600, 1, 0, 0, 0, 4096, 0)
	case fuseOpen:
		body = make([]byte, 16)
	case fuseRelease:
	default:
		failed = unix.ENOSYS
	}
	reply := binary.NativeEndian.AppendUint32(nil, uint32(16+len(body)))
	reply = binary.NativeEndian.AppendUint32(reply, uint32(-int32(failed)))
	reply = append(append(reply, request[8:16]...), body...) // the number of the request
	_, _ = unix.Write(s.fd, reply)                           // the process that asked may have ended
}

// A process whose stdout is on a mount that does not answer, as any user's may be, is
// examined without waiting for it.
func TestAHungMountDelaysNoSurvey(t *testing.T) {
	f, server := fuseFile(t)
	cmd := exec.CommandContext(t.Context(), "sleep", "600")
	cmd.Stdout, cmd.Stderr = f, f
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	server.hang(true)
	t.Cleanup(func() { server.hang(false) })

	logs := t.TempDir()
	log, err := os.Create(filepath.Join(logs, "cpu-1-aaaaaa.log"))
	require.NoError(t, err)
	defer log.Close()
	mine := exec.CommandContext(t.Context(), "sleep", "600")
	mine.Stdout = log
	require.NoError(t, mine.Start())
	t.Cleanup(func() { _ = mine.Process.Kill(); _ = mine.Wait() })

	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		found, err := proc.FindLiving(ctx, proc.Search{Logs: logs})
		if err != nil || len(found) != 1 || found[0].PID != mine.Process.Pid {
			t.Errorf("FindLiving: %v, %v", found, err)
		}
		members, err := (&proc.Tree{Log: log.Name()}).Members(ctx)
		if err != nil || len(members) != 1 || members[0].PID != mine.Process.Pid {
			t.Errorf("Members: %v, %v", members, err)
		}
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Error("it waits for the mount")
		server.hang(false)
		<-done
	}
}

// A program on a mount that does not answer is looked for within a bound, and once, however
// often it is asked for: each look keeps a thread.
func TestAProgramOnAHungMount(t *testing.T) {
	f, server := fuseFile(t)
	path := fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd())
	server.hang(true)
	t.Cleanup(func() { server.hang(false) })
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, err := proc.FindProgram(ctx, path, "")
		cancel()
		require.ErrorIs(t, err, proc.ErrHangs)
		require.ErrorContains(t, err, "look for "+path+": the file system does not answer")
	}
	server.mu.Lock()
	require.Len(t, server.waiting, 1, "it is asked for once")
	server.mu.Unlock()

	gone := errors.New("gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(gone)
	_, err := proc.FindProgram(ctx, path, "")
	require.ErrorIs(t, err, gone, "that says nothing of the file system")
	require.NotErrorIs(t, err, proc.ErrHangs)

	server.hang(false)
	_, err = proc.FindProgram(t.Context(), path, "")
	require.NotErrorIs(t, err, proc.ErrHangs, "it answers again")
}
