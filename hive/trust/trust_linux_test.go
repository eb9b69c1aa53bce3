package trust_test

import (
	"encoding/binary"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/hive/trust"
	"rbeehive/test/skip"
)

func TestWhatIsBelieved(t *testing.T) {
	dir := t.TempDir()
	file := write(t, filepath.Join(dir, "a/b/file"), 0o644)
	f, err := trust.Open(file)
	require.NoError(t, err)
	require.Equal(t, file, f.Name())
	require.NoError(t, f.Close())
	text, err := trust.ReadFile(file, 5)
	require.NoError(t, err)
	require.Equal(t, "mine\n", string(text))
	_, err = trust.ReadFile(file, 4)
	require.EqualError(t, err, file+" is larger than 4 bytes")
	require.NoError(t, trust.File(file))
	require.NoError(t, trust.Dir(filepath.Join(dir, "a")))
	require.NoError(t, trust.Parent(filepath.Join(dir, "a/none")))
	require.NoError(t, trust.Dir("/"))
	require.NoError(t, trust.File(write(t, filepath.Join(dir, "secret"), 0o600)))

	t.Chdir(filepath.Join(dir, "a"))
	for _, path := range []string{"b/file", "./b//file", "b/../b/file"} {
		require.NoError(t, trust.File(path), path)
	}
	require.NoError(t, trust.Dir("."))
	require.NoError(t, trust.Parent("none"))

	link(t, "../a/./b/..//b/file", filepath.Join(dir, "links/relative"))
	link(t, filepath.Join(dir, "a"), filepath.Join(dir, "links/absolute"))
	link(t, "absolute/b/file", filepath.Join(dir, "links/chain"))
	link(t, "/", filepath.Join(dir, "links/root"))
	link(t, "..", filepath.Join(dir, "links/up"))
	for _, path := range []string{"relative", "chain", "absolute/b/file", "root" + file, "up/a/b/file"} {
		text, err := trust.ReadFile(filepath.Join(dir, "links", path), 100)
		require.NoError(t, err, path)
		require.Equal(t, "mine\n", string(text))
	}
	require.NoError(t, trust.Dir(filepath.Join(dir, "links/root")))
	require.NoError(t, trust.Dir(filepath.Join(dir, "links/up")))
}

func TestWhatIsNotThere(t *testing.T) {
	dir := t.TempDir()
	link(t, "nowhere", filepath.Join(dir, "dangling"))
	require.ErrorIs(t, trust.File(""), fs.ErrNotExist)
	for _, path := range []string{"none", "none/none", "dangling"} {
		path = filepath.Join(dir, path)
		_, err := trust.Open(path)
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.EqualError(t, err, "open "+path+": no such file or directory")
		require.ErrorIs(t, trust.File(path), fs.ErrNotExist)
		require.ErrorIs(t, trust.Dir(path), fs.ErrNotExist)
	}
	file := write(t, filepath.Join(dir, "file"), 0o600)
	require.ErrorIs(t, trust.File(filepath.Join(file, "x")), unix.ENOTDIR)
	require.ErrorIs(t, trust.MkdirAll(filepath.Join(file, "x"), 0o700), unix.ENOTDIR)
	link(t, "loop", filepath.Join(dir, "loop"))
	require.ErrorIs(t, trust.File(filepath.Join(dir, "loop")), unix.ELOOP)
}

// None of them is opened: a fifo would make hive wait for somebody who writes to it.
func TestWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	fifo, socket, device := filepath.Join(dir, "fifo"), filepath.Join(dir, "socket"), filepath.Join(dir, "device")
	require.NoError(t, unix.Mkfifo(fifo, 0o600))
	ln, err := net.Listen("unix", socket)
	require.NoError(t, err)
	defer ln.Close()
	want := map[string]string{
		fifo: "is a fifo, not a regular file", socket: "is a socket, not a regular file", dir: "is a directory, not a regular file",
		link(t, "fifo", filepath.Join(dir, "link")): "fifo is a fifo, not a regular file", "/dev/null": "/dev/null is a device, not a regular file",
	}
	if os.Geteuid() == 0 && unix.Mknod(device, unix.S_IFBLK|0o600, int(unix.Mkdev(7, 250))) == nil {
		want[device] = "is a device, not a regular file"
	}
	for path, says := range want {
		_, err := trust.Open(path)
		require.ErrorContains(t, err, says, path)
		require.ErrorContains(t, trust.File(path), says, path)
	}
	for _, path := range []string{fifo, write(t, filepath.Join(dir, "file"), 0o600)} {
		require.EqualError(t, trust.Dir(path), path+" is not a directory")
		require.EqualError(t, trust.MkdirAll(path, 0o700), path+" is not a directory")
	}
	for _, path := range []string{"/dev/stdin", "/proc/self/fd/0", "/proc/self/cwd/file"} {
		_, err := trust.Open(path)
		require.ErrorContains(t, err, "is a link of /proc, whose text is not a path; give the path of a file", path)
	}
}

// One command mends all that others may write to.
func TestWhatOthersMayWriteTo(t *testing.T) {
	dir := t.TempDir()
	file := write(t, filepath.Join(dir, "group/all/file"), 0o664)
	mkdir(t, filepath.Join(dir, "group"), 0o775)
	mkdir(t, filepath.Join(dir, "group/all"), 0o777)
	_, err := trust.Open(file)
	require.ErrorIs(t, err, trust.ErrUntrusted)
	require.Regexp(t, `^`+dir+`/group can be written to by its group \(owner .*, gid \d+, mode 0775\), who could put something else in the place of `+file+`; `+
		`run: chmod go-w `+dir+`/group `+dir+`/group/all `+file+`$`, err.Error())
	require.NoError(t, os.Chmod(filepath.Join(dir, "group"), 0o755))
	require.NoError(t, os.Chmod(filepath.Join(dir, "group/all"), 0o755))
	err = trust.File(file)
	require.Regexp(t, `^`+file+` can be written to by its group \(owner .*, gid \d+, mode 0664\), who could change what hive does as \S+; run: chmod go-w `+file+`$`, err.Error())
	require.NoError(t, os.Chmod(file, 0o602))
	require.ErrorContains(t, trust.File(file), "can be written to by every user")
	require.NoError(t, os.Chmod(file, 0o644))
	require.NoError(t, trust.File(file))

	all := mkdir(t, filepath.Join(dir, "it's all"), 0o777)
	for _, err := range []error{trust.Dir(all), trust.Parent(filepath.Join(all, "x")), trust.MkdirAll(filepath.Join(all, "x"), 0o700)} {
		require.ErrorContains(t, err, `run: chmod go-w '`+dir+`/it'\''s all'`)
	}
	require.NoDirExists(t, filepath.Join(all, "x"))
	require.NoError(t, trust.MkdirAll(all, 0o700), "its own mode is the caller's to look at")
}

// In a directory such as /tmp what is ours stays ours.
func TestStickyDirectories(t *testing.T) {
	needRoot(t)
	dir := mkdir(t, filepath.Join(t.TempDir(), "sticky"), 0o777|os.ModeSticky)
	file := write(t, filepath.Join(dir, "file"), 0o600)
	require.NoError(t, trust.File(file))
	require.NoError(t, trust.Parent(filepath.Join(dir, "none")))
	require.NoError(t, trust.MkdirAll(filepath.Join(dir, "made/deep"), 0o700))
	require.ErrorContains(t, trust.Dir(dir), "can be written to by every user", "it is not hive's")

	theirs := write(t, filepath.Join(dir, "theirs"), 0o644)
	give(t, theirs, stranger)
	require.ErrorIs(t, trust.File(theirs), trust.ErrUntrusted)
	ours := link(t, "file", filepath.Join(dir, "ours"))
	require.NoError(t, trust.File(ours))
	give(t, ours, stranger)
	require.ErrorContains(t, trust.File(ours), "run: chown -h root "+ours)

	// A sticky directory of somebody else's is no better than any of theirs.
	give(t, dir, stranger)
	require.ErrorContains(t, trust.File(file), dir+" belongs to uid 54321")
}

func TestFilesOfOthers(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	file := write(t, filepath.Join(dir, "home/sub/file"), 0o600)
	give(t, file, stranger)
	_, err := trust.Open(file)
	require.EqualError(t, err, file+" belongs to uid 54321 (mode 0600), who could change what hive does as root; run: chown root "+file)
	var untrusted *trust.Error
	require.ErrorAs(t, err, &untrusted)
	require.Equal(t, file, untrusted.Path)

	give(t, file, 0)
	require.NoError(t, trust.File(file))
	home := filepath.Join(dir, "home")
	give(t, home, stranger)
	require.EqualError(t, trust.File(file), home+" belongs to uid 54321 (mode 0755), who could put something else in the place of "+file+
		"; keep it below directories of root, or run: chown root "+home)
	for _, err := range []error{trust.Dir(home), trust.Parent(filepath.Join(home, "x")), trust.MkdirAll(home, 0o700), trust.MkdirAll(filepath.Join(home, "x/y"), 0o700)} {
		require.ErrorIs(t, err, trust.ErrUntrusted)
	}
	require.NoDirExists(t, filepath.Join(home, "x"))

	// A link that is ours does not make believed what it leads to, nor the way there.
	require.ErrorIs(t, trust.File(link(t, file, filepath.Join(dir, "to-file"))), trust.ErrUntrusted)
	require.ErrorIs(t, trust.Dir(link(t, home, filepath.Join(dir, "to-home"))), trust.ErrUntrusted)
	require.ErrorIs(t, trust.Dir(link(t, home+"/sub/../..", filepath.Join(dir, "through-home"))), trust.ErrUntrusted)
	// Nor a link of theirs that leads to something of root's.
	shadow := link(t, "/etc/shadow", filepath.Join(dir, "shadow"))
	give(t, shadow, stranger)
	require.ErrorContains(t, trust.File(shadow), shadow+" belongs to uid 54321")
}

// The mask of an ACL stands where the group's bits do.
func TestACL(t *testing.T) {
	file := write(t, filepath.Join(t.TempDir(), "file"), 0o600)
	acl := []byte{2, 0, 0, 0} // linux/posix_acl_xattr.h: the version, then tag, permissions, id
	for _, e := range [][3]uint32{{1, 6, 1<<32 - 1}, {2, 6, stranger}, {4, 0, 1<<32 - 1}, {0x10, 6, 1<<32 - 1}, {0x20, 0, 1<<32 - 1}} {
		acl = binary.LittleEndian.AppendUint16(acl, uint16(e[0]))
		acl = binary.LittleEndian.AppendUint16(acl, uint16(e[1]))
		acl = binary.LittleEndian.AppendUint32(acl, e[2])
	}
	if err := unix.Setxattr(file, "system.posix_acl_access", acl, 0); err != nil {
		skip.Because(t, "the file system has no ACLs: "+err.Error())
	}
	require.ErrorIs(t, trust.File(file), trust.ErrUntrusted)
}

func TestMkdirAll(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, trust.MkdirAll(filepath.Join(dir, "a/b/c"), 0o700))
	require.NoError(t, trust.MkdirAll(filepath.Join(dir, "a/b/c"), 0o700))
	for _, made := range []string{"a", "a/b", "a/b/c"} {
		info, err := os.Stat(filepath.Join(dir, made))
		require.NoError(t, err)
		require.Equal(t, os.ModeDir|0o700, info.Mode())
	}
	link(t, "a", filepath.Join(dir, "link"))
	require.NoError(t, trust.MkdirAll(filepath.Join(dir, "link/d"), 0o700))
	require.DirExists(t, filepath.Join(dir, "a/d"))
}

// No descriptor is left open, whatever the end.
func TestNothingIsLeftOpen(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	file := write(t, filepath.Join(dir, "file"), 0o600)
	theirs := write(t, filepath.Join(dir, "theirs"), 0o600)
	give(t, theirs, stranger)
	link(t, "loop", filepath.Join(dir, "loop"))
	count := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		require.NoError(t, err)
		return len(fds)
	}
	before := count()
	for _, path := range []string{file, theirs, filepath.Join(dir, "loop"), filepath.Join(dir, "none/none"), dir, "/", "/dev/stdin", file + "/x", strings.Repeat("x", 300)} {
		for _, name := range []string{"open", "file", "dir", "parent"} {
			_ = ask(name, path)
		}
	}
	require.NoError(t, trust.MkdirAll(filepath.Join(dir, "a/b"), 0o700))
	require.Equal(t, before, count())
}
