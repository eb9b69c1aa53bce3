package workertype_test

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/operation"
	testprogram "rbeehive/test/program"
	"rbeehive/test/skip"
)

func (r *rig) installedGet(id string) operation.InstalledProgram {
	r.t.Helper()
	got, err := r.InstalledGet(r.t.Context(), operation.InstalledGet{WorkerID: id})
	require.NoError(r.t, err)
	return got.(operation.InstalledProgram)
}

func TestTheCatalogIsListed(t *testing.T) {
	program := script(t, filepath.Join(t.TempDir(), "vllm"), "echo ran >>$0.ran; echo 1.2.3")
	r := newRig(t, catalog.Entry{Name: "here", Preset: "vllm", Program: program}, catalog.Entry{Name: "gone", Command: []string{"/no/such/program"}})
	got, err := r.CatalogList(t.Context(), operation.CatalogList{})
	require.NoError(t, err)
	rows := map[string]operation.CatalogEntry{}
	for _, row := range got.(operation.CatalogEntries).Workers {
		rows[row.ID] = row
		one, err := r.CatalogGet(t.Context(), operation.CatalogGet{WorkerID: row.ID})
		require.NoError(t, err)
		require.Equal(t, row, one)
	}
	require.Len(t, rows, len(r.types.Names()))
	here := rows["here"]
	require.Equal(t, operation.CatalogEntry{
		ID: "here", Name: "here", WorkerType: "here", Platform: runtime.GOOS, Description: here.Description, Source: catalog.SourceConfiguration,
		Preset: ref("vllm"), Installed: true, Program: &program,
	}, here)
	require.NotEmpty(t, here.Description)
	gone := rows["gone"]
	require.False(t, gone.Installed)
	require.Nil(t, gone.Program)
	require.Nil(t, gone.Preset)
	require.Equal(t, "/no/such/program does not exist", *gone.Reason)
	require.NoFileExists(t, program+".ran", "nobody is asked")
	_, err = r.CatalogGet(t.Context(), operation.CatalogGet{WorkerID: "nobody"})
	require.Contains(t, requireFailure(t, err, errdefs.CodeNotFound), `worker type "nobody": not found (known: `)
}

func TestWhatIsInstalledIsListed(t *testing.T) {
	path := inPath(t, "llama-server", llama)
	at := time.Date(2026, 11, 20, 8, 30, 0, 120e6, time.FixedZone("", 3600))
	require.NoError(t, os.Chtimes(path, at, at))
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	sum := sha256.Sum256(text)
	r := newRig(t, catalog.Entry{Name: "gone", Command: []string{"/no/such/program"}})
	row := r.installedGet("llama-server")
	require.Equal(t, operation.InstalledProgram{
		ID: "llama-server", Name: "llama-server", WorkerType: "llama-server", Platform: runtime.GOOS, Version: ref("7 (x)"), Size: int64(len(text)),
		Path: path, AddedAt: "2026-11-20T07:30:00.120Z", SHA256: ref(hex.EncodeToString(sum[:])), Source: catalog.SourcePreset, Preset: ref("llama-server"),
	}, row)
	got, err := r.InstalledList(t.Context(), operation.InstalledList{})
	require.NoError(t, err)
	list := got.(operation.InstalledPrograms).Workers
	require.Contains(t, list, row)
	for _, other := range list {
		require.NotEqual(t, "gone", other.ID)
		require.NotEqual(t, "vllm", other.ID)
	}
	_, err = r.InstalledGet(t.Context(), operation.InstalledGet{WorkerID: "gone"})
	require.Equal(t, "worker type gone is not installed: /no/such/program does not exist", requireFailure(t, err, errdefs.CodeNotFound))
	_, err = r.InstalledGet(t.Context(), operation.InstalledGet{WorkerID: "nobody"})
	require.Contains(t, requireFailure(t, err, errdefs.CodeNotFound), `worker type "nobody": not found`)

	// Of an installed type it is when it was installed.
	begun := time.Now().Add(-time.Second)
	_, err = r.install("llama-server")
	require.NoError(t, err)
	added, err := time.Parse(time.RFC3339, r.installedGet("llama-server").AddedAt)
	require.NoError(t, err)
	require.WithinRange(t, added, begun, time.Now().Add(time.Second))
}

// A hash is that of the file as it is now, and is not made again for the same file.
func TestAHashIsRememberedAsLongAsItsFile(t *testing.T) {
	path := inPath(t, "llama-server", "exit 0 # 1")
	r := newRig(t)
	first := r.installedGet("llama-server").SHA256
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.NoError(t, testprogram.Write(path, []byte("#!/bin/sh\nexit 0 # 2\n"), 0o755))
	require.NoError(t, os.Chtimes(path, info.ModTime(), info.ModTime()))
	require.Equal(t, first, r.installedGet("llama-server").SHA256, "size and time are the same: it is not read again")
	later := info.ModTime().Add(time.Second)
	require.NoError(t, os.Chtimes(path, later, later))
	second := r.installedGet("llama-server").SHA256
	require.NotEqual(t, first, second)
	require.NoError(t, testprogram.Write(path, []byte("#!/bin/sh\nexit 0 # 30\n"), 0o755))
	require.NoError(t, os.Chtimes(path, later, later))
	require.NotEqual(t, second, r.installedGet("llama-server").SHA256)
}

// A hash of a program of gigabytes would hold everybody up, and tells nobody anything.
func TestNoHashOfALargeProgram(t *testing.T) {
	path := inPath(t, "llama-server", llama)
	r := newRig(t)
	for size, want := range map[int64]bool{1 << 20: true, 128<<20 + 1: false} {
		require.NoError(t, os.Truncate(path, size)) // a hole
		row := r.installedGet("llama-server")
		require.Equal(t, size, row.Size)
		require.Equal(t, want, row.SHA256 != nil, "%d", size)
	}
}

// What a program is, by its hash, is told of files only that its user can read.
func TestHashOfAProgramThatItsUserCannotRead(t *testing.T) {
	skip.UnlessRoot(t, "only root starts workers as other users")
	dir := publicDir(t)
	secret := script(t, filepath.Join(t.TempDir(), "secret"), "echo 1.2.3")
	program := filepath.Join(dir, "vllm")
	require.NoError(t, os.Symlink(secret, program))
	r := newRig(t, catalog.Entry{Name: "own", Preset: "vllm", Program: program}, catalog.Entry{Name: "other", Preset: "vllm", Program: program, User: outsider})
	require.Len(t, *r.installedGet("own").SHA256, 64)
	row := r.installedGet("other")
	require.Nil(t, row.SHA256)
	require.Nil(t, row.Version)
}
