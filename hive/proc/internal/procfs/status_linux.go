package procfs

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"rbeehive/store/procread"
)

// UIDs are the four user ids of a process (credentials(7)).
type UIDs struct{ Real, Effective, Saved, FileSystem uint32 }

// Same reports whether all four are of one user.
func (u UIDs) Same() bool {
	return u.Real == u.Effective && u.Real == u.Saved && u.Real == u.FileSystem
}

// ReadUIDs reads the user ids of a process.
func ReadUIDs(pid int) (UIDs, error) {
	var buf [SmallFile]byte
	status, err := ReadSmall(path(pid, "status"), buf[:])
	if err != nil {
		return UIDs{}, err
	}
	return ParseUIDs(status)
}

// ParseUIDs reads the user ids in a /proc/<pid>/status. The name before them is escaped
// by the kernel, so no process can put a line there.
func ParseUIDs(status []byte) (UIDs, error) {
	for line := range bytes.Lines(status) {
		text, ok := bytes.CutPrefix(line, []byte("Uid:"))
		if !ok {
			continue
		}
		f := strings.Fields(string(text))
		if len(f) != 4 {
			return UIDs{}, fmt.Errorf("parse /proc/<pid>/status: %q", line)
		}
		var u UIDs
		for i, to := range []*uint32{&u.Real, &u.Effective, &u.Saved, &u.FileSystem} {
			n, err := strconv.ParseUint(f[i], 10, 32)
			if err != nil {
				return UIDs{}, fmt.Errorf("parse /proc/<pid>/status: %w", err)
			}
			*to = uint32(n)
		}
		return u, nil
	}
	return UIDs{}, errors.New("parse /proc/<pid>/status: no Uid line")
}

// Ignored returns the signals that a process ignores, the first in the lowest bit.
func Ignored(pid int) (uint64, error) {
	var buf [SmallFile]byte
	status, err := ReadSmall(path(pid, "status"), buf[:])
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(status) {
		if mask, ok := bytes.CutPrefix(line, []byte("SigIgn:")); ok {
			return strconv.ParseUint(string(bytes.TrimSpace(mask)), 16, 64)
		}
	}
	return 0, errors.New("parse /proc/<pid>/status: no SigIgn line")
}

// GainedRights reports whether a process has other rights than whoever started it, by a
// set-user-ID or set-group-ID program or file capabilities (AT_SECURE, getauxval(3)):
// then its environment is from somebody with less, though its uids may all be root's.
// What cannot be read counts as gained.
func GainedRights(pid int) bool {
	aux, err := readHeld(pid, "auxv")
	return err != nil || Secure(aux)
}

// readHeld reads a small file of a process that may be held in an execve.
func readHeld(pid int, name string) ([]byte, error) {
	return procread.Read(pid, func(procread.Progress) ([]byte, error) {
		return ReadSmall(path(pid, name), make([]byte, SmallFile))
	})
}

// Secure reports whether AT_SECURE is set in an auxiliary vector of 64 bits, or not in
// it: one of a 32-bit program cannot be read.
func Secure(aux []byte) bool {
	// Pairs of a type and a value, in the order of bytes of this machine.
	const atSecure = 23
	for ; len(aux) >= 16; aux = aux[16:] {
		if binary.NativeEndian.Uint64(aux) == atSecure {
			return binary.NativeEndian.Uint64(aux[8:]) != 0
		}
	}
	return true
}

// ReadIO reads how many bytes a process has had from storage and given to it, children
// that it has waited for included. ok is false where that may not be read: of processes
// of other users without CAP_SYS_PTRACE, and of zombies.
func ReadIO(pid int) (read, written uint64, ok bool) {
	text, err := readHeld(pid, "io")
	if err != nil {
		return 0, 0, false
	}
	return ParseIO(text)
}

// ParseIO reads a /proc/<pid>/io.
func ParseIO(text []byte) (read, written uint64, ok bool) {
	for line := range bytes.Lines(text) {
		name, value, _ := bytes.Cut(bytes.TrimSuffix(line, []byte("\n")), []byte(": "))
		var err error
		switch string(name) {
		case "read_bytes":
			read, err = strconv.ParseUint(string(value), 10, 64)
		case "write_bytes":
			written, err = strconv.ParseUint(string(value), 10, 64)
		}
		if err != nil {
			return 0, 0, false
		}
	}
	return read, written, true
}
