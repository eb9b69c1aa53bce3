package hungmount_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Numbers of fuse(4), as in linux/fuse.h.
const (
	fuseLookup    = 1
	fuseForget    = 2
	fuseGetattr   = 3
	fuseOpen      = 14
	fuseRelease   = 18
	fuseFlush     = 25
	fuseInit      = 26
	fuseInterrupt = 36

	requestHead = 40 // length, opcode u32, unique, nodeid u64, uid, gid, pid u32
	attrSize    = 88
)

// outputFile is the one file that the file system has; all else is asked for when it hangs.
const outputFile = "output"

// outputNode is its number.
const outputNode = 2

// What the server says: when it serves, when it hangs, and when it has read the first request that
// it does not answer.
const (
	saysMounted = "mounted"
	saysHangs   = "hangs"
	saysAsked   = "asked"
)

// server is a file system in user space, mounted at a path. It answers until it is told to hang
// by SIGUSR1: from then on it reads what it is asked, and says nothing more. A request that was
// read is waited for by its thread whatever happens, kill -9 too, until the server ends.
func server(at string) error {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	if err := unix.Mount("hung", at, "fuse", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd)); err != nil {
		return err
	}
	var hangs atomic.Bool
	told := make(chan os.Signal, 1)
	signal.Notify(told, unix.SIGUSR1)
	go func() {
		<-told
		hangs.Store(true)
		fmt.Println(saysHangs)
	}()
	fmt.Println(saysMounted)
	var asked sync.Once
	request := make([]byte, 256<<10)
	for {
		n, err := unix.Read(fd, request)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENOENT): // a request that was taken back
			continue
		case err != nil:
			return err // unmounted
		case n < requestHead:
			return fmt.Errorf("a request of %d bytes", n)
		case hangs.Load():
			asked.Do(func() { fmt.Println(saysAsked) })
			continue
		}
		if answer := answerTo(request[:n]); answer != nil {
			_, _ = unix.Write(fd, answer) // who has asked may have ended
		}
	}
}

func answerTo(request []byte) []byte {
	ne := binary.NativeEndian
	opcode, node := ne.Uint32(request[4:]), ne.Uint64(request[16:])
	var body []byte
	failed := unix.Errno(0)
	switch opcode {
	case fuseForget, fuseInterrupt:
		return nil // nobody waits for an answer
	case fuseInit:
		body = make([]byte, 64)
		ne.PutUint32(body, 7)
		ne.PutUint32(body[4:], 31)
		ne.PutUint32(body[20:], 64<<10) // the most that is written at once
	case fuseLookup:
		if string(request[requestHead:]) != outputFile+"\x00" {
			failed = unix.ENOENT
			break
		}
		body = make([]byte, 40) // which is valid for no time: whoever comes again asks again
		ne.PutUint64(body, outputNode)
		body = append(body, attr(outputNode)...)
	case fuseGetattr:
		body = append(make([]byte, 16), attr(node)...)
	case fuseOpen:
		body = make([]byte, 16)
	case fuseRelease, fuseFlush:
	default:
		failed = unix.ENOSYS
	}
	answer := ne.AppendUint32(nil, uint32(16+len(body)))
	answer = ne.AppendUint32(answer, uint32(-int32(failed)))
	return append(append(answer, request[8:16]...), body...)
}

func attr(node uint64) []byte {
	ne := binary.NativeEndian
	a := make([]byte, attrSize)
	mode, links := uint32(unix.S_IFDIR|0o755), uint32(2)
	if node == outputNode {
		mode, links = unix.S_IFREG|0o600, 1
	}
	ne.PutUint64(a, node)
	ne.PutUint32(a[60:], mode)
	ne.PutUint32(a[64:], links)
	ne.PutUint32(a[80:], 4096)
	return a
}
