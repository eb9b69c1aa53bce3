//go:build linux && !amd64

package main

import (
	"errors"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

var errNoRegisters = fmt.Errorf("faults: %w on %s: which registers a call uses is known for amd64 only", errors.ErrUnsupported, runtime.GOARCH)

func failing(unix.Errno) func(int) (func() error, error) { return shortened }

func shortened(int) (func() error, error) { return nil, errNoRegisters }
