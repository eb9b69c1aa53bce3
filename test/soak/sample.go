package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"rbeehive/store"
)

// look is what was seen of hive at one moment.
type look struct {
	status     map[string]float64 // of /proc/PID/status: bytes, and numbers
	fds        int
	children   int
	goroutines int
	cpu        float64 // seconds since its start
	busy       float64 // percent of a core since the look before
	db         usage   // the state file
	data       usage   // the data directory, with all that follows
	logs       usage
	backups    usage
	records    map[string]int // of the state file, by bucket; nil: not counted this time
}

// usage is what files take.
type usage struct {
	files  int
	bytes  int64 // their length
	blocks int64 // bytes that the disk has set aside for them
}

func (u *usage) add(info fs.FileInfo) {
	u.files++
	u.bytes += info.Size()
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		u.blocks += st.Blocks * 512
	}
}

// countEvery is how many looks come to one that counts records: for that hive makes a
// backup.
const countEvery = 5

// lookAt looks at the hive process and its data.
func (r *run) lookAt(ctx context.Context, count bool) (l look, err error) {
	pid := r.hive.PID()
	// The connections that this program keeps are hive's, too.
	now, err := r.hive.Usage(ctx)
	if err != nil {
		return l, err
	}
	l.goroutines = now.Goroutines
	if l.status, err = status(pid); err != nil {
		return l, err
	}
	if l.cpu, err = cpuSeconds(pid); err != nil {
		return l, err
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		return l, err
	}
	l.fds = len(fds)
	if l.children, err = children(pid); err != nil {
		return l, err
	}
	if err := l.measure(r.hive.Data()); err != nil {
		return l, err
	}
	if count {
		l.records, err = r.countRecords(ctx)
	}
	return l, err
}

// measure adds up the files of the data directory. Some go while it looks.
func (l *look) measure(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			return nil
		}
		var info fs.FileInfo
		if err == nil {
			info, err = d.Info()
		}
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		l.data.add(info)
		switch rel, _ := filepath.Rel(dir, path); {
		case rel == "hive.db":
			l.db.add(info)
		case filepath.Dir(rel) == "logs":
			l.logs.add(info)
		case filepath.Dir(rel) == "backups":
			l.backups.add(info)
		}
		return nil
	})
}

// countRecords counts them in a backup that hive makes.
func (r *run) countRecords(ctx context.Context) (map[string]int, error) {
	path := filepath.Join(r.hive.Dir, "counted.db")
	if err := r.backUp(ctx, path); err != nil {
		return nil, fmt.Errorf("back up: %w", err)
	}
	file, err := store.OpenOffline(path, false)
	if err != nil {
		return nil, err
	}
	v, err := file.Overview()
	records := map[string]int{}
	for _, c := range v.Records {
		records[c.Bucket] = c.Records
	}
	return records, errors.Join(err, file.Close())
}

func (r *run) backUp(ctx context.Context, path string) error {
	body, err := r.hive.Stream(ctx, "/v1/backup")
	if err != nil {
		return err
	}
	defer body.Close()
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(file, body)
	return errors.Join(err, file.Close())
}

// status reads what is a number in /proc/PID/status.
func status(pid int) (map[string]float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return nil, err
	}
	values := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(line, ":")
		number, kib := strings.CutSuffix(strings.TrimSpace(value), " kB")
		n, err := strconv.ParseFloat(number, 64)
		if err != nil {
			continue
		}
		if kib {
			n *= 1 << 10
		}
		values[name] = n
	}
	for _, name := range []string{"VmRSS", "RssAnon", "Threads"} {
		if values[name] == 0 {
			return nil, fmt.Errorf("/proc/%d/status has no %s", pid, name)
		}
	}
	return values, nil
}

// cpuSeconds is what a process has used: utime and stime, in ticks, of which all
// architectures have 100 a second.
func cpuSeconds(pid int) (float64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// Behind the name, which may be anything: the first is the third of proc(5).
	fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
	if len(fields) < 20 {
		return 0, fmt.Errorf("/proc/%d/stat: %q", pid, text)
	}
	user, err := strconv.ParseFloat(fields[11], 64)
	if err != nil {
		return 0, err
	}
	system, err := strconv.ParseFloat(fields[12], 64)
	return (user + system) / 100, err
}

// children counts the children of a process, also those that have ended and were not
// waited for. It reads no stat: whoever reads that of a process which executes a program on
// a mount that does not answer waits as well.
func children(pid int) (n int, err error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return 0, err
	}
	parent := fmt.Sprintf("\nPPid:\t%d\n", pid)
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		text, err := os.ReadFile("/proc/" + e.Name() + "/status")
		if err == nil && strings.Contains(string(text), parent) { // else it has ended
			n++
		}
	}
	return n, nil
}
