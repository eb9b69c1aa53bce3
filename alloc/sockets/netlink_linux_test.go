package sockets_test

import (
	"encoding/binary"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/alloc/sockets"
)

// message is one of a datagram, as netlink(7) has it.
func message(kind uint16, seq uint32, data ...byte) []byte {
	b := make([]byte, unix.SizeofNlMsghdr)
	binary.NativeEndian.PutUint32(b[0:4], uint32(unix.SizeofNlMsghdr+len(data)))
	binary.NativeEndian.PutUint16(b[4:6], kind)
	binary.NativeEndian.PutUint32(b[8:12], seq)
	b = append(b, data...)
	return append(b, make([]byte, (unix.NLMSG_ALIGNTO-len(b)%unix.NLMSG_ALIGNTO)%unix.NLMSG_ALIGNTO)...)
}

func errno(e unix.Errno) []byte {
	return binary.NativeEndian.AppendUint32(nil, uint32(-int32(e)))
}

func TestMessages(t *testing.T) {
	of := func(parts ...[]byte) (b []byte) {
		for _, p := range parts {
			b = append(b, p...)
		}
		return b
	}
	tooLong := message(unix.SOCK_DIAG_BY_FAMILY, 7, 1)
	binary.NativeEndian.PutUint32(tooLong[0:4], 100)
	tooShort := message(unix.SOCK_DIAG_BY_FAMILY, 7)
	binary.NativeEndian.PutUint32(tooShort[0:4], 3)
	for name, c := range map[string]struct {
		datagram []byte
		seen     []string
		done     bool
		err      error
	}{
		"nothing":                   {nil, nil, false, nil},
		"two, padded":               {of(message(unix.SOCK_DIAG_BY_FAMILY, 7, 'a', 'b', 'c'), message(unix.SOCK_DIAG_BY_FAMILY, 7, 'd')), []string{"abc", "d"}, false, nil},
		"the end":                   {of(message(unix.SOCK_DIAG_BY_FAMILY, 7, 'a'), message(unix.NLMSG_DONE, 7, errno(0)...)), []string{"a"}, true, nil},
		"an end that failed":        {message(unix.NLMSG_DONE, 7, errno(unix.EINVAL)...), nil, true, unix.EINVAL},
		"an error":                  {message(unix.NLMSG_ERROR, 7, errno(unix.ENOENT)...), nil, true, unix.ENOENT},
		"an error without a number": {message(unix.NLMSG_ERROR, 7), nil, true, nil},
		"of another request":        {of(message(unix.NLMSG_ERROR, 6, errno(unix.EPERM)...), message(unix.SOCK_DIAG_BY_FAMILY, 7, 'a')), []string{"a"}, false, nil},
		"of another kind":           {message(99, 7, 'a'), nil, false, nil},
		"longer than the datagram":  {tooLong, nil, false, sockets.ErrMalformed},
		"shorter than its header":   {tooShort, nil, false, sockets.ErrMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			var seen []string
			done, err := sockets.Messages(7, c.datagram, func(b []byte) error { seen = append(seen, string(b)); return nil })
			require.ErrorIs(t, err, c.err)
			require.Equal(t, c.seen, seen)
			require.Equal(t, c.done, done)
		})
	}
	_, err := sockets.Messages(7, message(unix.SOCK_DIAG_BY_FAMILY, 7, 'a'), func([]byte) error { return io.ErrUnexpectedEOF })
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
}

func FuzzMessages(f *testing.F) {
	f.Add(message(unix.SOCK_DIAG_BY_FAMILY, 7, 'a', 'b'))
	f.Add(message(unix.NLMSG_DONE, 7, errno(unix.EINVAL)...))
	f.Fuzz(func(_ *testing.T, b []byte) {
		_, _ = sockets.Messages(7, b, func([]byte) error { return nil }) // it ends, and panics at nothing
	})
}
