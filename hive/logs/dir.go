package logs

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/sirupsen/logrus"

	"rbeehive/store/plain"
)

// MinSize is the smallest Config.MaxSize: file systems take the head of a file away
// in whole blocks, and no block is larger.
const MinSize = 64 << 10

// Config bounds the logs of workers. Sizes are in bytes. The tags are those of package
// setting.
type Config struct {
	MaxSize int64 `key:"max_size" default:"64MiB" min:"64KiB"` // a log that is larger is rotated; at least MinSize
	Keep    int   `key:"keep" default:"3" min:"1"`             // how many rotated files a log has
}

// Validate returns an error that says what is wrong.
func (c Config) Validate() error {
	if c.MaxSize < MinSize || c.Keep < 0 {
		return fmt.Errorf("%+v: MaxSize must be at least %d, the others not negative", c, MinSize)
	}
	return nil
}

// Source is a worker as far as its log goes.
type Source struct {
	ID    string // also the name of its log, without ".log"
	Path  string // of its log, as it was recorded
	Ended bool   // nothing of the worker is known to run; Prune may remove its log
	// Foreign: the worker may belong to another hive, so that its log is not rotated.
	Foreign bool
}

// Dir is a directory of logs. It is safe for concurrent use.
type Dir struct {
	cfg Config
	dir string
	out *logrus.Logger

	unitOnce sync.Once
	unit     atomic.Int64 // in what units the head of a log can be taken away; 0: it cannot

	mu     sync.Mutex
	logs   map[string]*log // by worker id
	claims map[string]bool // workers that have a log and no record yet
}

// New makes a Dir of a directory that exists. It reads nothing yet. Trouble with
// single logs is reported to logger.
func New(cfg Config, dir string, logger *logrus.Logger) *Dir {
	return &Dir{cfg: cfg, dir: dir, out: logger, logs: map[string]*log{}, claims: map[string]bool{}}
}

// Path is where the log of a new worker belongs.
func (d *Dir) Path(id string) string { return filepath.Join(d.dir, id+".log") }

// Restore makes the directory anew if somebody has removed it: else no worker could be
// started. The logs of living workers go on in files without a name.
func (d *Dir) Restore() {
	if os.Mkdir(d.dir, 0o700) == nil {
		d.out.WithField("dir", d.dir).Warn("the directory of logs was removed and has been made anew; what living workers write is lost until they are started again")
	}
}

// Claim keeps the log of a worker that has no record yet from being taken for an
// orphan. The caller calls release when there is a record, or will never be one.
func (d *Dir) Claim(id string) (release func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.claims[id] = true
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.claims, id)
	}
}

// claimed returns the ids of all claims.
func (d *Dir) claimed() map[string]bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	ids := map[string]bool{}
	for id := range d.claims {
		ids[id] = true
	}
	return ids
}

// log returns the log of a worker, which was recorded as lying at path.
func (d *Dir) log(id, path string) *log {
	d.mu.Lock()
	defer d.mu.Unlock()
	l := d.logs[id]
	if l == nil {
		l = &log{path: path}
		// By the name it has now, which is what rotation and readers find.
		if here := d.Path(id); here == path || sameFile(here, path) {
			l.path, l.local = here, true
		}
		d.logs[id] = l
	}
	return l
}

// sameFile is for a data directory that was reached by another path before.
func sameFile(a, b string) bool {
	one, errOne := os.Lstat(a)
	other, errOther := os.Lstat(b)
	return errOne == nil && errOther == nil && os.SameFile(one, other)
}

// Written is how many bytes have been written to a log since this hive began, with
// what was in it then: it never decreases when the log is rotated.
func (d *Dir) Written(id, path string) int64 { return d.log(id, path).written() }

// linePrefix begins hive's own lines in a log.
const linePrefix = "--- hive: "

// Printf writes one of hive's own lines into the log at path, as plain text: no
// argument can make two lines of it. The log is for people; a line that cannot be
// written is not worth a failure.
func Printf(path, format string, args ...any) {
	// As in openRegular: no link is followed, and no fifo waited for.
	f, err := os.OpenFile(path, os.O_RDWR|os.O_APPEND|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600) //nolint:gosec // in hive's own directory
	if err != nil {
		return
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil || !fi.Mode().IsRegular() {
		return
	}
	_, _ = fmt.Fprintf(f, "%s%s%s\n", endOfLine(f, fi.Size()), linePrefix, plain.Text(fmt.Sprintf(format, args...)))
}

// endOfLine is what ends the last line of a log. A program that draws a progress bar is
// ended in the middle of one, and hive's line would be a part of it.
func endOfLine(f *os.File, size int64) string {
	last := make([]byte, 1)
	if _, err := f.ReadAt(last, size-1); err != nil || last[0] == '\n' { // an empty log, too
		return ""
	}
	return "\n"
}
