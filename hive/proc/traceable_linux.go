package proc

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// lookAtProgram returns an error if a program, or the directory that it is to begin in, is for
// the gate process. It is asked with the rights of the user who is to execute it.
var lookAtProgram = NewLook("traceable", func(a [2]string) (bool, error) {
	if dir := a[1]; dir != "" {
		if err := promptPath(dir, unix.S_IFDIR); err != nil {
			return false, err
		}
	}
	return true, traceable(a[0])
})

const (
	// maxInterpreters is how often a script may be the interpreter of another (execve(2)).
	maxInterpreters = 5
	// headLength is what the kernel reads of a program to see what it is (BINPRM_BUF_SIZE).
	headLength = 256
	// maxLinks is how many symbolic links a path may lead through (MAXSYMLINKS).
	maxLinks = 40
)

// traceable returns nil for a program whose execve returns at once, keeps the death signal
// and gives the rights that it gives without a tracer: one that its user may read, without a
// set-user-id or set-group-id bit or file capabilities (prctl(2), PR_SET_PDEATHSIG; execve(2)),
// of this architecture, and on a path of promptPath. Of a script that is said of what
// interprets it, too.
func traceable(path string) error {
	for range maxInterpreters {
		if err := promptPath(path, unix.S_IFREG); err != nil {
			return err
		}
		interpreter, err := interpreterOf(path)
		if err != nil || interpreter == "" {
			return err
		}
		path = interpreter
	}
	return errors.New("it is a script of a script of a script")
}

// interpreterOf returns the program that a script names; empty: it is a program itself.
func interpreterOf(path string) (string, error) {
	f, err := OpenRegular(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if err := givesNothing(f); err != nil {
		return "", err
	}
	head := make([]byte, headLength)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return "", err
	}
	script, isScript := bytes.CutPrefix(head[:n], []byte("#!"))
	if !isScript {
		return "", checkELF(f)
	}
	line, _, _ := bytes.Cut(script, []byte("\n"))
	fields := bytes.Fields(line)
	if len(fields) == 0 || fields[0][0] != '/' {
		return "", errors.New("it is a script without the path of an interpreter")
	}
	return string(fields[0]), nil
}

// givesNothing refuses a program that gives rights to who executes it.
func givesNothing(f *os.File) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if info.Mode()&(os.ModeSetuid|os.ModeSetgid) != 0 {
		return fmt.Errorf("%s has a set-id bit", f.Name())
	}
	_, err = unix.Fgetxattr(int(f.Fd()), "security.capability", nil)
	switch {
	case err == nil:
		return fmt.Errorf("%s has file capabilities", f.Name())
	case !errors.Is(err, unix.ENODATA) && !errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("capabilities of %s: %w", f.Name(), err)
	}
	return nil
}

// checkELF refuses what is no 64-bit program of this architecture: others are executed by an
// interpreter that the system has for them (binfmt_misc), whose rights nobody has looked at.
func checkELF(f *os.File) error {
	program, err := elf.NewFile(f)
	if err != nil {
		return errors.New("it is no ELF program")
	}
	if program.Class != elf.ELFCLASS64 || program.Machine != elf.EM_X86_64 {
		return errors.New("it is a program of another architecture")
	}
	for _, segment := range program.Progs {
		if segment.Type != elf.PT_INTERP {
			continue
		}
		loader, err := io.ReadAll(io.LimitReader(segment.Open(), unix.PathMax))
		if err != nil {
			return err
		}
		return promptPath(strings.TrimRight(string(loader), "\x00"), unix.S_IFREG)
	}
	return nil
}

// localFileSystems answer as long as the machine does.
var localFileSystems = []int64{
	unix.EXT4_SUPER_MAGIC, unix.XFS_SUPER_MAGIC, unix.BTRFS_SUPER_MAGIC, unix.F2FS_SUPER_MAGIC, unix.TMPFS_MAGIC, unix.RAMFS_MAGIC,
	unix.OVERLAYFS_SUPER_MAGIC, unix.SQUASHFS_MAGIC, 0x2fc12fc1 /* zfs */, 0xca451a4e /* bcachefs */, 0xe0f5e1e2, /* erofs */
}

// promptPath returns nil for the absolute path of something that hive itself may access without
// being kept: a fork waits in the execve, and with it all of hive (Go holds its ForkLock, and
// the thread is stopped where a garbage collection cannot stop it), nor does kill -9 free what
// hive has open before the other side answers. So all of the path is on local file systems,
// and nobody but root and hive's own user can change where it leads, or take a lease on it
// (fcntl(2), F_SETLEASE, which is for the owner).
func promptPath(path string, kind uint32) error {
	at, rest := "/", strings.Split(filepath.Clean(path), "/")
	st, err := ownedHere(at)
	for links := 0; err == nil && len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "":
			continue
		case "..": // of a link
			at = filepath.Dir(at)
			st, err = ownedHere(at)
			continue
		}
		next := filepath.Join(at, name)
		if st, err = ownedHere(next); err != nil {
			return err
		}
		if st.Mode&unix.S_IFMT != unix.S_IFLNK {
			at = next
			continue
		}
		target, err := os.Readlink(next)
		if links++; err != nil || links > maxLinks {
			return fmt.Errorf("%s leads through too many links, or none that can be read", path)
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		rest = slices.Concat(strings.Split(target, "/"), rest)
	}
	if err == nil && st.Mode&unix.S_IFMT != kind {
		err = fmt.Errorf("%s is not what it should be", path)
	}
	return err
}

// ownedHere looks at one name of a path, which only root and hive's user may be able to change.
func ownedHere(path string) (unix.Stat_t, error) {
	var st unix.Stat_t
	var fs unix.Statfs_t
	if err := unix.Lstat(path, &st); err != nil {
		return st, fmt.Errorf("%s: %w", path, err)
	}
	isLink, isDir := st.Mode&unix.S_IFMT == unix.S_IFLNK, st.Mode&unix.S_IFMT == unix.S_IFDIR
	if st.Uid != 0 && int(st.Uid) != os.Geteuid() {
		return st, fmt.Errorf("%s belongs to another user", path)
	}
	// In a sticky directory, such as /tmp, nobody can rename or remove what is another's.
	if !isLink && st.Mode&0o022 != 0 && (!isDir || st.Mode&unix.S_ISVTX == 0) {
		return st, fmt.Errorf("%s can be written to by others", path)
	}
	if isLink {
		return st, nil
	}
	if err := unix.Statfs(path, &fs); err != nil {
		return st, fmt.Errorf("%s: %w", path, err)
	}
	if !slices.Contains(localFileSystems, int64(fs.Type)) { //nolint:unconvert // 32 bits on some architectures
		return st, fmt.Errorf("%s is on a file system that may not answer", path)
	}
	return st, nil
}
