package alloc

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// claimName is the abstract unix socket that says "a hive leases this port". The
// name and the type SOCK_STREAM are a protocol between hives of one network
// namespace: changing either makes two versions blind to each other.
func claimName(port uint16) string { return "hive-port/" + strconv.Itoa(int(port)) }

// takeClaim binds the claim of a port and returns its descriptor; closing it
// gives the claim up. The error is EADDRINUSE when somebody else has it.
// net.Listen would put a second descriptor and the poller behind each port.
func takeClaim(port uint16) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("claim port %d: %w", port, err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: "@" + claimName(port)}); err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("claim port %d: %w", port, err)
	}
	return fd, nil
}

// dropClaim gives a claim up. After an error of close(2) the descriptor is closed all the same.
func dropClaim(fd int) { _ = unix.Close(fd) }

func inUse(err error) bool { return errors.Is(err, unix.EADDRINUSE) }

// tryBind reports whether the port can be bound on all of the addresses, of which host may
// be one. It never listens: a listening probe would take another program's connections. The
// sockets are closed again when it returns, and a socket that was only bound leaves no
// residue.
//
// An error is not about this port: ErrBadHost, EACCES, no descriptors left.
func tryBind(port uint16, addrs []netip.Addr, host netip.Addr, reuse bool) (bool, error) {
	for _, addr := range addrs {
		err := bindOnce(netip.AddrPortFrom(addr, port), reuse)
		switch {
		case err == nil:
		case inUse(err):
			return false, nil
		case addr == host && !host.IsUnspecified() && errors.Is(err, unix.EADDRNOTAVAIL):
			return false, fmt.Errorf("%w: %s", ErrBadHost, host)
		case addr.Is6() && noIPv6(err):
			// A machine without IPv6: nobody can be there either.
		default:
			return false, fmt.Errorf("probe port %d on %s: %w", port, addr, err)
		}
	}
	return true, nil
}

func noIPv6(err error) bool {
	return errors.Is(err, unix.EAFNOSUPPORT) || errors.Is(err, unix.EADDRNOTAVAIL)
}

// bindOnce binds and closes. An IPv6 socket is bound for IPv6 alone, else the
// wildcard probe would only repeat the one for IPv4. This process does not fork
// meanwhile: the child would have a copy of the socket until its execve, and the
// next bind would meet it (syscall.ForkLock).
func bindOnce(at netip.AddrPort, reuse bool) error {
	family, sa := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Port: int(at.Port()), Addr: at.Addr().As16()})
	if at.Addr().Is4() {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}
	}
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if family == unix.AF_INET6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return err
		}
	}
	if reuse {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return err
		}
	}
	return unix.Bind(fd, sa)
}

// notPermitted reports whether the system refused to let hive bind the port: EPERM is the
// word of a filter of a cgroup.
func notPermitted(err error) bool { return errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) }

// whyForbidden says why the system does not let hive bind a port, and what helps.
func whyForbidden(port uint16) string {
	const sysctl = "net.ipv4.ip_unprivileged_port_start"
	text, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(sysctl, ".", "/"))
	start, err2 := strconv.Atoi(strings.TrimSpace(string(text)))
	if err == nil && err2 == nil && int(port) < start {
		return fmt.Sprintf("hive is not permitted to bind ports below %d (%s); take one from there on, lower that sysctl, or give hive CAP_NET_BIND_SERVICE", start, sysctl)
	}
	return "the system does not permit hive to bind it: a policy such as SELinux's forbids it; take another port"
}
