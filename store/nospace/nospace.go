// Package nospace tells what a file system has run out of. A full disk and one without
// inodes are one error of the system's (ENOSPC), and who is told of the first looks at
// free bytes, of which the second has plenty.
//
// It uses nothing of hive's, so that every package may use it.
package nospace

import (
	"errors"
	"fmt"
	"syscall"
)

// Left is what an ordinary user can still write to a file system; math.MaxInt64 where it
// sets no limit, or the system does not say.
type Left struct {
	Bytes  int64
	Inodes int64 // files and directories
}

// Is reports whether an error says that a file system has no room, or that its user may not
// have more of it.
func Is(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) }

// few is how many inodes may be there again, and some bytes as well, when Why looks: who got
// the error has removed what it had made.
const few = 64

// Why says for an error for which Is holds what has run out where dir is, and what to do.
func Why(dir string, err error) string {
	if errors.Is(err, syscall.EDQUOT) {
		return fmt.Sprintf("the disk quota of hive's user is used up in %s: remove files, or have it raised (`quota`)", dir)
	}
	if left, known := In(dir); known == nil && left.Inodes < few && left.Bytes > 0 {
		return fmt.Sprintf("no inodes are left in the file system of %s, however much space is: remove files there (`df -i %[1]s` counts them)", dir)
	}
	return fmt.Sprintf("the file system of %s is full: free some space there", dir)
}
