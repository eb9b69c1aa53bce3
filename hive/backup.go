package hive

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"rbeehive/hive/doctor"
	"rbeehive/store"
	"rbeehive/store/nospace"
)

const (
	// backupCheckInterval is how often it is checked whether a backup is due.
	backupCheckInterval = time.Minute
	// backupPrefix begins the names of automatic backups: only these are pruned.
	backupPrefix = "hive-auto-"
	// backupLeftoverAge is how old what a killed hive left unfinished must be to go.
	backupLeftoverAge = time.Hour
)

// roomForCopy returns store.ErrDiskFull if a copy of the file would leave too
// little for everything else. Where the system does not say there is room.
func (u *upkeep) roomForCopy() error {
	free, err := u.store.DiskFree()
	// A copy that fills the disk would have hive refuse new jobs.
	if need := u.store.Stats().FileBytes + doctor.LowDisk; err == nil && free < need {
		return fmt.Errorf("%w: a copy of the state file needs %d bytes free, there are %d", store.ErrDiskFull, need, free)
	}
	if left, known := nospace.In(u.dataDir); known == nil && left.Inodes == 0 {
		return fmt.Errorf("%w: %s", store.ErrDiskFull, nospace.Why(u.dataDir, syscall.ENOSPC))
	}
	return nil
}

// backUpOften makes automatic backups until the hive closes.
func (u *upkeep) backUpOften() {
	for {
		// Asked each time: a reload may have changed it.
		wait := backupCheckInterval
		if interval := u.settings().Backup.Interval; interval > 0 {
			wait = min(wait, interval)
		}
		select {
		case <-u.run.Context().Done():
			return
		case <-time.After(wait):
		}
		err := u.backUpIfDue(time.Now())
		if err != nil && !u.run.Closing() {
			u.log.WithError(err).Warn("no backup of the state file could be made; it is tried again")
		}
		// Also when it is nil: the doctor must not complain of an earlier fault.
		u.backupFault.Store(&err)
	}
}

// backUpIfDue makes a backup if the newest is old enough and something has changed
// since, and removes the oldest. One that would not be whole is not made, and the
// ones before it stay.
func (u *upkeep) backUpIfDue(now time.Time) error {
	cfg, dir := u.settings().Backup, filepath.Join(u.dataDir, "backups")
	if cfg.Interval <= 0 {
		return nil
	}
	made, err := autoBackups(dir, now)
	if err != nil {
		return err
	}
	if len(made) > 0 {
		newest := made[len(made)-1]
		// A copy of the same state would only push out an older one.
		if now.Sub(newest.at) < cfg.Interval || u.sameAs(newest.path) {
			return nil
		}
	}
	if err := u.roomForCopy(); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	path := filepath.Join(dir, backupPrefix+now.UTC().Format(store.StampFormat)+".db")
	if err := u.store.BackupTo(u.run.Context(), path); err != nil {
		return err
	}
	made = append(made, autoBackup{path, now})
	// Only now that the new one is whole and on the disk.
	for _, old := range made[:max(0, len(made)-cfg.Keep)] {
		if err := os.Remove(old.path); err != nil {
			return err
		}
	}
	return removeUnfinished(dir, now)
}

// sameAs reports whether nothing was written since the backup was made.
func (u *upkeep) sameAs(path string) bool {
	was, errWas := store.TransactionOf(path)
	is, errIs := u.store.Transaction()
	return errWas == nil && errIs == nil && was == is
}

type autoBackup struct {
	path string
	at   time.Time
}

// autoBackups returns the automatic backups, oldest first, by the time in their names:
// a copy that somebody puts back has another one. Those of a time to come were made
// while the clock was wrong, and count as the oldest: as the newest they would stay
// until that time, and everything else would be pruned around them.
func autoBackups(dir string, now time.Time) (list []autoBackup, err error) {
	entries, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil, nil
	}
	for _, e := range entries {
		at, err := time.Parse(backupPrefix+store.StampFormat+".db", e.Name())
		if err != nil || !e.Type().IsRegular() {
			continue // somebody else's
		}
		// The zero time makes it the oldest.
		if at.After(now) {
			at = time.Time{}
		}
		list = append(list, autoBackup{filepath.Join(dir, e.Name()), at})
	}
	slices.SortFunc(list, func(a, b autoBackup) int {
		return cmp.Or(a.at.Compare(b.at), strings.Compare(a.path, b.path))
	})
	return list, err
}

// removeUnfinished removes what a hive that was killed has not finished.
func removeUnfinished(dir string, now time.Time) error {
	paths, err := filepath.Glob(filepath.Join(dir, "."+backupPrefix+"*"))
	if err != nil {
		return nil // a name of the directory that is a bad pattern: what is left is left
	}
	for _, path := range paths {
		info, err := os.Lstat(path)
		if err != nil || now.Sub(info.ModTime()) < backupLeftoverAge {
			continue
		}
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return nil
}
