package alloc_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/alloc"
	"rbeehive/alloc/internal/porttest"
)

// A port that is leased is rechecked before its holder is restarted: only who is in the way
// of the holder's own address counts.
func TestRecheckChecksTheHoldersAddress(t *testing.T) {
	for _, c := range []struct {
		foreign string
		v6Only  bool
		host    string
		free    bool
	}{
		{"::1", false, "127.0.0.1", true},
		{"::", true, "127.0.0.1", true},
		{"127.0.0.2", false, "127.0.0.1", true},
		{"127.0.0.1", false, "::1", true},
		{"::1", false, "0.0.0.0", true},
		{"127.0.0.1", false, "localhost", false},
		{"127.0.0.1", false, "127.0.0.1", false},
		{"0.0.0.0", false, "127.0.0.1", false},
		{"::", false, "127.0.0.1", false},
		{"127.0.0.2", false, "0.0.0.0", false},
		{"::1", false, "::", false},
		{"::1", false, "a.name", false},
	} {
		for _, listen := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s for %s, listening %t", c.foreign, c.host, listen), func(t *testing.T) {
				f := setUp(t, 1)
				l := f.lease(alloc.Request{})
				take := porttest.Bind
				if listen {
					take = porttest.Listen
				}
				take(t, netip.AddrPortFrom(netip.MustParseAddr(c.foreign), l.Port), porttest.Options{V6Only: c.v6Only})
				err := f.Recheck(t.Context(), []uint16{l.Port}, c.host)
				if c.free {
					require.NoError(t, err)
					return
				}
				var held *alloc.UnavailableError
				require.ErrorAs(t, err, &held)
				require.False(t, held.Draining)
				require.NotNil(t, held.Holder)
			})
		}
	}
}
