//go:build linux || darwin || freebsd || netbsd || openbsd

package command

import (
	"os"

	"golang.org/x/sys/unix"
)

// terminalWidth asks the terminal (TIOCGWINSZ, ioctl_tty(2)). A terminal that
// does not know its size says 0 and is taken for 80 columns.
func terminalWidth(f *os.File) int {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	if size.Col == 0 {
		return 80
	}
	return int(size.Col)
}
