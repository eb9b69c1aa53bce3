package hive

import (
	"context"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"rbeehive/hive/proc"
	"rbeehive/store/plain"
)

const (
	versionLimit   = 2 * time.Second // some programs load CUDA first
	versionsAtOnce = 4
	versionKept    = 10 * time.Minute // of a Python package the file says nothing
	longestVersion = 80               // characters
)

// versions asks programs for their versions and remembers the answers for a
// while, unless a program's file changes: a page that lists types every few
// seconds must not start ten programs each time. What gave no answer is asked
// again.
type versions struct {
	turns *semaphore.Weighted
	mu    sync.Mutex
	known map[string]knownVersion // by command line
}

type knownVersion struct {
	version string
	asked   time.Time
	mtime   time.Time
	size    int64
}

func newVersions() *versions {
	return &versions{turns: semaphore.NewWeighted(versionsAtOnce), known: map[string]knownVersion{}}
}

// of runs argv, whose first element is a path, and returns what the first group
// of line matches in the first line of output that has a match; empty if none
// does. It takes versionLimit at most. Errors: those of proc.Ask.
func (v *versions) of(ctx context.Context, argv, env []string, line *regexp.Regexp) (string, error) {
	info, err := os.Stat(argv[0])
	if err != nil {
		return "", err
	}
	key := strings.Join(argv, "\x00")
	v.mu.Lock()
	was, ok := v.known[key]
	v.mu.Unlock()
	if ok && was.mtime.Equal(info.ModTime()) && was.size == info.Size() && time.Since(was.asked) < versionKept {
		return was.version, nil
	}
	if err := v.turns.Acquire(ctx, 1); err != nil {
		return "", err
	}
	defer v.turns.Release(1)
	ctx, cancel := context.WithTimeout(ctx, versionLimit)
	defer cancel()
	out, err := proc.Ask(ctx, argv, env)
	if err != nil {
		return "", err
	}
	version := firstVersion(string(out), line)
	if version != "" {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.known[key] = knownVersion{version, time.Now(), info.ModTime(), info.Size()}
	}
	return version, nil
}

// firstVersion is one short line whatever the program printed.
func firstVersion(text string, line *regexp.Regexp) string {
	for s := range strings.Lines(strings.ToValidUTF8(text, "")) {
		m := line.FindStringSubmatch(strings.TrimSpace(s))
		if m == nil {
			continue
		}
		version := []rune(plain.Text(m[1]))
		return string(version[:min(len(version), longestVersion)])
	}
	return ""
}
