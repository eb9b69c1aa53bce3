package launch

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// present finds out what a start would fail for at once, before a port is leased or a
// serving worker is stopped for it: a working directory, an interpreter or a model that
// is not there. Only absence is an error: whether what is there can be used is for the
// program to say.
func (l *Launcher) present(ctx context.Context, typ *catalog.Type, rec store.Worker) error {
	model := l.ValuesOf(typ, rec).Model
	if model == "" {
		model = typ.Model
	}
	program, dir := rec.Spec.Argv[0], rec.Spec.Dir
	switch {
	// In a container its paths mean something else; and what is no path is the program's to find.
	case typ.Ready.AnyListener, !typ.IsPath(model):
		model = ""
	case !filepath.IsAbs(model):
		model = filepath.Join(WorkDir(rec.Spec.User, dir), model)
	}
	ctx, cancel := context.WithTimeout(ctx, fileTimeout)
	defer cancel()
	// With the rights of the worker's user, and bounded: any of them may be on a mount that
	// does not answer.
	why, err := lookForAbsent.As(ctx, rec.Spec.User, needed{program, dir, model})
	switch {
	case errors.Is(err, proc.ErrHangs):
		return errdefs.Fail(errdefs.CodeExecFailed, "the file system of %s does not answer", strings.Join(nonEmpty(program, dir, model), ", or of "))
	case err != nil:
		return errdefs.Fail(errdefs.CodeExecFailed, "user of worker type %q: %v", typ.Name, err)
	case why != "":
		return errdefs.Fail(errdefs.CodeExecFailed, "%s", why)
	}
	return nil
}

// needed is what a start needs; what is empty it does not.
type needed struct{ Program, Dir, Model string }

// lookForAbsent says what of it is not there; empty: nothing.
var lookForAbsent = proc.NewLook("absent", func(n needed) (string, error) {
	for _, absent := range []func() string{
		func() string { return absentDir(n.Dir) },
		func() string { return absentInterpreter(n.Program) },
		func() string { return absentModel(n.Model) },
	} {
		if why := absent(); why != "" {
			return why, nil
		}
	}
	return "", nil
})

func nonEmpty(list ...string) (out []string) {
	for _, s := range list {
		if s != "" {
			out = append(out, s)
		}
	}
	return out
}

func absentDir(dir string) string {
	if dir == "" {
		return ""
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "dir " + dir + " does not exist"
	case err == nil && !info.IsDir():
		return "dir " + dir + " is not a directory"
	}
	return ""
}

func absentModel(path string) string {
	if path == "" {
		return ""
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return "model " + path + " does not exist"
	}
	return ""
}

// absentInterpreter says why the interpreter in a script's first line cannot be found: the
// kernel's error for that, ENOENT, reads as if the script were not there (execve(2)).
func absentInterpreter(program string) string {
	f, err := proc.OpenRegular(program)
	if err != nil {
		return "" // executable and not readable, or gone: the start says it
	}
	defer f.Close()
	head := make([]byte, 256) // BINPRM_BUF_SIZE: the kernel reads no more
	n, _ := io.ReadFull(f, head)
	line, script := bytes.CutPrefix(head[:n], []byte("#!"))
	if !script {
		return ""
	}
	line, _, _ = bytes.Cut(line, []byte("\n"))
	// Not bytes.Fields: a carriage return is part of the name, as the kernel sees it.
	words := bytes.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' })
	if len(words) == 0 {
		return program + " names no interpreter in its first line"
	}
	interpreter := string(words[0])
	if _, err := os.Stat(interpreter); !errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	if bare, ok := strings.CutSuffix(interpreter, "\r"); ok {
		return "the lines of " + program + " end in CR LF: the kernel looks for an interpreter " + bare + `\r; convert them, as with: sed -i 's/\r$//' ` + program
	}
	return "the interpreter " + interpreter + " in the first line of " + program + " does not exist"
}
