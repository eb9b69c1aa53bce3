package trust_test

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

func as(uid int) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
}

// A hive of its own user believes that user and root, and nobody else.
func TestAsAnotherUser(t *testing.T) {
	needRoot(t)
	dir := openDir(t)
	home := mkdir(t, filepath.Join(dir, "home"), 0o755)
	file := write(t, filepath.Join(home, "file"), 0o644)
	give(t, home, stranger)
	give(t, file, stranger)
	rootsIn, roots := write(t, filepath.Join(home, "roots"), 0o644), write(t, filepath.Join(dir, "roots"), 0o644)
	third := write(t, filepath.Join(dir, "third"), 0o644)
	give(t, third, stranger+1)
	thirds := mkdir(t, filepath.Join(dir, "thirds"), 0o755)
	in := write(t, filepath.Join(thirds, "in"), 0o644)
	give(t, in, stranger)
	give(t, thirds, stranger+1)
	closed := write(t, filepath.Join(dir, "closed/file"), 0o644)
	mkdir(t, filepath.Join(dir, "closed"), 0o700)

	got := asked(t, as(stranger),
		question{Func: "open", Path: file}, question{Func: "open", Path: rootsIn}, question{Func: "open", Path: roots},
		question{Func: "open", Path: third}, question{Func: "open", Path: in}, question{Func: "open", Path: closed},
		question{Func: "mkdir", Path: filepath.Join(home, "a/b")}, question{Func: "mkdir", Path: filepath.Join(dir, "a")},
	)
	require.Empty(t, got[0])
	require.Empty(t, got[1])
	require.Empty(t, got[2])
	require.Equal(t, third+" belongs to uid 54322 (mode 0644), who could change what hive does as 54321; run as root: chown 54321 "+third, got[3])
	require.Equal(t, thirds+" belongs to uid 54322 (mode 0755), who could put something else in the place of "+in+
		"; keep it below directories of root or 54321, or run as root: chown 54321 "+thirds, got[4])
	require.Equal(t, "open "+closed+": permission denied", got[5])
	require.Empty(t, got[6])
	require.DirExists(t, filepath.Join(home, "a/b"))
	require.Equal(t, "open "+filepath.Join(dir, "a")+": permission denied", got[7])
}

// In a user namespace that maps one user all others look like nobody: the directories
// on the way may be theirs, what is asked for may not.
func TestUserNamespace(t *testing.T) {
	needRoot(t)
	dir := openDir(t)
	home := mkdir(t, filepath.Join(dir, "home"), 0o755)
	file := write(t, filepath.Join(home, "file"), 0o644)
	give(t, home, stranger)
	give(t, file, stranger)
	roots := write(t, filepath.Join(dir, "roots"), 0o644)
	loose := write(t, filepath.Join(dir, "loose/file"), 0o644)
	give(t, loose, stranger)
	mkdir(t, filepath.Join(dir, "loose"), 0o777)
	link(t, "home", filepath.Join(dir, "link"))

	attr := func(inside int) *syscall.SysProcAttr {
		return &syscall.SysProcAttr{
			Cloneflags:  syscall.CLONE_NEWUSER,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: inside, HostID: stranger, Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: inside, HostID: stranger, Size: 1}},
			Credential:  &syscall.Credential{Uid: uint32(inside), Gid: uint32(inside), NoSetGroups: true},
		}
	}
	for _, inside := range []int{0, 1000} {
		got := asked(t, attr(inside),
			question{Func: "open", Path: file}, question{Func: "open", Path: filepath.Join(dir, "link/file")}, question{Func: "mkdir", Path: filepath.Join(home, "made")},
			question{Func: "open", Path: roots}, question{Func: "open", Path: loose}, question{Func: "dir", Path: dir},
		)
		require.Equal(t, []string{"", "", ""}, got[:3], "inside as %d", inside)
		require.Contains(t, got[3], roots+" belongs to a user that this user namespace does not map (shown as uid 65534), so that it is not known who could change what hive does")
		require.Contains(t, got[4], "run: chmod go-w "+filepath.Join(dir, "loose"))
		require.Contains(t, got[5], "belongs to a user that this user namespace does not map")
	}
	// Who is mapped to nobody is believed as little as everybody who looks like it.
	nobody := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}
	got := asked(t, nobody, question{Func: "open", Path: file}, question{Func: "open", Path: roots})
	for _, said := range got {
		require.Contains(t, said, "does not map")
	}
}

// A container that hive has for itself: what is mounted there to be read may have any
// owner and mode, as on the host.
func TestReadOnlyInAContainer(t *testing.T) {
	needRoot(t)
	dir := openDir(t)
	conf := mkdir(t, filepath.Join(dir, "conf"), 0o777) // as Kubernetes makes that of a ConfigMap
	file := write(t, filepath.Join(conf, "file"), 0o664)
	give(t, file, stranger)
	give(t, conf, stranger)
	container := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
	noContainer := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}

	for name, c := range map[string]struct {
		attr     *syscall.SysProcAttr
		sealed   string
		believed bool
	}{
		"a directory":      {container, conf, true},
		"can be written":   {container, "", false},
		"not its own":      {noContainer, conf, false},
		"not its own file": {noContainer, file, false},
	} {
		for _, function := range []string{"open", "file"} {
			got := asked(t, c.attr, question{function, file, c.sealed})
			require.Equal(t, c.believed, got[0] == "", "%s: %s", name, got[0])
		}
	}
	// A file alone, as docker-compose.yml has it, where only root makes files.
	require.NoError(t, os.Chown(conf, 0, 0))
	require.NoError(t, os.Chmod(conf, 0o755))
	require.Empty(t, asked(t, container, question{"open", file, file})[0])
	refused := asked(t, container, question{"open", file, ""})[0]
	require.Contains(t, refused, "belongs to uid 54321")
	require.Contains(t, refused, "what hive only reads may also be mounted read-only")
}
