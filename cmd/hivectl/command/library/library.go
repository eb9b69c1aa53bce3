// Package library is the part of hivectl that writes to a hive's directory of models
// itself: an import reads a file that the caller names, with the caller's rights. A
// hive that was asked for it would read any file of the machine with its own.
package library

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"rbeehive/hive/models"
	"rbeehive/hive/trust"
)

// Refusal is an import that was refused. Hint, if not empty, says what to do.
type Refusal struct{ Text, Hint string }

func (r *Refusal) Error() string { return r.Text }

// Imported is a model that was put into the catalog.
type Imported struct {
	ID     string `json:"id"`
	Path   string `json:"path"`
	Size   int64  `json:"size_bytes"`
	SHA256 string `json:"sha256"` // of the first file, which is that at Path
	Files  int    `json:"files"`
}

// Import puts file into the library at dir, which must be there or have a parent that
// is: a state directory. id may be empty. It blocks while the file is read. Errors:
// *Refusal, and those of the file system.
func Import(ctx context.Context, dir, file, id string, asCopy bool) (Imported, error) {
	// An import makes the directories that are missing, and would make those of a mistyped path.
	if _, err := os.Stat(filepath.Dir(dir)); errors.Is(err, fs.ErrNotExist) {
		return Imported{}, &Refusal{
			fmt.Sprintf("no such directory: %s", filepath.Dir(dir)),
			"give the hive's state directory with --data-dir, or its models.dir with --models-dir",
		}
	}
	lib, err := models.New(models.Options{Dir: dir})
	if err != nil {
		return Imported{}, err
	}
	defer lib.Close()
	m, err := lib.Import(ctx, file, cmp.Or(id, models.ImportID(file)), asCopy)
	if err != nil {
		return Imported{}, refusal(err)
	}
	return Imported{m.ID, m.Path, m.Size, m.Files[0].SHA256, len(m.Files)}, nil
}

func refusal(err error) error {
	if e, ok := errors.AsType[*trust.Error](err); ok {
		return &Refusal{e.Path + " " + e.Reason, "run it as the user that hive runs as (sudo -u USER); or " + e.Remedy}
	}
	switch {
	case errors.Is(err, models.ErrInvalidID):
		return &Refusal{err.Error(), "choose one with --id, as in --id local/qwen:qwen.gguf"}
	case errors.Is(err, models.ErrInUse):
		return &Refusal{err.Error(), "hivectl models list"}
	case errors.Is(err, models.ErrNotFound):
		return &Refusal{err.Error(), "a model in parts is imported as a whole: put all of them into one directory, and name any of them"}
	case errors.Is(err, models.ErrFormat):
		return &Refusal{err.Error(), "get the file again, as a whole, from where it is from"}
	case errors.Is(err, models.ErrDiskFull):
		return &Refusal{err.Error(), "free some space, or import without --copy where the file is on the same file system"}
	case errors.Is(err, fs.ErrPermission):
		return &Refusal{err.Error(), "run it as the user that hive runs as, who must be able to read the file"}
	}
	return err
}
