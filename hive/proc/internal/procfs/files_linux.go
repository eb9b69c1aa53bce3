package procfs

import (
	"context"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"rbeehive/store/procread"
)

// FileID identifies an open file whatever its name is now.
type FileID struct{ Dev, Ino uint64 }

// FileOf says which file a path leads to. It asks no server for that: a process may have
// a file of a mount open whose server, another process or machine, does not answer.
func FileOf(path string) (FileID, bool) {
	var st unix.Statx_t
	if err := unix.Statx(unix.AT_FDCWD, path, unix.AT_STATX_DONT_SYNC, unix.STATX_INO, &st); err != nil {
		return FileID{}, false
	}
	return FileID{Dev: unix.Mkdev(st.Dev_major, st.Dev_minor), Ino: st.Ino}, true
}

// OpenFile says which file a process has open as a descriptor.
func OpenFile(pid, fd int) (FileID, bool) {
	id, err := procread.Read(pid, func(procread.Progress) (FileID, error) {
		id, ok := FileOf(path(pid, "fd/"+strconv.Itoa(fd)))
		if !ok {
			return id, os.ErrNotExist
		}
		return id, nil
	})
	return id, err == nil
}

// SocketInodes returns the inodes of the sockets that a process has open. See Gone for
// one that has ended, or is hidden (hidepid).
func SocketInodes(ctx context.Context, pid int) (map[uint64]bool, error) {
	s, err := ReadStat(pid)
	if err != nil {
		return nil, err
	}
	id := s.ReadableID()
	return procread.Read(id, func(progress procread.Progress) (map[uint64]bool, error) {
		dir := path(id, "fd")
		fds, err := os.ReadDir(dir)
		if err != nil {
			return nil, err
		}
		out := make(map[uint64]bool)
		// A process may have a million descriptors open.
		for _, fd := range fds {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			progress()
			link, err := os.Readlink(dir + "/" + fd.Name())
			if err != nil {
				continue // closed meanwhile
			}
			if inode, ok := ParseSocketLink(link); ok {
				out[inode] = true
			}
		}
		return out, nil
	})
}

// ParseSocketLink reads what the link of a descriptor says of a socket: "socket:[4711]".
func ParseSocketLink(link string) (inode uint64, ok bool) {
	number, ok := strings.CutPrefix(link, "socket:[")
	if !ok {
		return 0, false
	}
	inode, err := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 64)
	return inode, err == nil
}
