package sockets

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

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

// diag reads the sockets of TCP over IPv4 and IPv6 that are in one of states and,
// if port is not 0, have it as their local port.
func diag(ctx context.Context, states uint32, port uint16) ([]Socket, error) {
	conn, err := dialDiag(ctx, diagTimeout)
	if err != nil {
		return nil, err
	}
	defer conn.close()
	var list []Socket
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		err := conn.ask(unix.NLM_F_DUMP, diagRequest(family, states, port), func(data []byte) error {
			sock, err := parseDiag(data)
			if err != nil {
				return err
			}
			// The kernel filters by port since 3.3; a filter it ignored would hand
			// us somebody else's sockets as this port's.
			if port == 0 || sock.Local.Port() == port {
				list = append(list, sock)
			}
			return nil
		})
		if err != nil {
			return nil, err
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
		// Two halves, the low one first (struct inet_diag_sockid, idiag_cookie).
		Cookie: uint64(binary.NativeEndian.Uint32(id[40:44])) | uint64(binary.NativeEndian.Uint32(id[44:48]))<<32,
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
