package endpoint_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/alloc/sockets"
	"rbeehive/hive/endpoint"
	"rbeehive/store"
)

// The address of a worker is one that can be connected to from this machine.
func TestURL(t *testing.T) {
	for host, want := range map[string]string{
		"127.0.0.1":    "http://127.0.0.1:8080",
		"0.0.0.0":      "http://127.0.0.1:8080",
		"::":           "http://[::1]:8080",
		"::1":          "http://[::1]:8080",
		"192.0.2.7":    "http://192.0.2.7:8080",
		"2001:db8::7":  "http://[2001:db8::7]:8080",
		"localhost":    "http://localhost:8080",
		"node.example": "http://node.example:8080",
	} {
		spec := store.Spec{Host: host}
		require.Equal(t, want, endpoint.URLOf(spec, 8080), host)
		require.Equal(t, want, endpoint.URL(store.Worker{Port: 8080, Spec: spec}), host)
		spec.Ready.TLS = true
		spec.BasePath = "/below"
		require.Equal(t, "https"+strings.TrimPrefix(want, "http")+"/below", endpoint.URLOf(spec, 8080), host)
	}
}

// Which sockets of a worker's port take its connections, and which are beside them.
func TestSplit(t *testing.T) {
	at := func(inode uint64, addr string) sockets.Socket {
		return sockets.Socket{Local: netip.AddrPortFrom(netip.MustParseAddr(addr), 8080), State: sockets.Listen, Inode: inode}
	}
	loop4, loop6, any4, outer := at(4, "127.0.0.1"), at(6, "::1"), at(1, "0.0.0.0"), at(7, "192.0.2.7")
	for name, c := range map[string]struct {
		host        string
		socks       []sockets.Socket
		own, beside []sockets.Socket
	}{
		"its own address":                  {"127.0.0.1", []sockets.Socket{outer, loop4}, []sockets.Socket{loop4}, []sockets.Socket{outer}},
		"the exact one before any":         {"127.0.0.1", []sockets.Socket{any4, loop4}, []sockets.Socket{loop4}, []sockets.Socket{any4}},
		"any, where there is no exact one": {"127.0.0.1", []sockets.Socket{any4, outer}, []sockets.Socket{any4}, []sockets.Socket{outer}},
		"localhost is both":                {"localhost", []sockets.Socket{loop4, loop6, outer}, []sockets.Socket{loop4, loop6}, []sockets.Socket{outer}},
		"of all addresses none is beside":  {"0.0.0.0", []sockets.Socket{loop4, any4, outer}, []sockets.Socket{loop4, any4, outer}, nil},
		"a name may stand for any of them": {"node.example", []sockets.Socket{loop4, outer}, []sockets.Socket{loop4, outer}, nil},
		"nobody listens where it should":   {"127.0.0.1", []sockets.Socket{outer}, nil, []sockets.Socket{outer}},
		"nobody listens":                   {"127.0.0.1", nil, nil, nil},
	} {
		own, beside := endpoint.Split(c.socks, c.host)
		require.Equal(t, c.own, own, name)
		require.Equal(t, c.beside, beside, name)
	}
}

// listening is a port on which this process listens.
func listening(t *testing.T) (port uint16, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	return netip.MustParseAddrPort(l.Addr().String()).Port(), func() { require.NoError(t, l.Close()) }
}

// Why a port cannot be given out again: somebody listens there, who is named.
func TestWhyHeld(t *testing.T) {
	table := sockets.NewTable()
	one, stop := listening(t)
	other, stopOther := listening(t)
	us := fmt.Sprintf("(pid %d, user ", os.Getpid())
	require.Contains(t, endpoint.WhyHeld(table, []uint16{one}), us)
	require.Contains(t, endpoint.WhyHeld(table, []uint16{one}), "still has it")
	require.Contains(t, endpoint.WhyHeld(table, []uint16{other, one}), fmt.Sprintf("still has port %d", other))
	stopOther()
	require.Contains(t, endpoint.WhyHeld(table, []uint16{other, one}), fmt.Sprintf("still has port %d", one), "any of its ports")
	stop()
	require.Empty(t, endpoint.WhyHeld(table, []uint16{one, other}))
	require.Empty(t, endpoint.WhyHeld(table, nil))
}

func TestStillHeld(t *testing.T) {
	sock := func(port uint16) sockets.Socket {
		return sockets.Socket{Local: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port), State: sockets.Listen, Inode: 1<<63 - 1}
	}
	snap := sockets.NewSnapshot(sock(8081))
	for name, c := range map[string]struct {
		ports []uint16
		want  string
	}{
		"its only port":    {[]uint16{8081}, "an unknown process still has it"},
		"one of several":   {[]uint16{8080, 8081}, "an unknown process still has port 8081"},
		"none of them":     {[]uint16{8080, 8082}, ""},
		"without any port": {nil, ""},
	} {
		require.Equal(t, c.want, endpoint.StillHeld(context.Background(), snap, c.ports), name)
	}
	require.Equal(t, "an unknown process", endpoint.Describe(t.Context(), nil))
}

func TestOverlap(t *testing.T) {
	require.True(t, endpoint.Overlap([]uint16{1, 2}, []uint16{2, 3}))
	require.False(t, endpoint.Overlap([]uint16{1, 2}, []uint16{3}))
	require.False(t, endpoint.Overlap(nil, []uint16{3}))
	require.False(t, endpoint.Overlap(nil, nil))
}
