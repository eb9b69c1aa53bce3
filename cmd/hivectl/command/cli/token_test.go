package cli_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/cmd/hivectl/command/cli"
)

// Only an address of this machine gets the token of this machine unasked.
func TestLoopback(t *testing.T) {
	for _, other := range []string{"http://gpubox.lan:7835", "gpubox.lan:7835", "http://127.0.0.1.evil.example", "http://localhost.evil.example", "http://10.0.0.1:7835"} {
		require.False(t, cli.Loopback(other), other)
	}
	for _, own := range []string{"", "localhost:1", "127.0.0.1:7835", "https://[::1]:7835", "http://127.9.9.9"} {
		require.True(t, cli.Loopback(own), own)
	}
	require.False(t, cli.Loopback("unix:/run/hive.sock"), "nobody asks for it there")
}
