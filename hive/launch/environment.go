package launch

import (
	"context"
	"os"

	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/proc"
)

// Environment returns what the programs of a worker type get that run as user, the
// type's or that of a worker of it: hive's own as far as it is handed on to that user,
// what the user needs, the lines of the type's env_file, and what the type adds.
// The file is read at each start, and its values are never stored.
func Environment(ctx context.Context, typ *catalog.Type, user, device string) ([]string, error) {
	var lines []string
	if typ.EnvFile != "" {
		var err error
		if lines, err = readEnvFile(ctx, typ.EnvFile, user); err != nil {
			return nil, errdefs.Fail(errdefs.CodeExecFailed, "env_file of worker type %q: %v", typ.Name, err)
		}
	}
	env, err := Environ(user, append(lines, typ.Environ(device)...))
	if err != nil {
		return nil, errdefs.Fail(errdefs.CodeExecFailed, "user of worker type %q: %v", typ.Name, err)
	}
	return env, nil
}

// Environ is the environment of a program that runs as user, without anything of a
// type but extra.
func Environ(user string, extra []string) ([]string, error) {
	if user == "" {
		return proc.Environ(os.Environ(), extra), nil
	}
	cred, err := proc.LookUser(user)
	if err != nil {
		return nil, err
	}
	return cred.Environ(os.Environ(), extra), nil
}

// OtherUser reports whether a user is one whom hive does not run as.
func OtherUser(name string) (bool, error) {
	if name == "" {
		return false, nil
	}
	cred, err := proc.LookUser(name)
	return cred.Other(), err
}

// WorkDir is where programs run that are to run in dir, as user. hive's own directory
// may be where another user must not be.
func WorkDir(user, dir string) string {
	if other, err := OtherUser(user); dir == "" && err == nil && other {
		return "/"
	}
	return dir
}
