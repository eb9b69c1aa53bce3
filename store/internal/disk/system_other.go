//go:build !linux

package disk

import "os"

// Elsewhere than on Linux only the offline commands of hivectl open a file.
// There are no abstract sockets, so nothing is claimed; and a file's identity
// is not known, so a copy is not noticed.
// Claim claims nothing.
type Claim struct{}

// NewClaim always succeeds.
func NewClaim(string) (*Claim, error) { return &Claim{}, nil }

// Release does nothing.
func (c *Claim) Release() error { return nil }

// Identify knows nothing.
func Identify(*os.File) (ID, error) { return ID{}, nil }

// Lock leaves it to bbolt.
func Lock(*os.File) (bool, error) { return true, nil }

// LockShared is Lock.
func LockShared(*os.File) (bool, error) { return true, nil }

// Unlock does nothing.
func Unlock(*os.File) error { return nil }

// CanExamine says that bbolt locks the file and reads it in one call, so it cannot be
// examined in between.
const CanExamine = false

// LockHolder is not known.
func LockHolder(string) int { return 0 }

// ForgetPages does nothing.
func ForgetPages(uintptr, int64) {}
