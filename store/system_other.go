//go:build !linux

package store

import "os"

// Elsewhere than on Linux only the offline commands of hivectl open a file.
// There are no abstract sockets, so nothing is claimed; and a file's identity
// is not known, so a copy is not noticed.
type claim struct{}

func newClaim(string) (*claim, error) { return &claim{}, nil }

func (c *claim) release() error { return nil }

func identify(*os.File) (fileID, error) { return fileID{}, nil }

// lock leaves it to bbolt.
func lock(*os.File) (bool, error) { return true, nil }

func lockShared(*os.File) (bool, error) { return true, nil }

func unlock(*os.File) error { return nil }

// canExamine: bbolt locks the file and reads it in one call, so it cannot be
// examined in between.
const canExamine = false

func lockHolder(string) int { return 0 }

func forgetPages(uintptr, int64) {}
