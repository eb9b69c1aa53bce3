package logs_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/stretchr/testify/require"

	"rbeehive/hive/logs"
	"rbeehive/test/skip"
)

// shelf is a directory of logs with the workers that hive knows.
type shelf struct {
	*testing.T
	*logs.Dir
	dir      string
	sources  []logs.Source
	evidence map[string]bool
	keep     logs.Retention
}

func newShelf(t *testing.T, cfg logs.Config, maxTotal int64) *shelf {
	out := logrus.New()
	out.SetOutput(io.Discard)
	s := &shelf{T: t, dir: t.TempDir(), evidence: map[string]bool{}}
	s.Dir = logs.New(cfg, s.dir, out)
	s.keep = logs.Retention{
		MaxTotal: maxTotal, OrphanAge: 24 * time.Hour,
		Evidence: func() (map[string]bool, error) { return s.evidence, nil },
	}
	return s
}

// add records a worker, after those that ended before, with files of so many KiB.
func (s *shelf) add(id string, ended bool, files map[string]int) {
	s.Helper()
	s.sources = append(s.sources, logs.Source{ID: id, Path: s.Path(id), Ended: ended})
	for suffix, kib := range files {
		s.put(id+".log"+suffix, kib)
	}
}

func (s *shelf) put(name string, kib int) {
	s.Helper()
	require.NoError(s, os.WriteFile(filepath.Join(s.dir, name), []byte(strings.Repeat(numbered(0), kib*16)), 0o600))
}

// putOld makes a file that was last changed so long ago.
func (s *shelf) putOld(name string, age time.Duration) {
	s.Helper()
	s.put(name, 1)
	at := time.Now().Add(-age)
	require.NoError(s, os.Chtimes(filepath.Join(s.dir, name), at, at))
}

func (s *shelf) prune() {
	s.Helper()
	require.NoError(s, s.Prune(s.Context(), s.list, s.keep))
}

func (s *shelf) list() []logs.Source { return s.sources }

// names returns the files that there are, without ".log".
func (s *shelf) names() string {
	s.Helper()
	entries, err := os.ReadDir(s.dir)
	require.NoError(s, err)
	var names []string
	for _, e := range entries {
		names = append(names, strings.Replace(e.Name(), ".log", "", 1))
	}
	return strings.Join(names, " ")
}

// The logs of ended workers are bounded: what was rotated goes first, the oldest
// worker's before all, then logs. Evidence stays.
func TestLogsOfEndedWorkersAreBounded(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kib  int64
		want string
	}{
		"all fit":                     {1800, "live mid mid.1 new old old.1 old.2"},
		"the oldest of the oldest":    {1700, "live mid mid.1 new old old.1"},
		"then its next":               {1000, "live mid mid.1 new old"},
		"then the next worker's":      {800, "live mid new old"},
		"then logs, but for evidence": {690, "live mid new"},
		"as far as it goes":           {100, "live mid"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShelf(t, logs.Config{MaxSize: 64 << 20, Keep: 3}, c.kib<<10)
			s.add("old", true, map[string]int{"": 100, ".1": 400, ".2": 500})
			s.add("mid", true, map[string]int{"": 300, ".1": 200})
			s.add("live", false, map[string]int{"": 1000})
			s.add("new", true, map[string]int{"": 300})
			s.evidence["mid"] = true
			s.prune()
			require.Equal(t, c.want, s.names())
			s.prune()
			require.Equal(t, c.want, s.names(), "no more goes")
		})
	}
}

// An ended worker's log that is one large hole takes no room, and one that was made huge
// is made smaller: neither drives out what is kept of others.
func TestAHugeLogDoesNotDriveOutOthers(t *testing.T) {
	t.Parallel()
	s := newShelf(t, logs.Config{MaxSize: logs.MinSize, Keep: 1}, 1000<<10)
	s.add("old", true, map[string]int{"": 50, ".1": 60})
	s.add("hole", true, map[string]int{"": 50})
	if err := os.Truncate(s.Path("hole"), huge); err != nil {
		skip.Because(t, "the file system takes no file of 8 TiB: "+err.Error())
	}
	s.add("full", true, map[string]int{"": 3000})
	for range 3 {
		s.prune()
		require.Equal(t, "full full.1 hole old old.1", s.names())
	}
}

// Who is left of a worker may go on writing after its end, and any worker may have
// written more than can be rotated in time before it.
func TestTheLogsOfEndedWorkersAreRotated(t *testing.T) {
	t.Parallel()
	s := newShelf(t, logs.Config{MaxSize: logs.MinSize, Keep: 3}, 1<<30)
	s.add("other", true, map[string]int{"": 100})
	s.add("copied", true, map[string]int{"": 100})
	s.add("live", false, map[string]int{"": 100})
	s.sources[1].Foreign = true
	s.prune()
	require.Equal(t, "copied live other other.1", s.names())

	s.sources[2].Foreign = true
	s.Rotate(t.Context(), s.sources)
	require.Equal(t, "copied live other other.1", s.names(), "what may be another hive's is left alone")
	s.sources[2].Foreign = false
	s.Rotate(t.Context(), s.sources)
	require.Equal(t, "copied live live.1 other other.1", s.names())
}

// Files that belong to no worker are removed once they are old: a hive that was
// killed between removing a record and its log leaves one.
func TestOrphans(t *testing.T) {
	t.Parallel()
	s := newShelf(t, logs.Config{MaxSize: 64 << 20, Keep: 3}, 1<<30)
	s.add("dead", true, map[string]int{"": 1, ".1": 1, ".new": 1})
	s.add("live", false, map[string]int{"": 1})
	s.evidence["lost"] = true
	const old = 25 * time.Hour
	for name, age := range map[string]time.Duration{
		"young.log": 23 * time.Hour, "gone.log": old, "gone.log.1": old, "gone.log.12": old, "lost.log": old, "claimed.log": old,
		"probe.log.new": old, "notes.txt": old, "dead.log": old, "live.log": old,
	} {
		s.putOld(name, age)
	}
	require.NoError(t, os.Mkdir(filepath.Join(s.dir, "old.log"), 0o700))
	release := s.Claim("claimed")

	s.keep.KeepOrphans = true
	s.prune()
	require.Equal(t, "claimed dead dead.1 gone gone.1 gone.12 live lost notes.txt old probe.new young", s.names(), "not all workers are known")
	s.keep.KeepOrphans = false
	s.prune()
	require.Equal(t, "claimed dead dead.1 live lost notes.txt old young", s.names())
	release()
	s.prune()
	require.Equal(t, "dead dead.1 live lost notes.txt old young", s.names())
}

// A worker that gets its record while Prune looks, and one whose log is made meanwhile,
// are not taken for nobody.
func TestAWorkerThatStartsMeanwhileHasNoOrphan(t *testing.T) {
	t.Parallel()
	s := newShelf(t, logs.Config{MaxSize: 64 << 20, Keep: 3}, 1<<30)
	s.putOld("recorded.log", 25*time.Hour)
	release := s.Claim("recorded")
	require.NoError(t, s.Prune(t.Context(), func() []logs.Source {
		release() // its record came right after the sources were read
		s.putOld("made.log", 25*time.Hour)
		return nil
	}, s.keep))
	require.Equal(t, "made recorded", s.names())
}

func TestPruneSaysWhatItCannotRead(t *testing.T) {
	t.Parallel()
	s := newShelf(t, logs.Config{MaxSize: 64 << 20, Keep: 3}, 1<<30)
	s.putOld("gone.log", 25*time.Hour)
	unknown := errors.New("the leases cannot be read")
	s.keep.Evidence = func() (map[string]bool, error) { return nil, unknown }
	require.ErrorIs(t, s.Prune(t.Context(), s.list, s.keep), unknown)
	require.Equal(t, "gone", s.names(), "it may be evidence")

	require.NoError(t, os.RemoveAll(s.dir))
	require.ErrorIs(t, s.Prune(t.Context(), s.list, s.keep), os.ErrNotExist)
}

func TestRemoveTakesAllThatWasRotated(t *testing.T) {
	t.Parallel()
	s := newShelf(t, logs.Config{MaxSize: 64 << 20, Keep: 3}, 1<<30)
	files := map[string]int{"": 1, ".1": 1, ".2": 1, ".3": 1, ".4": 1, ".new": 1}
	s.add("gone", true, files)
	s.add("other", true, map[string]int{"": 1})
	s.Remove("gone")
	require.Equal(t, "other", s.names())
	_, err := s.Open(t.Context(), "gone", s.Path("gone"), -1)
	require.ErrorIs(t, err, logs.ErrGone)
}
