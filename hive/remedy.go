package hive

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"rbeehive/migrations"
	"rbeehive/store"
)

// withRemedy adds what to do to an error that says why hive cannot start on its state file.
func withRemedy(err error, dataDir string) error {
	anew := "`hivectl db salvage --data-dir " + dataDir + "` makes the file anew and keeps every worker that lives"
	switch {
	case err == nil:
		return nil
	case errors.As(err, new(*store.CorruptError)):
		return fmt.Errorf("%w; `hivectl db check --data-dir %s` lists all damage, `hivectl db salvage --data-dir %[2]s` rebuilds the file and adopts every living worker", err, dataDir)
	case errors.As(err, new(*store.NotRegularError)):
		return fmt.Errorf("%w; move it away: %s", err, anew)
	case errors.Is(err, migrations.ErrForeign):
		return fmt.Errorf("%w; if it never was one, move it away: %s", err, anew)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; give it to the user that hive runs as (uid %d)", err, os.Geteuid())
	}
	return err
}
