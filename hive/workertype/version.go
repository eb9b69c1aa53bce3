package workertype

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"rbeehive/hive/catalog"
	"rbeehive/hive/launch"
	"rbeehive/hive/operation"
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
	// failed are the command lines that ended with another code than 0 when they last ended.
	failed map[string]bool
}

type knownVersion struct {
	version string
	asked   time.Time
	mtime   time.Time
	size    int64
}

func newVersions() *versions {
	return &versions{turns: semaphore.NewWeighted(maxVersions), known: map[string]knownVersion{}, failed: map[string]bool{}}
}

// errNoVersion: a program that was asked for its version did not exit with 0.
var errNoVersion = errors.New("the program failed")

// askVersion asks the program of a type for its version, as it would run a worker: as
// its user, in its directory, with its environment but for the env_file. It is ended
// with all that it has started. It takes a few seconds at most. Errors: errNoVersion,
// and what kept it from being started or had it ended.
func (ts *Types) askVersion(ctx context.Context, t *catalog.Type, program string) (string, error) {
	// Without a GPU: it is asked for a version and shall not touch one in use.
	env, err := launch.Environ(t.User, t.Environ("cpu"))
	if err != nil {
		return "", err
	}
	cmd := question(t, program)
	cmd.Env, cmd.NoNewPrivs = env, t.NoNewPrivs
	cmd.StateID, cmd.Secret, cmd.Name = ts.launcher.StateID, ts.launcher.Secret, "version."+rand.Text() // several can be asked at once
	return ts.versions.of(ctx, cmd, t.VersionProbe().Line)
}

// question is the command that asks the program of a type for its version, as far as its
// answer is remembered by it.
func question(t *catalog.Type, program string) proc.Command {
	return proc.Command{Argv: append([]string{program}, t.VersionProbe().Args...), Dir: t.Dir, User: t.User}
}

func keyOf(cmd proc.Command) string {
	return strings.Join(append([]string{cmd.User, cmd.Dir}, cmd.Argv...), "\x00")
}

// LearnPackages asks the interpreters of types that have an entry whether they have what
// the types need, one after the other, for views that run nothing. It blocks for a few
// seconds for each.
func (ts *Types) LearnPackages(ctx context.Context) {
	for _, t := range ts.catalog().Types() {
		// A preset without an entry is asked when somebody asks: hive runs nothing unasked for it.
		if !t.VersionProbe().Proves || t.Source == catalog.SourcePreset || ctx.Err() != nil {
			continue
		}
		if program, err := ts.find(ctx, t, operation.Spawn{}); err == nil {
			_, _ = ts.askVersion(ctx, t, program) // what it says is remembered
		}
	}
}

// lacksPackage reports whether the interpreter of a type had not what the type needs when it
// was last asked. It runs nothing.
func (ts *Types) lacksPackage(t *catalog.Type, program string) bool {
	ts.versions.mu.Lock()
	defer ts.versions.mu.Unlock()
	return t.VersionProbe().Proves && ts.versions.failed[keyOf(question(t, program))]
}

// of runs a command whose first argument is a path, and returns what the first group
// of line matches in the first line of output that has a match; empty if none
// does. It takes versionTimeout at most, and the time to end what does not. Errors:
// errNoVersion, and those of proc.Run.
func (v *versions) of(ctx context.Context, cmd proc.Command, line *regexp.Regexp) (string, error) {
	info, err := proc.StatFile(ctx, cmd.Argv[0])
	if err != nil {
		return "", err
	}
	key := keyOf(cmd)
	v.mu.Lock()
	was, ok := v.known[key]
	v.mu.Unlock()
	if ok && was.mtime.Equal(info.Modified) && was.size == info.Size && time.Since(was.asked) < versionMaxAge {
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
	if err != nil { // it proves nothing, so what is known stays
		return "", err
	}
	v.mu.Lock()
	v.failed[key] = res.Exit.Code != nil && *res.Exit.Code != 0 // one that was killed says nothing
	v.mu.Unlock()
	if res.Exit.Code == nil || *res.Exit.Code != 0 {
		return "", fmt.Errorf("%s: %w: it %s", cmd.Argv[0], errNoVersion, launch.DescribeExit(res.Exit))
	}
	version := firstVersion(string(res.Output), line)
	// No answer is not remembered: the program may be mended.
	if version != "" {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.known[key] = knownVersion{version, time.Now(), info.Modified, info.Size}
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
