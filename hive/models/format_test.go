package models_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/models"
	"rbeehive/test/hub"
)

// weights are the least that is taken for a model.
const weights = "GGUF\x03\x00\x00\x00 and weights"

// What was seen: five bytes named junk.gguf, and the error page of a proxy, were available.
func TestWhatIsNoModelIsNotImported(t *testing.T) {
	dir := t.TempDir()
	lib, err := models.New(models.Options{Dir: filepath.Join(dir, "models")})
	require.NoError(t, err)
	t.Cleanup(lib.Close)
	for _, tt := range []struct{ name, text, refused string }{
		{"junk.gguf", "hello", `not a model file: junk.gguf begins with "hello": expected GGUF and a version`},
		{"empty.gguf", "", `begins with ""`},
		{"short.gguf", "GGUF\x03\x00\x00", "expected GGUF and a version"},
		{"zero.gguf", "GGUF\x00\x00\x00\x00xxxxxxxx", "0x0 is no version"},
		{"text.gguf", "GGUF is a format", "is no version of GGUF"},
		{"pointer.GGUF", "version https://git-lfs.github.com/spec/v1\n", `begins with "version https://"`},
		{"little.gguf", weights, ""},
		{"big.gguf", "GGUF\x00\x00\x00\x03", ""},
		{"junk.safetensors", "hello", "expected the length of a header"},
		{"page.safetensors", "<!DOCTYPE html><html></html>", "is not in a file of 28"},
		{"cut.safetensors", "\x10\x00\x00\x00\x00\x00\x00\x00{\"a\":1}", "a header of 16 bytes is not in a file of 15"},
		{"list.safetensors", "\x02\x00\x00\x00\x00\x00\x00\x00[]", "the header is not a JSON object"},
		{"none.safetensors", "\x00\x00\x00\x00\x00\x00\x00\x00{}", "a header of 0 bytes"},
		{"least.safetensors", "\x02\x00\x00\x00\x00\x00\x00\x00{}", ""},
		{"other.bin", "hello", ""},
	} {
		file := filepath.Join(dir, tt.name)
		require.NoError(t, os.WriteFile(file, []byte(tt.text), 0o600))
		_, err := lib.Import(t.Context(), file, models.ImportID(file), false)
		if tt.refused == "" {
			require.NoError(t, err, tt.name)
			continue
		}
		require.ErrorIs(t, err, models.ErrFormat, tt.name)
		require.ErrorContains(t, err, tt.refused)
		_, err = lib.Get(models.ImportID(file))
		require.ErrorIs(t, err, models.ErrNotFound)
	}
	// Neither name says something else than it is.
	file := filepath.Join(dir, "junk.gguf")
	_, err = lib.Import(t.Context(), file, "a/b:c.bin", true)
	require.ErrorIs(t, err, models.ErrFormat)
	require.NoError(t, os.Rename(file, filepath.Join(dir, "junk")))
	_, err = lib.Import(t.Context(), filepath.Join(dir, "junk"), "a/b:c.gguf", true)
	require.ErrorIs(t, err, models.ErrFormat)
}

// What the hub lists can be no model: the content is what it says, and of no use.
func TestWhatIsNoModelIsNotKept(t *testing.T) {
	r := newRig(t)
	good := hub.File{Path: "model.safetensors", Size: mib, Seed: 2, LFS: true}
	r.hub.Add("org/junk", hub.File{Path: "q.gguf", Size: mib, Seed: 1, LFS: true, Junk: true})
	r.hub.Add("org/page", hub.File{Path: "config.json", Size: 9, Seed: 1}, hub.File{Path: "model.safetensors", Size: 300, Seed: 1, Junk: true})
	r.hub.Add("org/good", hub.File{Path: "config.json", Size: 9, Seed: 1}, good)
	for id, says := range map[string]string{"org/junk": "q.gguf begins with", "org/page": "model.safetensors begins with"} {
		_, err := r.download(id)
		require.ErrorIs(t, err, models.ErrFormat)
		require.ErrorContains(t, err, says)
		r.requireNoModel()
	}
	m, err := r.download("org/good")
	require.NoError(t, err)
	require.Equal(t, r.hub.SHA256(good), sumOf(t, filepath.Join(m.Path, good.Path)))
	for _, name := range r.files() {
		require.NotContains(t, name, ".gguf", "junk does not fill the disk")
	}
}
