package procfs

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"rbeehive/store/procread"
)

// maxEnviron bounds what is read of a process's environment: a process may say that it
// lies anywhere in its memory and is as large as that (PR_SET_MM, prctl(2)). execve(2)
// takes a quarter of the stack's limit, which is 2 MiB as a rule, and never more than 6.
const maxEnviron = 6 << 20

// maxArgv bounds what is read of a process's arguments, for the same reason.
const maxArgv = 256 << 10

// Environ returns the values of variables in a process's environment as it is in its
// memory now; of those whose names begin with prefix, the wanted. Nil if the environment
// cannot be read. It takes a lock of the process's memory, which the process can hold on
// to: only processes of users that are trusted with that may be asked.
func Environ(pid int, prefix string, names ...string) map[string]string {
	found, _ := procread.Read(pid, func(progress procread.Progress) (map[string]string, error) {
		return awaitEnviron(pid, progress, prefix, names), nil
	})
	return found
}

func awaitEnviron(pid int, progress procread.Progress, prefix string, names []string) map[string]string {
	begun := time.Now()
	moved, last := begun, ""
	for {
		text, err := environ(pid)
		if err != nil {
			return nil
		}
		if len(text) > 0 {
			return SearchEnviron(text, prefix, names...)
		}
		// In the middle of an execve(2) the old environment is gone, and the new is not there yet.
		now, stat := time.Now(), memoryStat(pid)
		if stat != last || wantsCPU(stat) {
			moved, last = now, stat
		}
		if !betweenEnvirons(stat) || now.Sub(begun) > longestExec || now.Sub(moved) > longestSleep {
			return nil
		}
		progress()
		time.Sleep(tryInterval)
	}
}

// How long the end of an execve is waited for. One that gets on, or would if it had a CPU,
// ends, however busy the machine is; one that waits for a disk may do so for as long as it
// likes.
const (
	longestExec  = time.Second
	longestSleep = 100 * time.Millisecond
	tryInterval  = 500 * time.Microsecond
)

// memoryStat is the stat of a process; empty if it cannot be read.
func memoryStat(pid int) string {
	var buf [SmallFile]byte
	b, _ := ReadSmall(path(pid, "stat"), buf[:])
	return string(b)
}

// wantsCPU reports whether a process runs or could.
func wantsCPU(stat string) bool {
	return strings.HasPrefix(stat[strings.LastIndexByte(stat, ')')+1:], " R")
}

// betweenEnvirons reports whether the environment of a process that seemed to have none is
// to be looked at again: it is in the middle of an execve, or behind one that has ended
// since. proc_pid_stat(5): such a process has memory (vsize), and env_end is 0 until its
// environment is there; of an empty one env_start and env_end are the same.
func betweenEnvirons(stat string) bool {
	f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(f) < 50 {
		return false
	}
	const vsize, envStart, envEnd = 23 - 3, 50 - 3, 51 - 3 // the fields after the command begin with the third
	return f[vsize] != "0" && (f[envEnd] == "0" || f[envStart] != f[envEnd])
}

func environ(pid int) ([]byte, error) {
	f, err := os.Open(path(pid, "environ"))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var buf bytes.Buffer
	buf.Grow(16 << 10)
	_, _ = buf.ReadFrom(io.LimitReader(f, maxEnviron)) // what there is before an error counts
	return buf.Bytes(), nil
}

// SearchEnviron finds variables in the text of an environment; of a name that is there
// more than once, the last. It searches rather than splits: an environment of millions
// of variables takes no longer than reading it.
func SearchEnviron(text []byte, prefix string, names ...string) map[string]string {
	var out map[string]string
	for at := 0; ; at += len(prefix) {
		next := bytes.Index(text[at:], []byte(prefix))
		if next < 0 {
			return out
		}
		// Within the name or value of another variable it is none.
		if at += next; at > 0 && text[at-1] != 0 {
			continue
		}
		kv, _, _ := bytes.Cut(text[at:], []byte{0})
		name, value, found := bytes.Cut(kv, []byte("="))
		if found && slices.Contains(names, string(name)) {
			if out == nil {
				out = make(map[string]string, len(names))
			}
			out[string(name)] = string(value)
		}
	}
}

// Argv returns the arguments of a process as they are in its memory now; nil if they
// cannot be read. A relative name in the first place is replaced by that of the
// executable.
func Argv(pid int) []string {
	argv, _ := procread.Read(pid, func(procread.Progress) ([]string, error) {
		f, err := os.Open(path(pid, "cmdline"))
		if err != nil {
			return nil, err
		}
		defer f.Close()
		b, err := io.ReadAll(io.LimitReader(f, maxArgv))
		if err != nil || len(b) == 0 {
			return nil, err
		}
		argv := SplitArgv(b)
		// Relative to a directory that the process may have left since.
		if exe, err := os.Readlink(path(pid, "exe")); err == nil && !filepath.IsAbs(argv[0]) {
			argv[0] = strings.TrimSuffix(exe, " (deleted)")
		}
		return argv, nil
	})
	return argv
}

// SplitArgv splits a /proc/<pid>/cmdline, which ends with a zero byte unless the process
// has overwritten it.
func SplitArgv(cmdline []byte) []string {
	var argv []string
	for arg := range bytes.SplitSeq(bytes.TrimSuffix(cmdline, []byte{0}), []byte{0}) {
		argv = append(argv, string(arg))
	}
	return argv
}

// Argv0Is reports whether the first argument of a process is name. It reads no more than
// that: a process says itself how long its arguments are.
func Argv0Is(pid int, name string) bool {
	buf := make([]byte, len(name)+1)
	b, err := ReadSmall(path(pid, "cmdline"), buf)
	return err == nil && string(b) == name+"\x00"
}

// WithoutArgs reports whether a process shows no arguments: a zombie, one in the middle of
// an execve(2), or one that has removed them.
func WithoutArgs(pid int) bool {
	b, err := ReadSmall(path(pid, "cmdline"), make([]byte, 1))
	return err == nil && len(b) == 0
}

// ExeErr is why the link to a process's executable cannot be read; nil if it can.
func ExeErr(pid int) error {
	_, err := procread.Read(pid, func(procread.Progress) (string, error) { return os.Readlink(path(pid, "exe")) })
	return err
}

// WorkDir returns the working directory of a process; empty if it cannot be read.
func WorkDir(pid int) string {
	dir, _ := procread.Read(pid, func(procread.Progress) (string, error) { return os.Readlink(path(pid, "cwd")) })
	return dir
}
