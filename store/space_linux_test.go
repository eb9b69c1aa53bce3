package store_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/store"
	"rbeehive/test/skip"
)

// fullReport is what the child saw on the small disk.
type fullReport struct {
	Ordinary   int // calls of Update that went through on the full disk
	Reserved   int // calls of UpdateReserved after that
	EndedFull  bool
	Failed     string
	Recovered  bool
	Structural string
}

// A disk that is really full. Each file system allocates in its own way: tmpfs
// by pages, ext4 late and with a journal; without extents it cannot allocate
// ahead, so that the free space has to stand for it.
func TestFullDisk(t *testing.T) {
	if testing.Short() {
		t.Skip("long: fills three file systems")
	}
	for _, kind := range []string{"tmpfs", "ext4", "ext4 without extents"} {
		t.Run(kind, func(t *testing.T) {
			var r fullReport
			onSmallDisk(t, "full", kind, &r)
			t.Logf("%+v", r)
			require.Empty(t, r.Failed, "no commit failed")
			require.Greater(t, r.Ordinary, 50, "what is allocated ahead can be used")
			require.Greater(t, r.Reserved, 50, "and the reserve after that")
			require.True(t, r.EndedFull, "the reserve ends with ErrDiskFull too, not with a failed commit")
			require.True(t, r.Recovered, "space that comes back is used without a restart")
			require.Empty(t, r.Structural)
		})
	}
}

// A file system that says nothing about its space does not stop the store.
func TestDiskWithoutSize(t *testing.T) {
	var commits uint64
	onSmallDisk(t, "sizeless", "ramfs", &commits)
	require.EqualValues(t, 10, commits)
}

// What Store.DiskFree says is what statfs(2) leaves to an ordinary user.
func TestDiskFree(t *testing.T) {
	dir := t.TempDir()
	s, err := store.Open(t.Context(), store.Options{Path: filepath.Join(dir, "hive.db")})
	require.NoError(t, err)
	free, err := s.DiskFree()
	require.NoError(t, err)
	var st unix.Statfs_t
	require.NoError(t, unix.Statfs(dir, &st))
	require.InDelta(t, float64(st.Bavail)*float64(st.Bsize), float64(free), 1<<30, "others write here too")
	require.NoError(t, s.Close())
	_, err = s.DiskFree()
	require.Error(t, err, "there is no file any more")
}

// onSmallDisk runs a child with a mount of its own, and decodes what it says.
func onSmallDisk(t *testing.T, child, kind string, report any) {
	t.Helper()
	skip.UnlessRoot(t, "mounting a small file system needs root")
	if _, err := exec.LookPath("mkfs.ext4"); strings.HasPrefix(kind, "ext4") && err != nil {
		skip.Because(t, "mkfs.ext4 is not installed")
	}
	cmd := childCommand(t, child, kind, t.TempDir())
	cmd.SysProcAttr.Unshareflags = unix.CLONE_NEWNS // the mount goes with the child
	var out bytes.Buffer
	cmd.Stdout = &out
	require.NoError(t, cmd.Run(), out.String())
	require.NoError(t, json.Unmarshal(out.Bytes(), report))
}

func childSizeless(args []string) int {
	ctx, done := childContext()
	defer done()
	dir, err := mountSmall(args[0], args[1])
	if err != nil {
		return childFailed(err)
	}
	s, err := store.Open(ctx, store.Options{Path: filepath.Join(dir, "hive.db")})
	for i := uint16(1); i <= 10 && err == nil; i++ {
		err = s.Update(ctx, setName("a", i))
	}
	if err == nil {
		err = s.Check(ctx)
	}
	if err != nil {
		return childFailed(err)
	}
	commits := s.Stats().Commits
	if err := s.Close(); err != nil {
		return childFailed(err)
	}
	return childOutput(commits)
}

func childFull(args []string) int {
	ctx, done := childContext()
	defer done()
	dir, err := mountSmall(args[0], args[1])
	if err != nil {
		return childFailed(err)
	}
	s, err := store.Open(ctx, store.Options{Path: filepath.Join(dir, "hive.db"), Preallocate: 2 << 20})
	if err != nil {
		return childFailed(err)
	}
	leave := int64(0)
	if strings.Contains(args[0], "without") {
		leave = 3 << 20 // nothing is reserved, so something must be left
	}
	r, err := useFullDisk(ctx, s, filepath.Join(dir, "filler"), leave)
	if err := errors.Join(err, s.Close()); err != nil {
		return childFailed(err)
	}
	return childOutput(r)
}

func mountSmall(kind, dir string) (string, error) {
	at := filepath.Join(dir, "disk")
	if err := os.Mkdir(at, 0o700); err != nil {
		return "", err
	}
	if !strings.HasPrefix(kind, "ext4") {
		return at, unix.Mount(kind, at, kind, 0, "size=16m")
	}
	features := "extent"
	if strings.Contains(kind, "without") {
		features = "^extent,^64bit"
	}
	image := filepath.Join(dir, "image")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		return "", err
	}
	if err := os.Truncate(image, 32<<20); err != nil {
		return "", err
	}
	for _, argv := range [][]string{{"mkfs.ext4", "-q", "-m", "0", "-O", features, image}, {"mount", "-o", "loop", image, at}} {
		if out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput(); err != nil {
			return "", fmt.Errorf("%s: %w: %s", strings.Join(argv, " "), err, out)
		}
	}
	return at, nil
}

func useFullDisk(ctx context.Context, s *store.Store, filler string, leave int64) (r fullReport, err error) {
	if err := fill(filler, leave); err != nil {
		return r, err
	}
	grow := func(tx *store.Tx) error {
		_, err := tx.AppendEvent(store.Event{JobID: "j", Message: strings.Repeat("x", 900)})
		return err
	}
	for err == nil && r.Ordinary < 10000 {
		if err = s.Update(ctx, grow); err == nil {
			r.Ordinary++
		}
	}
	if !errors.Is(err, store.ErrDiskFull) {
		return r, fmt.Errorf("ordinary work ended with %w", err)
	}
	for err = nil; err == nil && r.Reserved < 10000; {
		if err = s.UpdateReserved(ctx, grow); err == nil {
			r.Reserved++
		}
	}
	r.EndedFull = errors.Is(err, store.ErrDiskFull)
	if err := s.Err(); err != nil {
		r.Failed = err.Error()
	}
	if err := os.Remove(filler); err != nil {
		return r, err
	}
	r.Recovered = s.Update(ctx, grow) == nil
	if err := s.Check(ctx); err != nil {
		r.Structural = err.Error()
	}
	return r, nil
}

// fill takes all that is left of the disk but that many bytes.
func fill(name string, leave int64) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	defer f.Close()
	for block := make([]byte, 64<<10); len(block) > 0; {
		_, err := f.Write(block)
		switch {
		case errors.Is(err, unix.ENOSPC):
			block = block[:len(block)/2]
		case err != nil:
			return err
		}
	}
	if err := f.Sync(); err != nil && !errors.Is(err, unix.ENOSPC) {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	return f.Truncate(info.Size() - leave)
}
