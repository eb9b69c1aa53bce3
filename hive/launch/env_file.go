package launch

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"strings"
	"time"

	"rbeehive/hive/proc"
	"rbeehive/hive/trust"
)

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

const (
	// maxEnvFile bounds an env_file, in bytes: execve(2) takes no more in all.
	maxEnvFile = 1 << 20
	// fileTimeout is how long a look at a file of a worker's may take.
	fileTimeout = 5 * time.Second
)

// readEnvFile reads NAME=value, or NAME to pass a variable through, one to a line;
// empty lines and those that begin with # do not count. A value is taken as it
// stands, without quotes or expansion. Errors name the line and never a value.
//
// It is read with the rights of the user whom the worker runs as, who may have made
// it, or a link in its place. So a file of another user's than hive's passes nothing
// through that this user would not get anyway.
func readEnvFile(ctx context.Context, path, user string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, fileTimeout)
	defer cancel()
	other, err := OtherUser(user)
	if err != nil {
		return nil, err
	}
	// The user may have put a link or a pipe in its place: with the user's rights a link gains nothing,
	// and the timeout ends what hangs.
	text, err := lookIntoEnvFile.As(ctx, user, envFile{path, other})
	switch {
	// The usual mistake: the file is root's, and the entry names a user.
	case errors.Is(err, fs.ErrPermission) && user != "":
		return nil, fmt.Errorf("%w: user %s, whom the worker runs as, must be able to read it", err, user)
	case errors.Is(err, proc.ErrHangs):
		return nil, fmt.Errorf("read %s: %w", path, err)
	case err != nil:
		return nil, err
	case len(text) > maxEnvFile:
		return nil, fmt.Errorf("%s is larger than %d bytes", path, maxEnvFile)
	}
	return envLines(path, text, other)
}

// envFile is an env_file, and whether it is of a worker of another user than hive's.
type envFile struct {
	Path  string
	Other bool
}

var lookIntoEnvFile = proc.NewLook("env_file", func(e envFile) ([]byte, error) {
	if !e.Other { // hive reads it with its own rights, so nobody else may have written it
		return trust.ReadFile(e.Path, maxEnvFile)
	}
	f, err := proc.OpenRegular(e.Path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	// One byte more than allowed, by which too long a file is noticed.
	return io.ReadAll(io.LimitReader(f, maxEnvFile+1))
})

func envLines(path string, text []byte, other bool) ([]string, error) {
	var env []string
	lines := bufio.NewScanner(bytes.NewReader(text))
	// A line may be as long as the file; by default a Scanner stops at 64 KiB.
	lines.Buffer(nil, maxEnvFile+1)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimRight(lines.Text(), "\r")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, _, given := strings.Cut(line, "=")
		// RBEEHIVE_ names the stamps: a file must not make the worker look like another one.
		if !envName.MatchString(name) || strings.HasPrefix(name, "RBEEHIVE_") || strings.ContainsRune(line, 0) {
			return nil, fmt.Errorf("%s:%d: expected NAME=value, or NAME to pass a variable through", path, n)
		}
		if !given && other && !proc.Inherits(name, true) {
			return nil, fmt.Errorf("%s:%d: %s of hive's own environment is not handed on to another user by a file that this user may have written; name it in env of the entry", path, n, name)
		}
		env = append(env, line)
	}
	return env, lines.Err()
}
