package sockets

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Sizes and offsets of struct inet_diag_req_v2, inet_diag_msg and inet_diag_sockid:
// include/uapi/linux/inet_diag.h, sock_diag(7).
const (
	sizeRequest  = 56
	sizeSockID   = 48
	sizeReply    = 72
	attrV6Only   = 11 // INET_DIAG_SKV6ONLY, kernel >= 4.3
	attrCgroupID = 21 // INET_DIAG_CGROUP_ID, kernel >= 5.7
)

// diagTimeout bounds one exchange with the kernel, which answers immediately or never.
const diagTimeout = 5 * time.Second

// diagBuffer is the most that the kernel puts into one answer (netlink_recvmsg,
// kernel >= 3.15). It learns from the buffer of the last read how much to send:
// with a small one every answer holds a dozen sockets, takes two system calls,
// and the walk through the table is interrupted that much more often.
const diagBuffer = 32 << 10

// diag reads the sockets of TCP over IPv4 and IPv6 that are in one of states and,
// if port is not 0, have it as their local port.
func diag(ctx context.Context, states uint32, port uint16) ([]Socket, error) {
	conn, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, &netlink.Config{MessageBufferSize: diagBuffer})
	if err != nil {
		return nil, fmt.Errorf("open sock_diag: %w", err)
	}
	defer conn.Close()
	// A netlink connection has deadlines, and knows no context.
	deadline := time.Now().Add(diagTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, fmt.Errorf("sock_diag deadline: %w", err)
	}
	var list []Socket
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		if list, err = diagFamily(conn, list, family, states, port); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// diagFamily appends one family's sockets to list.
func diagFamily(conn *netlink.Conn, list []Socket, family uint8, states uint32, port uint16) ([]Socket, error) {
	_, err := conn.Send(netlink.Message{
		Header: netlink.Header{Type: unix.SOCK_DIAG_BY_FAMILY, Flags: netlink.Request | netlink.Dump},
		Data:   diagRequest(family, states, port),
	})
	if err != nil {
		return nil, fmt.Errorf("query sock_diag: %w", err)
	}
	for msg, err := range conn.ReceiveIter() {
		if err != nil {
			return nil, fmt.Errorf("read sock_diag: %w", err)
		}
		sock, err := parseDiag(msg.Data)
		if err != nil {
			return nil, err
		}
		// The kernel filters by port since 3.3; a filter it ignored would hand
		// us somebody else's sockets as this port's.
		if port == 0 || sock.Local.Port() == port {
			list = append(list, sock)
		}
	}
	return list, nil
}

// diagRequest makes a struct inet_diag_req_v2.
func diagRequest(family uint8, states uint32, port uint16) []byte {
	b := make([]byte, sizeRequest)
	b[0] = family
	b[1] = unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(b[4:8], states)
	binary.BigEndian.PutUint16(b[8:10], port)
	return b
}

// parseDiag reads a struct inet_diag_msg and its attributes.
func parseDiag(b []byte) (Socket, error) {
	if len(b) < sizeReply {
		return Socket{}, fmt.Errorf("%w: %d bytes of inet_diag_msg", ErrMalformed, len(b))
	}
	id := b[4 : 4+sizeSockID]
	// Addresses and ports are in network order, other numbers in the machine's.
	sock := Socket{
		Local:  diagAddr(b[0], id[4:20], id[0:2]),
		Remote: diagAddr(b[0], id[20:36], id[2:4]),
		State:  stateOf(b[1]),
		UID:    binary.NativeEndian.Uint32(b[64:68]),
		Inode:  uint64(binary.NativeEndian.Uint32(b[68:72])),
	}
	return sock, sock.attributes(b[sizeReply:])
}

// attributes reads those that are wanted. They are read by hand because a dump has
// thousands of them and the library's decoder allocates for each.
func (s *Socket) attributes(attrs []byte) error {
	for len(attrs) >= unix.SizeofNlAttr {
		size := int(binary.NativeEndian.Uint16(attrs[0:2]))
		if size < unix.SizeofNlAttr || size > len(attrs) {
			return fmt.Errorf("%w: attribute of %d bytes", ErrMalformed, size)
		}
		value := attrs[unix.SizeofNlAttr:size]
		switch kind := binary.NativeEndian.Uint16(attrs[2:4]); {
		case kind == attrCgroupID && len(value) == 8:
			s.CgroupID = binary.NativeEndian.Uint64(value)
		case kind == attrV6Only && len(value) == 1:
			s.V6Only = value[0] != 0
		}
		// Attributes are padded, but the last one need not be.
		attrs = attrs[min(len(attrs), (size+unix.NLA_ALIGNTO-1)&^(unix.NLA_ALIGNTO-1)):]
	}
	return nil
}

func diagAddr(family uint8, addr, port []byte) netip.AddrPort {
	p := binary.BigEndian.Uint16(port)
	if family == unix.AF_INET {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(addr[:4])), p)
	}
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(addr)), p)
}

// stateOf translates the kernel's number. A closed socket that is listed with a
// local port is one that is bound.
func stateOf(kernel uint8) State {
	switch kernel {
	case tcpListen:
		return Listen
	case tcpClose, tcpBoundInactive:
		return Bound
	case tcpEstablished:
		return Established
	case tcpTimeWait:
		return TimeWait
	case tcpFinWait1:
		return FinWait1
	case tcpFinWait2:
		return FinWait2
	case tcpCloseWait:
		return CloseWait
	}
	return Other
}
