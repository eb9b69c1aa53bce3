package doctor_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/doctor"
)

func TestFile(t *testing.T) { t.Parallel(); evaluate(t, fileRows()) }

func fileRows() []row {
	return []row{
		{"not checked yet", func(f *doctor.Facts) { f.File.Examination = nil }, "file", doctor.Unknown, []string{"not over", "again"}},
		{"damaged", func(f *doctor.Facts) {
			f.File.Examination.Err = errors.Join(errors.New("leases/8080: bad checksum"), errors.New("more"))
		}, "file", doctor.Warning, []string{"leases/8080: bad checksum, found 3h ago\n", "`hivectl db salvage --data-dir /var/lib/hive`"}},
		{"a meta page was lost", func(f *doctor.Facts) { f.File.MetaPageLost = true }, "file", doctor.Warning, []string{"meta pages was lost", "`hivectl audit`"}},
		{"no backup", func(f *doctor.Facts) { f.File.Backups.Value = doctor.Backups{} }, "file", doctor.OK, []string{"no backup"}},
		{"backups that cannot be listed", func(f *doctor.Facts) { f.File.Backups = failed[doctor.Backups]("list the backups: permission denied") }, "file", doctor.Unknown, []string{"intact when checked 3h ago; list the backups: permission denied\n"}},
		{"no automatic backups", func(f *doctor.Facts) { f.File.BackupInterval = 0 }, "file", doctor.OK, []string{"backup.interval is 0s"}},
		{"a backup failed", func(f *doctor.Facts) { f.File.BackupError = errors.New("disk full\nmore") }, "file", doctor.Warning, []string{"the next one failed: disk full\n", "hivectl db backup"}},
		{"little room", func(f *doctor.Facts) { f.File.DiskFree.Value = 100 << 20 }, "disk", doctor.Warning, []string{"100.0 MiB free for /var/lib/hive\n"}},
		{"full", func(f *doctor.Facts) { f.File.DiskFree.Value, f.File.Admits.Value = 512, false }, "disk", doctor.Warning, []string{"512 bytes free", "full\n", "disk_full"}},
		{"no inodes", func(f *doctor.Facts) { f.File.Inodes.Value = 0 }, "disk", doctor.Warning, []string{"41.0 GiB free for /var/lib/hive, and 0 inodes are left\n", "disk_full", "`df -i /var/lib/hive`"}},
		{"few inodes", func(f *doctor.Facts) { f.File.Inodes.Value = 1 }, "disk", doctor.Warning, []string{"1 inode is left\n"}},
		{"inodes that are not known", func(f *doctor.Facts) { f.File.Inodes = failed[int64]("statfs: I/O error") }, "disk", doctor.Unknown, []string{"statfs: I/O error\n", "`df -i /var/lib/hive`"}},
		{"the reserve goes on being used", func(f *doctor.Facts) { f.File.Admits.Value = false }, "disk", doctor.Warning, []string{"disk_full"}},
		{"how much is not known", func(f *doctor.Facts) { f.File.DiskFree = failed[int64]("statfs: I/O error") }, "disk", doctor.Unknown, []string{"not known: statfs: I/O error\n", "`df /var/lib/hive`"}},
		{"broken", func(f *doctor.Facts) { f.File.Admits = failed[bool]("store has failed") }, "disk", doctor.Unknown, []string{"store has failed"}},
		{"copied", func(f *doctor.Facts) { f.File.Relocated = true }, "origin", doctor.Warning, []string{"first start", "restart hive"}},

		{"turned back", func(f *doctor.Facts) { f.File.Records.Value[1].At = f.Now.Add(90 * time.Minute) }, "clock", doctor.Warning, []string{"1h30m0s behind event 7"}},
		{"turned back, by a lease", func(f *doctor.Facts) { f.Leases.Value[1].AcquiredAt = f.Now.Add(3 * time.Second) }, "clock", doctor.Warning, []string{"3s behind the lease of port 8081"}},
		{"turned back, by what of it can be read", func(f *doctor.Facts) {
			f.File.Records = failed[[]doctor.Record]("events: damaged")
			f.Leases.Value[0].AcquiredAt = f.Now.Add(time.Hour)
		}, "clock", doctor.Warning, []string{"1h0m0s behind the lease of port 8080"}},
		{"nothing recorded", func(f *doctor.Facts) { f.File.Records.Value = nil }, "clock", doctor.OK, nil},
		{"read a moment apart", func(f *doctor.Facts) { f.File.Records.Value[1].At = f.Now.Add(2 * time.Second) }, "clock", doctor.OK, nil},
		{"not synchronised", func(f *doctor.Facts) { f.Host.Synchronised.Value = false }, "clock", doctor.Unknown, []string{"STA_UNSYNC", "timedatectl"}},
		{"not allowed to ask", func(f *doctor.Facts) { f.Host.Synchronised = failed[bool]("adjtimex: operation not permitted") }, "clock", doctor.Unknown, []string{"not permitted"}},
		{"the last records cannot be read", func(f *doctor.Facts) { f.File.Records = failed[[]doctor.Record]("events: damaged") }, "clock", doctor.Unknown, []string{"damaged"}},
	}
}

// How long ago something was is said in the largest unit that still tells something.
func TestAgesOfTheFile(t *testing.T) {
	t.Parallel()
	for want, age := range map[string]time.Duration{
		"0s ago":  -time.Hour, // the clock was turned back since
		"59s ago": time.Minute - 1,
		"1m ago":  time.Minute,
		"59m ago": time.Hour - 1,
		"1h ago":  time.Hour,
		"47h ago": 48*time.Hour - 1,
		"2d ago":  48 * time.Hour,
	} {
		f := healthy()
		f.File.Examination.At = f.Now.Add(-age)
		require.Contains(t, named(t, doctor.Check(f), "file").Found, "intact when checked "+want+";")
	}
}

func TestSizesOfTheFile(t *testing.T) {
	t.Parallel()
	for want, size := range map[string]int64{
		"0 bytes,": 0, "1023 bytes,": 1023, "1.0 KiB,": 1024, "1.5 MiB,": 3 << 19, "2.0 GiB,": 2 << 30, "2048.0 TiB,": 2 << 50,
	} {
		f := healthy()
		f.File.Bytes = size
		require.True(t, strings.HasPrefix(named(t, doctor.Check(f), "file").Found, want), want)
	}
}
