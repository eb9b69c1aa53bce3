package models_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/models"
	"rbeehive/test/hub"
)

const mib = 1 << 20

// rig is a library and the hub that it downloads from.
type rig struct {
	*testing.T
	hub  *hub.Hub
	dir  string
	lib  *models.Library
	opts models.Options
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{T: t, hub: hub.Start(), dir: filepath.Join(t.TempDir(), "models")}
	t.Cleanup(r.hub.Close)
	r.opts = models.Options{
		Dir: r.dir, Endpoint: r.hub.URL, RetryMin: time.Millisecond, RetryMax: 5 * time.Millisecond, Stall: time.Minute, Tries: 6,
	}
	r.open()
	return r
}

// open makes the library anew, as a start of hive does.
func (r *rig) open() {
	r.Helper()
	lib, err := models.New(r.opts)
	require.NoError(r, err)
	r.lib = lib
	r.Cleanup(lib.Close)
}

func (r *rig) download(id string) (models.Model, error) {
	ctx, cancel := context.WithTimeout(r.Context(), time.Minute)
	defer cancel()
	return r.lib.Download(ctx, id, nil)
}

// files are all files below the directory of models.
func (r *rig) files() []string {
	r.Helper()
	names := []string{}
	err := filepath.WalkDir(r.dir, func(name string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(r.dir, name)
			names = append(names, rel)
		}
		return err
	})
	require.NoError(r, err)
	slices.Sort(names)
	return names
}

// entries are the names in the directory of models.
func (r *rig) entries() (names []string) {
	r.Helper()
	entries, err := os.ReadDir(r.dir)
	if !errors.Is(err, fs.ErrNotExist) {
		require.NoError(r, err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func (r *rig) requireNoModel() {
	r.Helper()
	list, err := r.lib.List()
	require.NoError(r, err)
	require.Empty(r, list)
	for _, name := range r.entries() {
		require.Equal(r, ".partial", name, "nothing but what can be gone on with")
	}
}

func sumOf(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	require.NoError(t, err)
	defer f.Close()
	sum := sha256.New()
	_, err = io.Copy(sum, f)
	require.NoError(t, err)
	return hex.EncodeToString(sum.Sum(nil))
}

func noUsers(models.Model) []string { return nil }

func TestDownload(t *testing.T) {
	r := newRig(t)
	f := hub.File{Path: "q4/model.gguf", Size: 3*mib + 7, Seed: 1, LFS: true}
	r.hub.Add("org/name", f, hub.File{Path: "README.md", Size: 100, Seed: 2})
	m, err := r.download("org/name:q4/model.gguf")
	require.NoError(t, err)
	require.Equal(t, filepath.Join(r.dir, "org%2Fname%3Aq4%2Fmodel.gguf", "q4", "model.gguf"), m.Path)
	require.Equal(t, r.hub.SHA256(f), sumOf(t, m.Path))
	require.Equal(t, []models.File{{Path: f.Path, Size: f.Size, SHA256: r.hub.SHA256(f)}}, m.Files)
	require.Equal(t, hub.Commit, m.Commit)
	require.Equal(t, "model.gguf", m.Name)
	require.Equal(t, models.StatusAvailable, m.Status)
	require.Equal(t, []string{"org%2Fname%3Aq4%2Fmodel.gguf/metadata.json", "org%2Fname%3Aq4%2Fmodel.gguf/q4/model.gguf"}, r.files())
	require.Equal(t, []string{"org%2Fname%3Aq4%2Fmodel.gguf"}, r.entries())

	list, err := r.lib.List()
	require.NoError(t, err)
	require.Equal(t, []models.Model{m}, list)

	asked := r.hub.Requests()
	again, err := r.download("org/name:q4/model.gguf")
	require.NoError(t, err)
	require.Equal(t, m, again)
	require.Equal(t, asked, r.hub.Requests(), "what is here is not asked for")
}

func TestWhichFiles(t *testing.T) {
	r := newRig(t)
	gguf := func(names ...string) (files []hub.File) {
		for i, name := range names {
			files = append(files, hub.File{Path: name, Size: 1000, Seed: uint64(i), LFS: true})
		}
		return append(files, hub.File{Path: ".gitattributes", Size: 20, Seed: 9})
	}
	r.hub.Add("a/one", gguf("m.gguf")...)
	r.hub.Add("a/two", gguf("m-q4.gguf", "m-q8.gguf")...)
	r.hub.Add("a/parts", gguf("m-00002-of-00002.gguf", "m-00001-of-00002.gguf", "x-00001-of-00001.gguf")...)
	r.hub.Add("a/safe", hub.File{Path: "config.json", Size: 300, Seed: 1}, hub.File{Path: "model.safetensors", Size: 2 * mib, Seed: 2, LFS: true},
		hub.File{Path: "sub/tokenizer.json", Size: 0}, hub.File{Path: "sub/same.json", Size: 300, Seed: 1}, hub.File{Path: "ü $.json", Size: 5, Seed: 5})
	r.hub.Add("a/meta", hub.File{Path: "metadata.json", Size: 30, Seed: 1}, hub.File{Path: "model.safetensors", Size: 100, Seed: 2, LFS: true})
	r.hub.Add("a/none")

	m, err := r.download("a/one")
	require.NoError(t, err)
	require.Equal(t, filepath.Join(r.dir, "a%2Fone", "m.gguf"), m.Path)

	_, err = r.download("a/two")
	require.ErrorIs(t, err, models.ErrAmbiguous)
	require.ErrorContains(t, err, "say a/two:FILE; it has m-q4.gguf, m-q8.gguf")

	m, err = r.download("a/parts:m-00002-of-00002.gguf")
	require.NoError(t, err)
	require.Equal(t, "m-00001-of-00002.gguf", filepath.Base(m.Path))
	require.Len(t, m.Files, 2)

	// What was seen: what there was of a model in parts was available.
	r.hub.Add("a/lacks", gguf("m-00002-of-00003.gguf", "m-00003-of-00003.gguf")...)
	for _, id := range []string{"a/lacks", "a/lacks:m-00003-of-00003.gguf"} {
		_, err = r.download(id)
		require.ErrorIs(t, err, models.ErrNotFound)
		require.ErrorContains(t, err, "has only 2 of the 3 parts of m-0000")
		require.ErrorContains(t, err, "missing: m-00001-of-00003.gguf")
	}

	m, err = r.download("a/safe")
	require.NoError(t, err)
	require.Equal(t, filepath.Join(r.dir, "a%2Fsafe"), m.Path)
	require.Len(t, m.Files, 5)
	for _, f := range m.Files {
		require.Equal(t, f.SHA256, sumOf(t, filepath.Join(m.Path, f.Path)), f.Path)
	}

	m, err = r.download("a/meta")
	require.NoError(t, err)
	require.Equal(t, filepath.Join(r.dir, "a%2Fmeta", "files"), m.Path)
	require.FileExists(t, filepath.Join(m.Path, "metadata.json"))

	for _, id := range []string{"a/none", "a/unknown", "a/one:x.gguf"} {
		_, err = r.download(id)
		require.ErrorIs(t, err, models.ErrNotFound, id)
	}
	require.ErrorContains(t, err, `a/one has no file "x.gguf"; it has m.gguf`)
}

func TestCancelAndGoOn(t *testing.T) {
	r := newRig(t)
	f := hub.File{Path: "m.gguf", Size: 8 * mib, Seed: 3, LFS: true}
	r.hub.Add("org/name", f)
	r.hub.Misbehave(hub.Faults{Hang: true})
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("stop")
	done := make(chan error, 1)
	go func() { _, err := r.lib.Download(ctx, "org/name", nil); done <- err }()
	require.Eventually(t, func() bool { return r.hub.Sent() > mib }, 10*time.Second, time.Millisecond)
	require.ErrorIs(t, r.lib.Delete("org/name", noUsers), models.ErrInUse)
	cancel(stop)
	require.ErrorIs(t, <-done, stop)
	r.requireNoModel()
	require.NotEmpty(t, r.files(), "what came is kept")
	before := r.hub.Sent()
	r.hub.Misbehave(hub.Faults{})
	_, err := r.download("org/name")
	require.NoError(t, err)
	require.Less(t, r.hub.Sent()-before, f.Size-mib/2)
}

func TestDeleteDropsWhatCame(t *testing.T) {
	r := newRig(t)
	r.hub.Add("org/name", hub.File{Path: "m.gguf", Size: 2 * mib, Seed: 3, LFS: true})
	r.hub.Misbehave(hub.Faults{Cut: func(int64) int64 { return mib / 2 }})
	r.opts.Tries = 1
	r.open()
	_, err := r.download("org/name")
	require.Error(t, err)
	require.NotEmpty(t, r.files())
	require.NoError(t, r.lib.Delete("org/name", noUsers))
	require.Empty(t, r.files())
	require.ErrorIs(t, r.lib.Delete("org/name", noUsers), models.ErrNotFound)
}

// Several callers have one download; it ends with the last of them.
func TestJoin(t *testing.T) {
	r := newRig(t)
	f := hub.File{Path: "m.gguf", Size: 4 * mib, Seed: 3, LFS: true}
	r.hub.Add("org/name", f)
	goOn := make(chan struct{}) // nothing is complete before all have heard how far it is
	r.hub.Misbehave(hub.Faults{Hang: true, GoOn: goOn})
	impatient, cancel := context.WithCancel(t.Context())
	var notified atomic.Int32
	var patient sync.WaitGroup
	join := func(ctx context.Context) (models.Model, error) {
		return r.lib.Download(ctx, "org/name", sayOnce(&notified, f.Size))
	}
	left := make(chan error, 1)
	go func() { _, err := join(impatient); left <- err }()
	got := make([]models.Model, 3)
	for i := range got {
		patient.Go(func() { got[i], _ = join(t.Context()) })
	}
	require.Eventually(t, func() bool { return notified.Load() == 4 }, time.Minute, time.Millisecond)
	cancel()
	require.ErrorIs(t, <-left, context.Canceled)
	close(goOn)
	patient.Wait()
	require.NotEmpty(t, got[0].ID)
	require.Equal(t, got[0], got[1])
	require.Equal(t, got[0], got[2])
	require.LessOrEqual(t, r.hub.Sent(), f.Size)
}

// sayOnce counts its caller when that hears of progress with so much in all.
func sayOnce(notified *atomic.Int32, total int64) func(models.Progress) {
	var once sync.Once
	return func(p models.Progress) {
		if p.Total == total {
			once.Do(func() { notified.Add(1) })
		}
	}
}

func TestDeleteAndHold(t *testing.T) {
	r := newRig(t)
	r.hub.Add("org/name", hub.File{Path: "m.gguf", Size: 1000, Seed: 3, LFS: true})
	m, err := r.download("org/name")
	require.NoError(t, err)
	held, release, ok := r.lib.Hold("org/name")
	require.True(t, ok)
	require.Equal(t, m, held)
	require.ErrorIs(t, r.lib.Delete("org/name", noUsers), models.ErrInUse)
	release()
	release()
	require.ErrorContains(t, r.lib.Delete("org/name", func(models.Model) []string { return []string{"a", "b"} }), "used by a and b")
	_, err = r.lib.Get("org/name")
	require.NoError(t, err)
	require.NoError(t, r.lib.Delete("org/name", noUsers))
	_, err = r.lib.Get("org/name")
	require.ErrorIs(t, err, models.ErrNotFound)
	require.Empty(t, r.entries())
	_, _, ok = r.lib.Hold("org/name")
	require.False(t, ok)
	_, _, ok = r.lib.Hold("/models/qwen.gguf")
	require.False(t, ok)
}

func TestDamage(t *testing.T) {
	r := newRig(t)
	f := hub.File{Path: "m.gguf", Size: 1000, Seed: 3, LFS: true}
	r.hub.Add("org/name", f)
	m, err := r.download("org/name")
	require.NoError(t, err)
	require.NoError(t, os.Truncate(m.Path, 10))
	m, err = r.lib.Get("org/name")
	require.NoError(t, err)
	require.Equal(t, models.StatusDamaged, m.Status)
	_, _, ok := r.lib.Hold("org/name")
	require.False(t, ok)
	m, err = r.download("org/name")
	require.NoError(t, err, "a download mends it")
	require.Equal(t, r.hub.SHA256(f), sumOf(t, m.Path))

	require.NoError(t, os.WriteFile(filepath.Join(r.dir, "org%2Fname", "metadata.json"), []byte("{"), 0o600))
	list, err := r.lib.List()
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, models.StatusDamaged, list[0].Status)
	require.NoError(t, r.lib.Delete("org/name", noUsers))
	require.Empty(t, r.entries())
}

// Metadata and links that lead out of the directory lead nowhere.
func TestNothingOutsideIsTouched(t *testing.T) {
	r := newRig(t)
	outside := filepath.Join(filepath.Dir(r.dir), "precious")
	require.NoError(t, os.MkdirAll(filepath.Join(outside, "metadata.json"), 0o700))
	require.NoError(t, os.MkdirAll(r.dir, 0o700))
	require.NoError(t, os.Symlink(outside, filepath.Join(r.dir, "org%2Flink")))
	bad := filepath.Join(r.dir, "org%2Fbad")
	require.NoError(t, os.MkdirAll(bad, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(bad, "metadata.json"), []byte(`{"format":1,"id":"org/bad","path":"../../precious"}`), 0o600))
	_, _, ok := r.lib.Hold("org/bad")
	require.False(t, ok)
	_, _, ok = r.lib.Hold("org/link")
	require.False(t, ok)
	for _, id := range append(badIDs(), "org/link", "org/bad") {
		_ = r.lib.Delete(id, noUsers)
		require.DirExists(t, filepath.Join(outside, "metadata.json"), id)
	}
	r.hub.Add("org/evil", hub.File{Path: "../../precious/x", Size: 10, Seed: 1, LFS: true})
	_, err := r.download("org/evil")
	require.ErrorIs(t, err, models.ErrCorrupt)
	require.NoFileExists(t, filepath.Join(outside, "x"))
}

func badIDs() []string {
	return []string{
		"", ".", "..", "/", "a", "a/", "/a", "../../etc", "/home/u", "a/..", "../a", "a/b/c", "a/b:", "a/b:/etc/passwd", "a/b:../x", "a/b:x/../y", "a/b:./x",
		"a/b:x//y", "a\x00/b", "a/b:\x00", "a/b:x\n", "-a/b", ".a/b", "a/.b", "a/-b", "a b/c", "a/b\\c", `a/b:x\y`, "a/b:\xff", "ä/b",
		strings.Repeat("a", 97) + "/b", "a/b:" + strings.Repeat("x", 256), "a/b:" + strings.Repeat("xy/", 90) + "z",
	}
}

func TestIDs(t *testing.T) {
	r := newRig(t)
	for _, id := range badIDs() {
		_, err := models.ParseID(id)
		require.ErrorIs(t, err, models.ErrInvalidID, "%q", id)
		_, err = r.download(id)
		require.ErrorIs(t, err, models.ErrInvalidID, "%q", id)
		_, err = r.lib.Get(id)
		require.ErrorIs(t, err, models.ErrInvalidID, "%q", id)
		require.ErrorIs(t, r.lib.Delete(id, noUsers), models.ErrInvalidID, "%q", id)
	}
	require.Empty(t, r.entries())
	for _, id := range []string{"a/b", "a-b/c", "Qwen/Qwen2.5-0.5B-Instruct-GGUF:qwen2.5-0.5b-instruct-q4_k_m.gguf", "a/b:dir/f.gguf", "a/b:x:y"} {
		parsed, err := models.ParseID(id)
		require.NoError(t, err, id)
		require.Equal(t, id, parsed.String())
	}
}

func TestEscapeIsReversible(t *testing.T) {
	seen := map[string]string{}
	for _, text := range append(badIDs(), "a/b", "a-b", "a%2Fb", "a:b", "A/b", "a/B", "%", "%%", ".partial", ".deleted") {
		name := models.Escape(text)
		require.NotContains(t, seen, name, "%q and %q", text, seen[name])
		seen[name] = text
		require.False(t, strings.HasPrefix(name, ".") || strings.ContainsAny(name, "/\x00"), "%q", name)
		if text != "" {
			back, ok := models.Unescape(name)
			require.True(t, ok, "%q", name)
			require.Equal(t, text, back)
		}
	}
	for _, name := range []string{"", "%", "%2", "%2f", "%zz", ".x", "a/b", "%41", "a b"} {
		_, ok := models.Unescape(name)
		require.False(t, ok, "%q is no name that escape makes", name)
	}
}

func FuzzEscape(f *testing.F) {
	f.Add("a/b:c")
	f.Fuzz(func(t *testing.T, text string) {
		back, ok := models.Unescape(models.Escape(text))
		if back != text || ok != (text != "") {
			t.Fatalf("%q became %q", text, back)
		}
	})
}

func TestTidy(t *testing.T) {
	r := newRig(t)
	old, young := filepath.Join(r.dir, ".partial", "a%2Fold"), filepath.Join(r.dir, ".partial", "a%2Fyoung")
	for _, dir := range []string{old, young, filepath.Join(r.dir, ".deleted", "x")} {
		require.NoError(t, os.MkdirAll(dir, 0o700))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "f.part"), nil, 0o600))
	}
	past := time.Now().Add(-models.PartialAge - time.Hour)
	require.NoError(t, os.Chtimes(filepath.Join(old, "f.part"), past, past))
	require.NoError(t, os.Chtimes(old, past, past))
	require.NoError(t, r.lib.Cleanup(t.Context()))
	require.Equal(t, []string{".partial/a%2Fyoung/f.part"}, r.files())
}
