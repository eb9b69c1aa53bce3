//go:build !(linux || darwin || freebsd || netbsd || openbsd)

package command

import "os"

// terminalWidth: without an ioctl to ask, output is treated as piped.
func terminalWidth(*os.File) int { return 0 }
