//go:build !linux

package main

import "net"

func passedListeners() ([]net.Listener, error) { return nil, nil }

func v6Only(net.Listener) bool { return false }
