package models_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/models"
	"rbeehive/hive/trust"
	"rbeehive/test/hub"
	"rbeehive/test/skip"
)

func TestImport(t *testing.T) {
	dir := t.TempDir()
	lib, err := models.New(models.Options{Dir: filepath.Join(dir, "models")})
	require.NoError(t, err)
	t.Cleanup(lib.Close)
	file := filepath.Join(dir, "Qwen 3.gguf")
	require.NoError(t, os.WriteFile(file, []byte(weights), 0o600))
	sum := sha256.Sum256([]byte(weights))
	require.Equal(t, "local/Qwen-3:Qwen 3.gguf", models.ImportID(file))

	m, err := lib.Import(t.Context(), file, models.ImportID(file), false)
	require.NoError(t, err)
	require.Equal(t, models.StatusAvailable, m.Status)
	require.Equal(t, hex.EncodeToString(sum[:]), m.Files[0].SHA256)
	ours, err := os.Stat(m.Path)
	require.NoError(t, err)
	theirs, err := os.Stat(file)
	require.NoError(t, err)
	require.True(t, os.SameFile(ours, theirs), "it takes no space twice")
	_, err = lib.Import(t.Context(), file, m.ID, true)
	require.ErrorIs(t, err, models.ErrInUse)

	link := filepath.Join(dir, "link.gguf")
	require.NoError(t, os.Symlink(file, link))
	c, err := lib.Import(t.Context(), link, "me/copy:dir/q.gguf", true)
	require.NoError(t, err)
	ours, err = os.Stat(c.Path)
	require.NoError(t, err)
	require.False(t, os.SameFile(ours, theirs))
	l, err := lib.Import(t.Context(), link, "me/link:q.gguf", false)
	require.NoError(t, err)
	ours, err = os.Lstat(l.Path)
	require.NoError(t, err)
	require.True(t, os.SameFile(ours, theirs), "the file, not the symbolic link")

	list, err := lib.List()
	require.NoError(t, err)
	require.Len(t, list, 3)
	require.NoError(t, lib.Delete(m.ID, func(models.Model) []string { return nil }))
	require.FileExists(t, file, "what was imported stays where it was")
	require.NoDirExists(t, filepath.Join(dir, "models", ".partial"), "nothing is left over")
}

func TestImportRefuses(t *testing.T) {
	dir := t.TempDir()
	none := func(string) (int64, error) { return 5, nil }
	lib, err := models.New(models.Options{Dir: filepath.Join(dir, "models"), Free: none, Reserve: 1})
	require.NoError(t, err)
	t.Cleanup(lib.Close)
	file := filepath.Join(dir, "q.gguf")
	require.NoError(t, os.WriteFile(file, []byte(weights), 0o600))
	for _, id := range []string{"", "q.gguf", "../../etc:passwd", "a/b", "a/b:../c", "a/b:/etc/passwd"} {
		_, err := lib.Import(t.Context(), file, id, false)
		require.ErrorIs(t, err, models.ErrInvalidID, id)
	}
	_, err = lib.Import(t.Context(), dir, "a/b:c", false)
	require.ErrorContains(t, err, "is not a regular file")
	_, err = lib.Import(t.Context(), filepath.Join(dir, "none"), "a/b:c", false)
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = lib.Import(t.Context(), file, "a/b:c", true)
	require.ErrorIs(t, err, models.ErrDiskFull)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = lib.Import(gone, file, "a/b:c", false)
	require.ErrorIs(t, err, context.Canceled)
	list, err := lib.List()
	require.NoError(t, err)
	require.Empty(t, list)
	left, err := filepath.Glob(filepath.Join(dir, "models", ".partial", "*"))
	require.NoError(t, err)
	require.Empty(t, left)
	info, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, weights, string(info))
}

// What was seen: one part of three was imported, and was available.
func TestImportOfAModelInParts(t *testing.T) {
	dir := t.TempDir()
	lib, err := models.New(models.Options{Dir: filepath.Join(dir, "models")})
	require.NoError(t, err)
	t.Cleanup(lib.Close)
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		return file
	}
	second := write("big-00002-of-00003.gguf", weights+"2")
	write("big-00001-of-00002.gguf", weights) // of another model
	id := models.ImportID(second)
	require.Equal(t, "local/big:big-00001-of-00003.gguf", id)
	_, err = lib.Import(t.Context(), second, id, false)
	require.ErrorIs(t, err, models.ErrNotFound)
	require.ErrorContains(t, err, "big-00002-of-00003.gguf is one of 3 parts of a model, and these are not in "+dir+": big-00001-of-00003.gguf, big-00003-of-00003.gguf")
	write("big-00001-of-00003.gguf", weights+"1")
	third := write("big-00003-of-00003.gguf", "half a part")
	_, err = lib.Import(t.Context(), second, id, false)
	require.ErrorIs(t, err, models.ErrFormat)
	require.ErrorContains(t, err, "big-00003-of-00003.gguf begins with")
	write("big-00003-of-00003.gguf", weights+"3")
	list, err := lib.List()
	require.NoError(t, err)
	require.Empty(t, list)

	for _, asCopy := range []bool{false, true} {
		m, err := lib.Import(t.Context(), second, id, asCopy)
		require.NoError(t, err)
		require.Equal(t, "big-00001-of-00003.gguf", filepath.Base(m.Path), "as that of a download")
		require.Len(t, m.Files, 3)
		require.Equal(t, int64(3*len(weights)+3), m.Size)
		for i, f := range m.Files {
			text, err := os.ReadFile(filepath.Join(filepath.Dir(m.Path), f.Path))
			require.NoError(t, err)
			require.Equal(t, weights+string(rune('1'+i)), string(text))
		}
		_, err = lib.Import(t.Context(), third, models.ImportID(third), false)
		require.ErrorIs(t, err, models.ErrInUse, "it is the same model")
		require.NoError(t, lib.Delete(id, noUsers))
	}
	m, err := lib.Import(t.Context(), second, "me/own:q4/other-00002-of-00003.gguf", false)
	require.NoError(t, err)
	require.Equal(t, "q4/other-00001-of-00003.gguf", m.Files[0].Path, "programs find the parts by their names")
	for id, says := range map[string]string{
		"me/a:big.gguf":                "big-00002-of-00003.gguf is one of 3 parts of a model, and \"big.gguf\" names a whole model",
		"me/a:big-00002-of-00002.gguf": "names one of 2 parts of a model",
	} {
		_, err = lib.Import(t.Context(), second, id, false)
		require.ErrorIs(t, err, models.ErrInvalidID)
		require.ErrorContains(t, err, says)
	}
	whole := write("whole.gguf", weights)
	_, err = lib.Import(t.Context(), whole, "me/a:whole-00001-of-00002.gguf", false)
	require.ErrorIs(t, err, models.ErrInvalidID)
	odd := write("odd-00004-of-00003.gguf", weights)
	m, err = lib.Import(t.Context(), odd, models.ImportID(odd), false)
	require.NoError(t, err)
	require.Len(t, m.Files, 1)
}

// What was seen: local/tiny, with local/tiny:tiny.gguf in the catalog, was asked of the hub.
func TestFindOfAnImport(t *testing.T) {
	r := newRig(t)
	file := filepath.Join(t.TempDir(), "tiny.gguf")
	require.NoError(t, os.WriteFile(file, []byte(weights), 0o600))
	find := func(name string) string {
		id, err := r.lib.Find(name)
		require.NoError(t, err)
		return id
	}
	require.Equal(t, "local/tiny", find("local/tiny"), "no catalog yet")
	tiny, err := r.lib.Import(t.Context(), file, models.ImportID(file), false)
	require.NoError(t, err)
	_, err = r.lib.Import(t.Context(), file, "local/tiny-2:tiny.gguf", false)
	require.NoError(t, err)
	require.Equal(t, tiny.ID, find("local/tiny"))
	m, err := r.download("local/tiny")
	require.NoError(t, err)
	require.Equal(t, tiny, m)
	require.Zero(t, r.hub.Requests())

	m, release, ok := r.lib.Hold("local/tiny")
	require.True(t, ok)
	require.Equal(t, tiny, m)
	require.ErrorIs(t, r.lib.Delete(tiny.ID, noUsers), models.ErrInUse)
	release()
	require.ErrorIs(t, r.lib.Delete("local/tiny", noUsers), models.ErrNotFound, "removed is what was named")
	for _, other := range []string{"local/tin", "local/tiny:x.gguf", "tiny", "/local/tiny", ""} {
		require.Equal(t, other, find(other))
	}

	_, err = r.lib.Import(t.Context(), file, "local/tiny:b.gguf", false)
	require.NoError(t, err)
	_, err = r.lib.Find("local/tiny")
	require.ErrorIs(t, err, models.ErrAmbiguous)
	require.ErrorContains(t, err, "say local/tiny:b.gguf, local/tiny:tiny.gguf")
	_, err = r.download("local/tiny")
	require.ErrorIs(t, err, models.ErrAmbiguous)

	// On the hub org/name can mean another file than the one that is here.
	r.hub.Add("org/name", hub.File{Path: "a.gguf", Size: 1000, Seed: 1, LFS: true}, hub.File{Path: "b.gguf", Size: 1000, Seed: 2, LFS: true})
	_, err = r.download("org/name:a.gguf")
	require.NoError(t, err)
	require.Equal(t, "org/name", find("org/name"))
}

const stranger = 54321

func needRoot(t *testing.T) {
	t.Helper()
	skip.UnlessRoot(t, "only root can give files away")
}

// A file of a third user's is copied: with a link to it that user could change the
// model after it was hashed.
func TestImportOfAnotherUsersFile(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	lib, err := models.New(models.Options{Dir: filepath.Join(dir, "models")})
	require.NoError(t, err)
	t.Cleanup(lib.Close)
	file := filepath.Join(dir, "q.gguf")
	require.NoError(t, os.WriteFile(file, []byte(weights), 0o600))
	require.NoError(t, os.Chown(file, stranger, stranger))
	m, err := lib.Import(t.Context(), file, "a/b:q.gguf", false)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, []byte("changed"), 0o600))
	text, err := os.ReadFile(m.Path)
	require.NoError(t, err)
	require.Equal(t, weights, string(text))
}

func TestImportOfAFifo(t *testing.T) {
	dir := t.TempDir()
	lib, err := models.New(models.Options{Dir: filepath.Join(dir, "models")})
	require.NoError(t, err)
	t.Cleanup(lib.Close)
	fifo := filepath.Join(dir, "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	_, err = lib.Import(t.Context(), fifo, "a/b:c", false)
	require.ErrorContains(t, err, "is not a regular file")
}

// What is in the directory is given to workers as the model of that name, so it must
// be nobody else's.
func TestLibraryOfAnotherUser(t *testing.T) {
	needRoot(t)
	base := t.TempDir()
	dir := filepath.Join(base, "models")
	lib, err := models.New(models.Options{Dir: dir})
	require.NoError(t, err)
	t.Cleanup(lib.Close)
	file := filepath.Join(base, "q.gguf")
	require.NoError(t, os.WriteFile(file, []byte(weights), 0o600))
	m, err := lib.Import(t.Context(), file, "a/b:q.gguf", false)
	require.NoError(t, err)
	for _, spoil := range []struct{ to, back func() error }{
		{func() error { return os.Chown(dir, stranger, 0) }, func() error { return os.Chown(dir, 0, 0) }},
		{func() error { return os.Chmod(dir, 0o777) }, func() error { return os.Chmod(dir, 0o755) }},
		{func() error { return os.Chown(base, stranger, 0) }, func() error { return os.Chown(base, 0, 0) }},
	} {
		require.NoError(t, spoil.to())
		_, err = lib.Get(m.ID)
		require.ErrorIs(t, err, trust.ErrUntrusted)
		require.ErrorContains(t, err, "the directory of models: ")
		_, _, ok := lib.Hold(m.ID)
		require.False(t, ok)
		_, err = lib.List()
		require.ErrorIs(t, err, trust.ErrUntrusted)
		_, err = lib.Import(t.Context(), file, "a/b:other", false)
		require.ErrorIs(t, err, trust.ErrUntrusted)
		require.ErrorIs(t, lib.Delete(m.ID, func(models.Model) []string { return nil }), trust.ErrUntrusted)
		require.NoError(t, spoil.back())
		_, err = lib.Get(m.ID)
		require.NoError(t, err)
	}
}
