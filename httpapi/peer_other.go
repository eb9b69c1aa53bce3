//go:build !linux

package httpapi

import "net"

func peerUID(*net.UnixConn) (uint32, error) { return 0, errNoPeer }
