package doctor

import (
	"fmt"
	"time"

	"rbeehive/store"
)

const (
	// LowDisk is how many free bytes are too few. Workers write logs of any length into
	// the same file system, so that it is gone soon.
	LowDisk = 256 << 20
	// lowInodes is how few files that can still be made are too few.
	lowInodes = 1000
	// clockSlack: two clocks of one machine are not read at one moment.
	clockSlack = 2 * time.Second
)

// checkFile tells what the full check of the state file has found, which is not made
// here, and how old its backups are.
func checkFile(f *Facts) Checkup {
	const name = "file"
	size, x := bytesText(f.File.Bytes), f.File.Examination
	switch {
	// Not ok: only what hive needs at its start has been checked so far.
	case x == nil:
		return unknown(name, size+"; its full check after the start is not over",
			"whether every record is intact is not known yet; what hive goes by was verified when it started", "run `hivectl doctor` again in a moment")
	case x.Err != nil:
		return warning(name, fmt.Sprintf("%s, found %s", firstLine(x.Err), f.since(x.At)),
			"the state file is damaged, and what hive does by it may be wrong",
			"stop hive (workers keep running); `hivectl db check --data-dir "+f.DataDir+"` lists all damage, `hivectl db salvage --data-dir "+f.DataDir+"` repairs it")
	case f.File.MetaPageLost:
		return warning(name, size+"; one of its two meta pages was lost when hive started",
			"what hive recorded last before that start may be missing: the start or end of a worker, or a job",
			"nothing if the power failed in that moment; else look at `hivectl ps` and `hivectl audit`, and at the disk (`dmesg`). The page is written anew, and the warning ends with the next start")
	}
	intact := fmt.Sprintf("%s, intact when checked %s", size, f.since(x.At))
	if f.File.Backups.Err != nil {
		return unknown(name, intact+"; "+firstLine(f.File.Backups.Err), "whether there is a backup is not known", tryAgain)
	}
	backup := "no backup"
	if b := f.File.Backups.Value; b.Count > 0 {
		backup = fmt.Sprintf("last backup %s, %s", f.since(b.Newest), counted(b.Count, "is kept", "are kept"))
	}
	switch {
	case f.File.BackupInterval == 0:
		backup += "; automatic backups are off (backup.interval is 0s)"
	// Last: a damaged file, and backups that cannot be listed, matter more.
	case f.File.BackupError != nil:
		return warning(name, fmt.Sprintf("%s; %s; the next one failed: %s", intact, backup, firstLine(f.File.BackupError)),
			"whatever changes from now on is lost if the file is", "fix the cause of the error; meanwhile `hivectl db backup DEST` makes a backup elsewhere")
	}
	return ok(name, "%s; %s", intact, backup)
}

// checkDisk asks the store first: what it has allocated ahead counts for it, so that
// it may admit work where the file system has nothing left, and the reverse.
func checkDisk(f *Facts) Checkup {
	const name = "disk"
	const do = "free space in the file system of the data directory; the logs of workers are in it too"
	if f.File.Admits.Err != nil {
		return unreadable(name, f.File.Admits.Err)
	}
	free := "free space is not known"
	if f.File.DiskFree.Err == nil {
		free = bytesText(f.File.DiskFree.Value) + " free for " + f.DataDir
	}
	switch inodes := f.File.Inodes; {
	case inodes.Err == nil && inodes.Value < lowInodes:
		// Before the space, of which there may be plenty.
		return warning(name, fmt.Sprintf("%s, and %s left", free, counted(int(inodes.Value), "inode is", "inodes are")),
			"without inodes no file can be made: new workers, which need a log, and models are refused with disk_full, and no backup is made",
			"remove files in the file system of the data directory; `df -i "+f.DataDir+"` counts them")
	case !f.File.Admits.Value:
		return warning(name, free+": full", "new jobs are refused with disk_full; stops are still carried out", do)
	case f.File.DiskFree.Err != nil:
		return unknown(name, free+": "+firstLine(f.File.DiskFree.Err),
			"new jobs are admitted now, and how soon the disk is full cannot be told", "look at it with `df "+f.DataDir+"`")
	case inodes.Err != nil:
		return unknown(name, free+"; how many inodes are left is not known: "+firstLine(inodes.Err),
			"how soon no file can be made cannot be told", "look at it with `df -i "+f.DataDir+"`")
	case f.File.DiskFree.Value < LowDisk:
		return warning(name, free, "when it is full, new jobs are refused with disk_full and workers cannot write their logs", do)
	}
	return ok(name, "%s", free)
}

// checkOrigin is about the one start in which the file may be another hive's.
func checkOrigin(f *Facts) Checkup {
	const name = "origin"
	if !f.File.Relocated {
		return ok(name, "the state file is the one that hive used last time")
	}
	return warning(name, "the state file was copied or restored, and this is the first start with it",
		"the workers it names may be another hive's: until the next start none is given up, and processes that dead ones left are not ended",
		"if they are this hive's, restart hive (workers keep running)")
}

// checkClock is about records that are ahead of the clock, which is what a clock
// that was turned back looks like. Nothing of hive's decisions hangs on it.
func checkClock(f *Facts) Checkup {
	const name = "clock"
	const means = "times in lists and logs are wrong, and old jobs and logs are removed too early or too late; leases do not depend on it"
	last := latest(f.File.Records.Value, f.Leases.Value)
	synchronised := f.Host.Synchronised
	switch ahead := last.At.Sub(f.Now); {
	// First: one record proves it, even if others could not be read.
	case ahead > clockSlack:
		return warning(name, fmt.Sprintf("the clock is %s behind %s, which hive has recorded", ahead.Round(time.Second), last.Name), means,
			"set the clock (`timedatectl set-ntp true`); if it is right now, it was ahead before, and this warning ends by itself")
	case f.File.Records.Err != nil:
		return unreadable(name, f.File.Records.Err)
	case f.Leases.Err != nil:
		return unreadable(name, f.Leases.Err)
	case synchronised.Err != nil:
		return unknown(name, "ahead of every record; "+firstLine(synchronised.Err),
			"whether the clock is right cannot be seen from here; if it is wrong, "+means, "make sure that an NTP service of the host sets the clock")
	case !synchronised.Value:
		return unknown(name, "ahead of every record; no time service vouches for it (STA_UNSYNC)",
			"the clock may be right or wrong; if it is wrong, "+means, "let an NTP service set it: `timedatectl set-ntp true`, in a container on the host")
	}
	return ok(name, "synchronised, and ahead of every record")
}

// latest is the record with the latest time; one without a time if there is none.
func latest(records []Record, leases []store.Lease) (last Record) {
	for _, r := range records {
		if r.At.After(last.At) {
			last = r
		}
	}
	for _, l := range leases {
		if l.AcquiredAt.After(last.At) {
			last = Record{fmt.Sprintf("the lease of port %d", l.Port), l.AcquiredAt}
		}
	}
	return last
}

// since says how long ago t was, roughly.
func (f *Facts) since(t time.Time) string {
	// Not negative, when the clock was turned back.
	d := max(f.Now.Sub(t), 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds ago", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm ago", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh ago", int(d.Hours()))
	}
	return fmt.Sprintf("%dd ago", int(d.Hours())/24)
}

func bytesText(n int64) string {
	value, unit := float64(n), 0
	for value >= 1024 && unit < 4 {
		value, unit = value/1024, unit+1
	}
	if unit == 0 {
		return fmt.Sprintf("%d bytes", n)
	}
	return fmt.Sprintf("%.1f %s", value, []string{"", "KiB", "MiB", "GiB", "TiB"}[unit])
}
