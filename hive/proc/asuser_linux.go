package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// AsUser calls do, which accesses files, with the file permissions of a user instead of
// hive's, which is root: a path that this user has made then leads to nothing that is
// closed to the user. name is in the form of LookUser; empty, or hive's own user: with
// hive's rights. do must not start goroutines, which would have hive's rights.
//
// It returns what do returns. Where ctx ends first the error is the cause of that, with
// ErrHangs if its time was over: a file system can hang, by accident or because a user has
// made it so. do
// then goes on by itself; what it returns is dropped, and it must share nothing with
// its caller. While maxAsUserCalls of them hang, AsUser waits for one to end, or for ctx.
// Other errors: those of LookUser, and ErrOtherUser.
func AsUser[T any](ctx context.Context, name string, do func() (T, error)) (T, error) {
	var none T
	if name == "" {
		return asUser(ctx, nil, do)
	}
	user, err := LookUser(name)
	if err != nil {
		return none, err
	}
	if !user.Other() {
		return asUser(ctx, nil, do)
	}
	return asUser(ctx, &user, do)
}

// maxAsUserCalls is how many calls of AsUser may go on at once: each that hangs keeps a
// thread, of which Go allows 10,000.
const maxAsUserCalls = 64

// asUserCalls belongs to the process, as its threads do.
var asUserCalls = struct {
	places chan struct{} // one for each call of AsUser under way
	taking sync.Mutex    // held while a thread takes a user's rights: each changes dumpable
}{places: make(chan struct{}, maxAsUserCalls)}

// asUser is AsUser for a user that has been looked up; nil: with hive's own rights.
func asUser[T any](ctx context.Context, user *Credential, do func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	var none T
	// The place is given back by the goroutine, whenever do returns: AsUser may have
	// returned long before.
	select {
	case asUserCalls.places <- struct{}{}:
	case <-ctx.Done():
		return none, unanswered(ctx)
	}
	answered := make(chan answer, 1)
	go func() {
		defer func() { <-asUserCalls.places }()
		var a answer
		if user == nil {
			a.value, a.err = do()
		} else {
			onOwnThread(func() {
				if a.err = takeRights(*user); a.err == nil {
					a.value, a.err = do()
				}
			})
		}
		answered <- a
	}()
	select {
	case a := <-answered:
		return a.value, a.err
	case <-ctx.Done():
		return none, unanswered(ctx)
	}
}

// onOwnThread calls do on a thread that ends with it, and returns when do has
// returned. It is never the first thread of the process, which Go keeps to the end,
// with whatever rights it has then.
func onOwnThread(do func()) {
	done := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			onOwnThread(do) // on another one, as this is locked until it returns
			runtime.UnlockOSThread()
			close(done)
			return
		}
		defer close(done)
		do() // never unlocked: the thread ends with the goroutine
	}()
	<-done
}

// takeRights leaves the calling thread the user's rights to files and no others, for
// good. None of these calls goes by package syscall, which would change all threads.
func takeRights(user Credential) error {
	refused := func(what string, err error) error {
		return fmt.Errorf("%w: the system does not let hive take the rights of user %s (it needs CAP_SETUID and CAP_SETGID): %s: %w", ErrOtherUser, user.Name, what, err)
	}
	groups := make([]int, len(user.Groups))
	for i, gid := range user.Groups {
		groups[i] = int(gid)
	}
	// A change of these ids makes the whole process undumpable (prctl(2)): another root
	// without CAP_SYS_PTRACE could not read hive's /proc files any more.
	asUserCalls.taking.Lock()
	defer asUserCalls.taking.Unlock()
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		return refused("prctl", err)
	}
	defer func() { _ = unix.Prctl(unix.PR_SET_DUMPABLE, uintptr(dumpable), 0, 0, 0) }()
	if err := unix.Setgroups(groups); err != nil {
		return refused("setgroups", err)
	}
	// These two return the previous id and no error, so each is called twice.
	_, _ = unix.SetfsgidRetGid(int(user.GID))
	_, _ = unix.SetfsuidRetUid(int(user.UID))
	if gid, _ := unix.SetfsgidRetGid(int(user.GID)); gid != int(user.GID) {
		return refused("setfsgid", unix.EPERM)
	}
	if uid, _ := unix.SetfsuidRetUid(int(user.UID)); uid != int(user.UID) {
		return refused("setfsuid", unix.EPERM)
	}
	// setfsuid has taken the capabilities over file permissions. With the others the
	// links of /proc would still lead into the directories of other processes.
	var none [2]unix.CapUserData
	if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}, &none[0]); err != nil {
		return refused("capset", err)
	}
	return nil
}

// OpenRegular opens a regular file for reading, and nothing else: a path that somebody
// else has made may lead to a pipe, which would block, or a device. A link of /proc to
// an open file or a directory of a process is not followed (openat2(2), Linux 5.6;
// before that it is). It does not block on anything but the file system.
func OpenRegular(path string) (*os.File, error) {
	const flags = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_CLOEXEC | unix.O_NOCTTY
	fail := func(err error) (*os.File, error) { return nil, &os.PathError{Op: "open", Path: path, Err: err} }
	how := &unix.OpenHow{Flags: flags, Resolve: unix.RESOLVE_NO_MAGICLINKS}
	fd, err := unix.Openat2(unix.AT_FDCWD, path, how)
	// EPERM is also what a container's filter says to a call that it does not know.
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		fd, err = unix.Open(path, flags, 0)
	}
	if err != nil {
		return fail(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		closeAll(fd)
		return fail(err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		closeAll(fd)
		return fail(errors.New("it is not a regular file"))
	}
	return os.NewFile(uintptr(fd), path), nil
}
