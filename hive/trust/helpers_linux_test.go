package trust_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"rbeehive/hive/trust"
	"rbeehive/test/skip"
)

// questionsVar makes the test binary answer questions instead of testing: it is then
// another user, or in other namespaces.
const questionsVar = "TRUST_TEST_QUESTIONS"

func TestMain(m *testing.M) {
	if text := os.Getenv(questionsVar); text != "" {
		os.Exit(answer(text))
	}
	syscall.Umask(0o022) // with 002 t.TempDir is no place that is believed
	goleak.VerifyTestMain(m)
}

// question is a function of the package and its argument. Before it Sealed, if not
// empty, is mounted upon itself, to be read only.
type question struct{ Func, Path, Sealed string }

// answer prints what each question is answered with, as JSON; "" is yes.
func answer(text string) int {
	var questions []question
	if err := json.Unmarshal([]byte(text), &questions); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	answers := []string{}
	for _, q := range questions {
		err := q.seal()
		if err == nil {
			err = ask(q.Func, q.Path)
		}
		answers = append(answers, fmt.Sprint(err))
		if err == nil {
			answers[len(answers)-1] = ""
		}
	}
	if err := json.NewEncoder(os.Stdout).Encode(answers); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func (q question) seal() error {
	if q.Sealed == "" {
		return nil
	}
	return errors.Join(
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount(q.Sealed, q.Sealed, "", unix.MS_BIND, ""),
		unix.Mount("", q.Sealed, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""))
}

func ask(name, path string) error {
	switch name {
	case "open":
		f, err := trust.Open(path)
		if err == nil {
			f.Close()
		}
		return err
	case "file":
		return trust.File(path)
	case "dir":
		return trust.Dir(path)
	case "parent":
		return trust.Parent(path)
	case "mkdir":
		return trust.MkdirAll(path, 0o700)
	}
	return fmt.Errorf("no function %q", name)
}

// asked has another process answer.
func asked(t *testing.T, attr *syscall.SysProcAttr, questions ...question) []string {
	t.Helper()
	text, err := json.Marshal(questions)
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe") // the binary's own directory is closed to others
	cmd.Dir, cmd.SysProcAttr, cmd.Stderr = "/", attr, os.Stderr
	cmd.Env = []string{questionsVar + "=" + string(text), "GORACE=atexit_sleep_ms=0"}
	out, err := cmd.Output()
	if errors.Is(err, syscall.EPERM) {
		skip.Because(t, "not allowed here: "+err.Error())
	}
	require.NoError(t, err)
	var answers []string
	require.NoError(t, json.Unmarshal(out, &answers))
	require.Len(t, answers, len(questions))
	return answers
}

// stranger is a user who has nothing to do with hive.
const stranger = 54321

func needRoot(t *testing.T) {
	t.Helper()
	skip.UnlessRoot(t, "only root can give files away")
}

// openDir is a directory that everybody may enter and nobody else write to; t.TempDir
// is below one that only its owner may enter.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "trust")
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

func mkdir(t *testing.T, path string, mode os.FileMode) string {
	t.Helper()
	require.NoError(t, os.MkdirAll(path, 0o755))
	require.NoError(t, os.Chmod(path, mode))
	return path
}

func write(t *testing.T, path string, mode os.FileMode) string {
	t.Helper()
	mkdirAbove(t, path)
	require.NoError(t, os.WriteFile(path, []byte("mine\n"), mode))
	require.NoError(t, os.Chmod(path, mode))
	return path
}

func mkdirAbove(t *testing.T, path string) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
}

func give(t *testing.T, path string, uid int) {
	t.Helper()
	require.NoError(t, os.Lchown(path, uid, uid))
}

func link(t *testing.T, target, path string) string {
	t.Helper()
	mkdirAbove(t, path)
	require.NoError(t, os.Symlink(target, path))
	return path
}
