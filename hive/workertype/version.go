package workertype

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"rbeehive/hive/catalog"
	"rbeehive/hive/launch"
	"rbeehive/hive/proc"
	"rbeehive/store/plain"

	"golang.org/x/sync/semaphore"
)

const (
	versionTimeout   = 2 * time.Second // some programs load CUDA first
	maxVersions      = 4
	versionMaxAge    = 10 * time.Minute // of a Python package the file says nothing
	maxVersionLength = 80               // characters
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
	return &versions{turns: semaphore.NewWeighted(maxVersions), known: map[string]knownVersion{}}
}

// errNoVersion: a program that was asked for its version did not exit with 0.
var errNoVersion = errors.New("the program failed")

// askVersion asks the program of a type for its version, as it would run a worker: as
// its user, in its directory, with its environment but for the env_file. It is ended
// with all that it has started. It takes a few seconds at most. Errors: errNoVersion,
// and what kept it from being started or had it ended.
func (ts *Types) askVersion(ctx context.Context, t *catalog.Type, program string) (string, error) {
	probe := t.VersionProbe()
	// Without a GPU: it is asked for a version and shall not touch one in use.
	env, err := launch.Environ(t.User, t.Environ("cpu"))
	if err != nil {
		return "", err
	}
	return ts.versions.of(ctx, proc.Command{
		Argv: append([]string{program}, probe.Args...), Env: env,
		Dir: t.Dir, User: t.User, NoNewPrivs: t.NoNewPrivs,
		StateID: ts.launcher.StateID, Secret: ts.launcher.Secret, Name: "version." + rand.Text(), // several can be asked at once
	}, probe.Line)
}

// of runs a command whose first argument is a path, and returns what the first group
// of line matches in the first line of output that has a match; empty if none
// does. It takes versionTimeout at most, and the time to end what does not. Errors:
// errNoVersion, and those of proc.Run.
func (v *versions) of(ctx context.Context, cmd proc.Command, line *regexp.Regexp) (string, error) {
	info, err := os.Stat(cmd.Argv[0])
	if err != nil {
		return "", err
	}
	key := strings.Join(append([]string{cmd.User, cmd.Dir}, cmd.Argv...), "\x00")
	v.mu.Lock()
	was, ok := v.known[key]
	v.mu.Unlock()
	if ok && was.mtime.Equal(info.ModTime()) && was.size == info.Size() && time.Since(was.asked) < versionMaxAge {
		return was.version, nil
	}
	// A few at a time: some load CUDA before they answer.
	if err := v.turns.Acquire(ctx, 1); err != nil {
		return "", err
	}
	defer v.turns.Release(1)
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	res, err := proc.Run(ctx, cmd)
	switch {
	case err != nil:
		return "", err
	case res.Exit.Code == nil || *res.Exit.Code != 0:
		return "", fmt.Errorf("%s: %w: it %s", cmd.Argv[0], errNoVersion, launch.DescribeExit(res.Exit))
	}
	version := firstVersion(string(res.Output), line)
	// No answer is not remembered: the program may be mended.
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
		// What a program prints goes to terminals and pages.
		version := []rune(plain.Text(m[1]))
		return string(version[:min(len(version), maxVersionLength)])
	}
	return ""
}
