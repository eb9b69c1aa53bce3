//go:build linux || darwin || freebsd || netbsd || openbsd

package output

import (
	"cmp"
	"os"

	"golang.org/x/sys/unix"
)

// WindowSize asks the terminal (TIOCGWINSZ, ioctl_tty(2)). A terminal that does not
// know its size says 0 and is taken for 80 columns and 24 rows.
func WindowSize(f *os.File) (columns, rows int) {
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0
	}
	return cmp.Or(int(size.Col), 80), cmp.Or(int(size.Row), 24)
}
