package models

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// lockDir takes the lock of an open directory, which its Close gives back. false:
// somebody else has it.
func lockDir(dir *os.File) (bool, error) {
	err := unix.Flock(int(dir.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}
