package sockets

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// diagBuffer is the most that the kernel puts into one answer (netlink_recvmsg,
// kernel >= 3.15). It learns from the buffer of the last read how much to send:
// with a small one every answer holds a dozen sockets, takes two system calls,
// and the walk through the table is interrupted that much more often.
const diagBuffer = 32 << 10

// diagBuffers are used again: a worker that starts is looked for a dozen times.
var diagBuffers = sync.Pool{New: func() any { b := make([]byte, diagBuffer); return &b }}

// diagConn is a socket to sock_diag (netlink(7), sock_diag(7)). The kernel answers within the
// call that asks, so reading waits for nothing; it has a bound all the same. Not by a library,
// whose connection is one of Go's poller: that takes five times as long, and most of what a
// probe of a worker costs is this.
type diagConn struct {
	fd  int
	seq uint32
}

func dialDiag(ctx context.Context, timeout time.Duration) (*diagConn, error) {
	if deadline, ok := ctx.Deadline(); ok {
		timeout = min(timeout, time.Until(deadline))
	}
	if timeout <= 0 {
		return nil, os.ErrDeadlineExceeded
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return nil, fmt.Errorf("open sock_diag: %w", err)
	}
	limit := unix.NsecToTimeval(max(timeout, time.Millisecond).Nanoseconds()) // 0 would be none
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("sock_diag deadline: %w", err)
	}
	return &diagConn{fd: fd}, nil
}

func (c *diagConn) close() { _ = unix.Close(c.fd) }

// ask sends one request and calls each with every answer, whose data is not to be kept.
// Without NLM_F_DUMP in flags there is one answer.
func (c *diagConn) ask(flags uint16, data []byte, each func(data []byte) error) error {
	c.seq++
	msg := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+sizeRequest)
	binary.NativeEndian.PutUint32(msg[0:4], uint32(unix.SizeofNlMsghdr+len(data)))
	binary.NativeEndian.PutUint16(msg[4:6], unix.SOCK_DIAG_BY_FAMILY)
	binary.NativeEndian.PutUint16(msg[6:8], unix.NLM_F_REQUEST|flags)
	binary.NativeEndian.PutUint32(msg[8:12], c.seq)
	if err := unix.Sendto(c.fd, append(msg, data...), 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("query sock_diag: %w", err)
	}
	buf, _ := diagBuffers.Get().(*[]byte)
	defer diagBuffers.Put(buf)
	for {
		n, err := c.receive(*buf)
		if err != nil {
			return fmt.Errorf("read sock_diag: %w", err)
		}
		done, err := c.messages((*buf)[:n], each)
		if err != nil || done || flags&unix.NLM_F_DUMP == 0 {
			return err
		}
	}
}

// receive reads one datagram of the kernel's.
func (c *diagConn) receive(buf []byte) (int, error) {
	for {
		n, _, flags, from, err := unix.Recvmsg(c.fd, buf, nil, 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			return 0, os.ErrDeadlineExceeded
		case err != nil:
			return 0, err
		case flags&unix.MSG_TRUNC != 0:
			return 0, fmt.Errorf("%w: an answer is longer than %d bytes", ErrMalformed, len(buf))
		}
		// Nobody else's word counts; a socket can be sent to by other processes (netlink(7)).
		if sender, ok := from.(*unix.SockaddrNetlink); ok && sender.Pid == 0 {
			return n, nil
		}
	}
}

// messages reads a datagram's messages. done: it has the end of a dump.
func (c *diagConn) messages(b []byte, each func([]byte) error) (done bool, err error) {
	for len(b) >= unix.SizeofNlMsghdr {
		size := int(binary.NativeEndian.Uint32(b[0:4]))
		if size < unix.SizeofNlMsghdr || size > len(b) {
			return false, fmt.Errorf("%w: a message of %d bytes", ErrMalformed, size)
		}
		data := b[unix.SizeofNlMsghdr:size]
		kind, seq := binary.NativeEndian.Uint16(b[4:6]), binary.NativeEndian.Uint32(b[8:12])
		b = b[min(len(b), (size+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1)):]
		if seq != c.seq {
			continue // of a request before, which has ended with an error
		}
		switch kind {
		case unix.NLMSG_DONE, unix.NLMSG_ERROR:
			// Both begin with an error number, negative; 0 is none.
			if len(data) >= 4 {
				if errno := int32(binary.NativeEndian.Uint32(data[0:4])); errno < 0 {
					return true, fmt.Errorf("read sock_diag: %w", unix.Errno(-errno))
				}
			}
			return true, nil
		case unix.SOCK_DIAG_BY_FAMILY:
			if err := each(data); err != nil {
				return false, err
			}
		}
	}
	return false, nil
}
