package trust_test

import (
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/hive/trust"
)

// While somebody exchanges files, directories and links as fast as the kernel lets
// them, what is opened is what was checked. The attacker is a goroutine, and so could
// do anything; that the directory is of root's is what protects it really.
func TestNothingIsExchangedBetweenCheckAndOpen(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	mine, theirs := filepath.Join(dir, "mine"), filepath.Join(dir, "theirs")
	write(t, filepath.Join(mine, "file"), 0o600)
	write(t, filepath.Join(mine, "sub/file"), 0o600)
	for _, name := range []string{"file", "sub/file"} {
		path := write(t, filepath.Join(theirs, name), 0o600)
		require.NoError(t, os.WriteFile(path, []byte("theirs\n"), 0o600))
		give(t, path, stranger)
	}
	fifo := filepath.Join(theirs, "fifo")
	require.NoError(t, unix.Mkfifo(fifo, 0o600))
	soft := link(t, filepath.Join(theirs, "file"), filepath.Join(theirs, "link"))

	for name, pair := range map[string][2]string{
		"file":      {filepath.Join(mine, "file"), filepath.Join(theirs, "file")},
		"fifo":      {filepath.Join(mine, "file"), fifo},
		"link":      {filepath.Join(mine, "file"), soft},
		"directory": {filepath.Join(mine, "sub"), filepath.Join(theirs, "sub")},
	} {
		asks := pair[0]
		if name == "directory" {
			asks = filepath.Join(asks, "file")
		}
		var attacker sync.WaitGroup
		stop := make(chan struct{})
		attacker.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					if n%2 == 1 { // as it was
						_ = unix.Renameat2(unix.AT_FDCWD, pair[0], unix.AT_FDCWD, pair[1], unix.RENAME_EXCHANGE)
					}
					return
				default:
					_ = unix.Renameat2(unix.AT_FDCWD, pair[0], unix.AT_FDCWD, pair[1], unix.RENAME_EXCHANGE)
				}
			}
		})
		believed, refused := 0, 0
		deadline := time.Now().Add(2 * time.Second)
		for (believed < 2000 || refused < 2000) && time.Now().Before(deadline) {
			f, err := trust.Open(asks)
			if err != nil {
				refused++
				continue
			}
			believed++
			text, err := io.ReadAll(f)
			f.Close()
			if err != nil || string(text) != "mine\n" {
				close(stop)
				attacker.Wait()
				require.Equal(t, "mine\n", string(text), "%s: it was read although it is theirs: %v", name, err)
			}
		}
		close(stop)
		attacker.Wait()
		require.NotZero(t, believed, name)
		require.NotZero(t, refused, name)
	}
}
