//go:build !(linux || darwin || freebsd || netbsd || openbsd)

package output

import "os"

// WindowSize: without an ioctl to ask, output is treated as piped.
func WindowSize(*os.File) (columns, rows int) { return 0, 0 }
