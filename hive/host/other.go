//go:build !linux

package host

import "context"

// KernelRelease returns nothing.
func KernelRelease() string { return "" }

// ClockSynchronised returns ErrUnsupported.
func ClockSynchronised() (bool, error) { return false, ErrUnsupported }

// CanTrace returns ErrUnsupported.
func CanTrace() (bool, error) { return false, ErrUnsupported }

// ProcHiding returns ErrUnsupported.
func ProcHiding() (Hiding, error) { return Hiding{}, ErrUnsupported }

// ReadLocalPorts returns ErrUnsupported.
func ReadLocalPorts() (LocalPorts, error) { return LocalPorts{}, ErrUnsupported }

// IsInit returns false.
func IsInit() bool { return false }

// FindFirst returns ErrUnsupported.
func FindFirst(context.Context) (First, error) { return First{}, ErrUnsupported }

// FindUnit returns ErrUnsupported.
func FindUnit(context.Context, []string) (Unit, error) { return Unit{}, ErrUnsupported }

// DescriptorLimit returns ErrUnsupported.
func DescriptorLimit() (Limit, error) { return Limit{}, ErrUnsupported }

// TaskLimits returns ErrUnsupported.
func TaskLimits() ([]Limit, error) { return nil, ErrUnsupported }

// ServeThreads returns false.
func ServeThreads() bool { return false }

// KeepThreads returns nil.
func KeepThreads(context.Context) error { return nil }
