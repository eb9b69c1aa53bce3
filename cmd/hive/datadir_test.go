package main_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	main "rbeehive/cmd/hive"
)

func mode(t *testing.T, path string) os.FileMode {
	t.Helper()
	info, err := os.Stat(path)
	require.NoError(t, err)
	return info.Mode().Perm()
}

func write(t *testing.T, path, text string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
}

func TestDataDirIsClosedToOthers(t *testing.T) {
	root := t.TempDir()

	made := filepath.Join(root, "a", "b")
	require.NoError(t, main.PrepareDataDir(made))
	require.Equal(t, os.FileMode(0o700), mode(t, made))

	empty := filepath.Join(root, "empty")
	require.NoError(t, os.Mkdir(empty, 0o755))
	require.NoError(t, main.PrepareDataDir(empty))
	require.Equal(t, os.FileMode(0o700), mode(t, empty))

	ours := filepath.Join(root, "ours")
	write(t, filepath.Join(ours, "hive.db"), "")
	write(t, filepath.Join(ours, "notes"), "")
	require.NoError(t, os.Chmod(ours, 0o750))
	require.NoError(t, main.PrepareDataDir(ours))
	require.Equal(t, os.FileMode(0o700), mode(t, ours))
}

// --data-dir /tmp must not take /tmp from everybody else.
func TestDataDirOfOthersIsLeftAlone(t *testing.T) {
	shared := filepath.Join(t.TempDir(), "shared")
	write(t, filepath.Join(shared, "theirs"), "")
	require.NoError(t, os.Chmod(shared, 0o755))
	err := main.PrepareDataDir(shared)
	require.ErrorContains(t, err, "is open to others (mode 0755) and has files that are not hive's; choose a directory of its own with --data-dir, or chmod 700 it")
	require.Equal(t, os.FileMode(0o755), mode(t, shared))

	require.NoError(t, os.Chmod(shared, 0o700))
	require.NoError(t, main.PrepareDataDir(shared), "closed already: nothing is taken from anybody")
}

func TestDataDirThatIsAFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	write(t, file, "")
	require.ErrorContains(t, main.PrepareDataDir(file), "create the data directory: ")
}

func TestWorkerProgramIsTheRealPath(t *testing.T) {
	root := t.TempDir()
	exe := filepath.Join(root, "bin", "hive")
	write(t, exe, "")
	link := filepath.Join(root, "bin", "rbee-hive") // as make build lays it
	require.NoError(t, os.Symlink("hive", link))
	got, err := main.WorkerProgram(link, root)
	require.NoError(t, err)
	require.Equal(t, exe, got)

	_, err = main.WorkerProgram(filepath.Join(root, "gone"), root)
	require.ErrorContains(t, err, "find hive's executable: ")
}

// A checkout named rbee-hive: rbee's keeper would kill every worker whose
// command line has that path in it.
func TestWorkerProgramAvoidsTheKeepersMark(t *testing.T) {
	root := t.TempDir()
	exe := filepath.Join(root, "rbee-hive", "bin", "hive")
	write(t, exe, "")
	data := filepath.Join(root, "data")
	require.NoError(t, os.Mkdir(data, 0o700))
	for range 2 { // the second time it is there already
		got, err := main.WorkerProgram(exe, data)
		require.NoError(t, err)
		require.Equal(t, filepath.Join(data, "hive-worker"), got)
		target, err := os.Readlink(got)
		require.NoError(t, err)
		require.Equal(t, exe, target)
	}
	// An upgrade elsewhere moves the link.
	other := filepath.Join(root, "new-rbee-hive", "hive")
	write(t, other, "")
	write(t, filepath.Join(data, "hive-worker.new"), "left by a crash")
	got, err := main.WorkerProgram(other, data)
	require.NoError(t, err)
	target, err := os.Readlink(got)
	require.NoError(t, err)
	require.Equal(t, other, target)

	// No way around it: the catalog then says why cpu is not available.
	marked := filepath.Join(root, "rbee-hive")
	got, err = main.WorkerProgram(exe, marked)
	require.NoError(t, err)
	require.Equal(t, exe, got)
}
