package doctor

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"
)

// Backups is what is in the directory of backups.
type Backups struct {
	Count  int
	Newest time.Time // by the times of the files
}

// FindBackups counts the backups in a directory, whoever made them; a directory that
// does not exist has none. An error is one of reading the directory or a file's times.
func FindBackups(dir string) (Backups, error) {
	var found Backups
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return found, nil
	}
	if err != nil {
		return found, fmt.Errorf("list the backups: %w", err)
	}
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".db") {
			continue // one that is being made has no such name yet
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // pruned since the directory was read
		}
		if err != nil {
			return found, fmt.Errorf("list the backups: %w", err)
		}
		found.Count++
		// By the file's time, not by its name: one made by hand may be called anything.
		if info.ModTime().After(found.Newest) {
			found.Newest = info.ModTime()
		}
	}
	return found, nil
}
