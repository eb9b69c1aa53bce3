package proc_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/hive/proc"
	"rbeehive/test/program"
	"rbeehive/test/skip"
)

// rights is what /proc says of a process: no_new_privs, and which sets of
// capabilities have anything in them.
func rights(status string) string {
	var out []string
	for _, m := range regexp.MustCompile(`(?m)^(NoNewPrivs|CapInh|CapPrm|CapEff|CapAmb):\t(\w+)$`).FindAllStringSubmatch(status, -1) {
		if strings.Trim(m[2], "0") != "" {
			out = append(out, m[1])
		}
	}
	return strings.Join(out, " ")
}

// A program of another user's can gain no rights by what it executes, unless that is
// asked for; one of root's keeps what hive has.
func TestRightsOfPrograms(t *testing.T) {
	needRoot(t)
	yes, no := true, false
	own := rights(readString(t, "/proc/self/status"))
	require.Contains(t, own, "CapEff")
	for _, c := range []struct {
		user string
		set  *bool
		want string
	}{
		{"", nil, own},
		{"0:0", nil, own},
		{"0:54322", nil, own},
		{"", &yes, "NoNewPrivs " + own},
		{anotherUser, nil, "NoNewPrivs"},
		{anotherUser, &yes, "NoNewPrivs"},
		{anotherUser, &no, ""},
	} {
		spec := newSpec(t, "")
		spec.User, spec.NoNewPrivs, spec.Dir = c.user, c.set, "/"
		spec.Argv = []string{"/bin/cat", "/proc/self/status"}
		p, _ := run(t, spec)
		require.Equal(t, code(0), done(t, p).Code, logOf(t, spec))
		what := fmt.Sprintf("user %q, no_new_privs %v", c.user, c.set)
		if c.set != nil {
			what = fmt.Sprintf("user %q, no_new_privs %v", c.user, *c.set)
		}
		require.ElementsMatch(t, strings.Fields(c.want), strings.Fields(rights(logOf(t, spec))), what)
		got, err := proc.NoNewPrivs(c.user, c.set)
		require.NoError(t, err)
		require.Equal(t, strings.Contains(c.want, "NoNewPrivs"), got, what)
	}
	_, err := proc.NoNewPrivs("no-such-user-42", nil)
	require.ErrorIs(t, err, proc.ErrUnknownUser)
}

// The attack: a program with the setuid bit of root's.
func TestSetuidProgramGivesNothing(t *testing.T) {
	needRoot(t)
	dir := openDir(t)
	id := filepath.Join(dir, "id")
	path, err := exec.LookPath("id")
	require.NoError(t, err)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, program.Write(id, b, 0o755))
	require.NoError(t, os.Chmod(id, 0o755|os.ModeSetuid))
	asked := func(set *bool) string {
		spec := newSpec(t, "")
		spec.User, spec.NoNewPrivs = anotherUser, set
		spec.Argv = []string{id, "-u"}
		p, _ := run(t, spec)
		require.Equal(t, code(0), done(t, p).Code, logOf(t, spec))
		return strings.TrimSpace(logOf(t, spec))
	}
	no := false
	if got := asked(&no); got != "0" {
		skip.Because(t, "setuid programs do nothing in "+dir+": id -u says "+got)
	}
	require.Equal(t, "54321", asked(nil))
}

// keysOfRoot is a hive that was started in a session with a key: it prints what
// programs of its own and of another user find out about it.
func keysOfRoot(args []string) int {
	if len(args) == 0 {
		return enterSession()
	}
	for _, user := range []string{"", anotherUser} {
		res, err := proc.Run(runContext(), proc.Command{
			Argv: []string{"/proc/self/exe", args[0]}, Env: []string{modeVar + "=read-key", "GORACE=atexit_sleep_ms=0"},
			Dir: "/", User: user, StateID: "state", Name: "keys",
		})
		fmt.Printf("%s%v\n", res.Output, err)
	}
	return 0
}

// enterSession makes the session, which only this thread is in, and executes itself
// again so that all are.
func enterSession() int {
	if _, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0); err != nil {
		fmt.Println("no keyrings:", err)
		return 0
	}
	key, err := unix.AddKey("user", "proctest", []byte("secret"), unix.KEY_SPEC_SESSION_KEYRING)
	if err != nil {
		fmt.Println("no keyrings:", err)
		return 0
	}
	err = unix.Exec("/proc/self/exe", []string{os.Args[0], strconv.Itoa(key)}, os.Environ())
	fmt.Println(err)
	return 1
}

func readKey(args []string) int {
	key, _ := strconv.Atoi(args[0])
	buf := make([]byte, 16)
	n, err := unix.KeyctlBuffer(unix.KEYCTL_READ, key, buf, 0)
	fmt.Printf("%q %v ", buf[:max(n, 0)], err)
	return 0
}

// The keys of the session that hive was started in are root's.
func TestKeysOfTheSessionStayBehind(t *testing.T) {
	needRoot(t)
	cmd := exec.Command(self(t))
	cmd.Env = []string{modeVar + "=keys-of-root", "GORACE=atexit_sleep_ms=0"}
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	if strings.HasPrefix(string(out), "no keyrings") {
		skip.Because(t, string(out))
	}
	require.Equal(t, "\"secret\" <nil> <nil>\n\"\" permission denied <nil>\n", string(out))
}

func readString(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(b)
}
