//go:build !linux

package space

import "os"

// Only Linux preallocates: the daemon runs nowhere else, and the offline
// commands of hivectl can fail on a full disk without harm.
func allocate(*os.File, int64, int64) error { return errNoPreallocation }

// Free is not known.
func Free(*os.File) (int64, error) { return 0, errNoPreallocation }
