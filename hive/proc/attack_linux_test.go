package proc_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/alloc/sockets"
	"rbeehive/hive/proc"
	"rbeehive/store"
	testprogram "rbeehive/test/program"
	"rbeehive/test/skip"
)

// attacker is a user of this machine who has nothing to do with hive or its workers.
const attacker = 12345

// attack starts this test binary in a mode as the attacker.
func attack(t *testing.T, mode string, env []string, change func(*exec.Cmd), args ...string) int {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Dir = "/"
	cmd.Env = append([]string{modeVar + "=" + mode, "GORACE=atexit_sleep_ms=0"}, env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: &syscall.Credential{Uid: attacker, Gid: attacker}}
	if change != nil {
		change(cmd)
	}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

// claims are the environments by which a process says that it is of a worker. The last
// is what nobody else has: it has leaked.
func claims(tree *proc.Tree) map[string][]string {
	return map[string][]string{
		"the public ids": idsOf(tree),
		"a false proof":  append(idsOf(tree), proc.StampProof+"="+strings.Repeat("0", 64)),
		"a leaked proof": stampsOf(tree),
	}
}

// requireStrangers tries everything by which hive recognises the processes of a worker:
// none may take these for one, and no signal may reach them.
func requireStrangers(t *testing.T, tree *proc.Tree, secret store.Secret, pids map[string]int) {
	t.Helper()
	for name, pid := range pids {
		requireStranger(t, tree, secret, name, pid)
	}
	left, err := tree.Stop(t.Context(), store.Stop{Signals: []string{"SIGTERM"}, Grace: 10 * time.Millisecond, Tree: true})
	require.NoError(t, err)
	require.Empty(t, left)
	for name, pid := range pids {
		require.True(t, running(pid), "%s: it was signalled", name)
	}
}

func requireStranger(t *testing.T, tree *proc.Tree, secret store.Secret, name string, pid int) {
	t.Helper()
	for _, main := range []*proc.Process{tree.Main, nil} {
		rest := *tree
		rest.Main = main
		m, ok := memberOf(t, &rest, pid)
		require.False(t, ok, "%s: it is a member by its %s", name, m.Proof)
	}
	orphans, err := proc.Sweep(t.Context(), tree.StateID, secret, []uint32{tree.UID})
	require.NoError(t, err)
	for _, s := range orphans {
		require.False(t, s.PID == pid && (!s.Unproven || s.UID == tree.UID), "%s: it is an orphan: %+v", name, s)
	}
	logs := filepath.Dir(tree.Log)
	for _, secrets := range []map[string]store.Secret{nil, {tree.StateID: secret}} {
		found, err := proc.FindLiving(t.Context(), proc.Search{Logs: logs, States: []string{tree.StateID}, Secrets: secrets, Owner: uint32(os.Geteuid())})
		require.NoError(t, err)
		for _, l := range found {
			require.NotEqual(t, pid, l.PID, "%s: it lives as %s by its %s", name, l.WorkerID, l.Proof)
		}
	}
}

// Another user's process has the stamps: the ids are public, and even a proof that has
// leaked is of no use to it. Neither is it with the worker's log for its output, which
// somebody of the worker's may have passed to it.
func TestForgedMembership(t *testing.T) {
	needRoot(t)
	for _, user := range []string{"", anotherUser} {
		for _, secret := range []bool{true, false} {
			for _, grouped := range []bool{true, false} {
				t.Run(fmt.Sprintf("user %q, proven %t, cgroup %t", user, secret, grouped), func(t *testing.T) {
					forgedMembership(t, user, secret, grouped)
				})
			}
		}
	}
}

func forgedMembership(t *testing.T, user string, secret, grouped bool) {
	dir := openDir(t)
	file := filepath.Join(dir, "ready")
	spec := newUserSpec(t, "sleep", file)
	spec.User = user
	if !secret { // as an older hive
		spec.Secret = nil
	}
	if grouped {
		spec = withCgroup(t, spec)
	}
	_, tree := run(t, spec)
	announced(t, file)
	claims := claims(tree)
	if !secret {
		claims = map[string][]string{"the public ids": idsOf(tree)}
	}
	pids := map[string]int{}
	for name, env := range claims {
		port := filepath.Join(dir, strings.ReplaceAll(name, " ", "-"))
		pids[name] = attack(t, "listen", env, nil, port)
		n := uint16(announced(t, port))
		snap, err := sockets.NewTable().Port(t.Context(), n)
		require.NoError(t, err)
		owner, err := tree.Owns(t.Context(), snap.Listeners(n))
		require.NoError(t, err)
		require.Equal(t, proc.Foreign, owner, name)
	}
	log, err := os.OpenFile(tree.Log, os.O_WRONLY|os.O_APPEND, 0)
	require.NoError(t, err)
	defer log.Close()
	withLog := filepath.Join(dir, "with-log")
	pids["the log"] = attack(t, "sleep", stampsOf(tree), func(c *exec.Cmd) { c.Stdout, c.Stderr = log, log }, withLog)
	child := filepath.Join(dir, "child")
	attack(t, "parent", idsOf(tree), func(c *exec.Cmd) { c.Stdout = log }, child, "bare")
	pids["a child of one"] = announced(t, child)
	killLater(t, pids["a child of one"])
	announced(t, withLog)
	requireStrangers(t, tree, spec.Secret, pids)
}

// become takes on user ids: args are the real, effective and saved one, then as announce.
func become(args []string) int {
	var ids [3]int
	for i := range ids {
		ids[i], _ = strconv.Atoi(args[i])
	}
	if err := syscall.Setresuid(ids[0], ids[1], ids[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	announce(args[3:], os.Getpid())
	park()
	return 1
}

// A process with one uid of the worker's user and others is a set-user-ID program's:
// who started it is somebody else.
func TestForgedByAProcessOfSeveralUsers(t *testing.T) {
	needRoot(t)
	file := filepath.Join(openDir(t), "ready")
	spec := newUserSpec(t, "sleep", file)
	_, tree := run(t, spec)
	announced(t, file)
	for i, ids := range [][]string{{"12345", "54321", "54321"}, {"54321", "12345", "54321"}, {"54321", "54321", "12345"}} {
		t.Run(strings.Join(ids, " "), func(t *testing.T) {
			ready := filepath.Join(openDir(t), strconv.Itoa(i))
			pid := stranger(t, func(c *exec.Cmd) {
				c.Args = append(append(c.Args, ids...), ready)
				c.Env = append(stampsOf(tree), modeVar+"=become")
			})
			announced(t, ready)
			_, ok := memberOf(t, tree, pid)
			require.False(t, ok)
		})
	}
	ready := filepath.Join(openDir(t), "one")
	pid := stranger(t, func(c *exec.Cmd) {
		c.Args = append(c.Args, "54321", "54321", "54321", ready)
		c.Env = append(stampsOf(tree), modeVar+"=become")
	})
	announced(t, ready)
	_, ok := memberOf(t, tree, pid)
	require.True(t, ok, "it is the worker's user in every way")
}

// The environment of a set-user-ID program is from whoever started it, though all its
// uids become root's: without a proof it counts for nothing.
func TestForgedThroughASetUserIDProgram(t *testing.T) {
	needRoot(t)
	dir := openDir(t)
	program := filepath.Join(dir, "setuid")
	b, err := os.ReadFile(self(t))
	require.NoError(t, err)
	require.NoError(t, testprogram.Write(program, b, 0o755))
	require.NoError(t, os.Chmod(program, 0o755|os.ModeSetuid))
	file, ready := filepath.Join(dir, "ready"), filepath.Join(dir, "become")
	spec := newSpec(t, "sleep", file)
	spec.Secret = nil
	_, tree := run(t, spec)
	announced(t, file)
	pid := attack(t, "become", idsOf(tree), func(c *exec.Cmd) { c.Path = program }, "0", "0", "0", ready)
	announced(t, ready)
	status, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	require.NoError(t, err)
	require.Contains(t, string(status), "Uid:\t0\t0\t0\t0\n")
	requireStrangers(t, tree, nil, map[string]int{"a set-user-ID program": pid})
}

// A process is in the cgroup of another worker: there its stamps and its log say
// nothing, though its user is the worker's, and it may have read them there.
func TestStampsInTheCgroupOfAnotherWorker(t *testing.T) {
	dir := t.TempDir()
	first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
	for _, grouped := range []bool{true, false} {
		t.Run(fmt.Sprintf("cgroup %t", grouped), func(t *testing.T) {
			spec := withCgroup(t, newSpec(t, "sleep", first))
			if !grouped {
				spec.Cgroup = ""
			}
			_, tree := run(t, spec)
			announced(t, first)
			thief := newSpec(t, "sleep", second)
			thief.Log, thief.StateID, thief.Secret, thief.Cgroup = spec.Log, spec.StateID, spec.Secret, thief.WorkerID
			thief.LeaseID, thief.Env = spec.LeaseID, append(thief.Env, stampsOf(tree)...)
			p, other := run(t, thief)
			require.NotEmpty(t, other.Cgroup)
			pid := announced(t, second)
			require.Equal(t, p.PID(), pid)
			for _, main := range []*proc.Process{tree.Main, nil} {
				rest := *tree
				rest.Main = main
				m, ok := memberOf(t, &rest, pid)
				require.False(t, ok, "it is a member by its %s", m.Proof)
			}
			require.NoError(t, os.Remove(first))
			require.NoError(t, os.Remove(second))
		})
	}
}

// A cgroup of the name of hive's own root, that another user has made where that can
// make cgroups.
func TestForgedCgroup(t *testing.T) {
	needRoot(t)
	spec := withCgroup(t, newSpec(t, "sleep"))
	root, err := proc.CgroupRoot(spec.StateID)
	require.NoError(t, err)
	require.NoError(t, os.Chown(root, attacker, attacker))
	leaf := filepath.Join(root, "cpu-8080-abcdef")
	require.NoError(t, os.Mkdir(leaf, 0o755))
	pid := attack(t, "sleep", nil, nil)
	require.NoError(t, os.WriteFile(filepath.Join(leaf, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0))
	t.Cleanup(func() {
		fd, err := unix.PidfdOpen(pid, 0)
		if err == nil {
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
			unix.Close(fd)
		}
		await(t, "the end of the cgroup", func() bool { return os.Remove(leaf) == nil || os.IsNotExist(os.Remove(leaf)) })
	})
	path, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	require.NoError(t, err)
	require.Contains(t, string(path), "/cpu-8080-abcdef\n")
	at := strings.TrimSpace(string(path[strings.Index(string(path), "0::")+3:]))

	orphans, err := proc.Sweep(t.Context(), spec.StateID, spec.Secret, nil)
	require.NoError(t, err)
	require.Empty(t, orphans)
	found, err := proc.FindLiving(t.Context(), proc.Search{States: []string{spec.StateID}, Owner: uint32(os.Geteuid())})
	require.NoError(t, err)
	require.Empty(t, found)
	found, err = proc.FindLiving(t.Context(), proc.Search{States: []string{spec.StateID}, Owner: attacker})
	require.NoError(t, err)
	require.Len(t, found, 1, "it is theirs, if the hive is")

	// hive makes none in it, and the same name recorded is not this one.
	g, err := proc.Start(spec)
	require.NoError(t, err)
	require.Empty(t, g.Cgroup())
	g.Abort()
	require.NoError(t, os.Chown(leaf, attacker, attacker))
	members, err := (&proc.Tree{Cgroup: at}).Members(t.Context())
	require.NoError(t, err)
	require.Empty(t, members)
}

// What a process of a worker is that has changed its user and is left alone: hive made
// its session, and it has the log.
func TestASessionOfAWorkerThatChangedItsUser(t *testing.T) {
	needRoot(t)
	file := filepath.Join(openDir(t), "ready")
	spec := newSpec(t, "")
	spec.Argv = []string{"/bin/sh", "-c", `PROCTEST_MODE=become "$0" 54321 54321 54321 "$1" & exec sleep 1000`, self(t), file}
	p, tree := run(t, spec)
	pid := announced(t, file)
	killLater(t, pid)
	require.NoError(t, p.Signal(syscall.SIGKILL))
	done(t, p)
	rest := *tree
	rest.Main = nil
	m, ok := memberOf(t, &rest, pid)
	require.True(t, ok)
	require.Equal(t, proc.ProofLog, m.Proof)
	left, err := rest.Stop(t.Context(), store.Stop{})
	require.NoError(t, err)
	require.Empty(t, left)
	require.False(t, running(pid))
}

// The mark of a command is no more a secret than a lease.
func TestForgedMarkOfACommand(t *testing.T) {
	needRoot(t)
	file := filepath.Join(openDir(t), "ready")
	cmd := newCommand(t, "sleep")
	forged := attack(t, "sleep", []string{proc.StampCommand + "=" + cmd.StateID + "/" + cmd.Name}, nil, file)
	announced(t, file)
	root := stranger(t, func(c *exec.Cmd) {
		c.Env = append(c.Env, proc.StampCommand+"="+cmd.StateID+"/x", proc.StampProof+"="+strings.Repeat("0", 64))
	})
	ended, err := proc.EndCommands(t.Context(), cmd.StateID, cmd.Secret, true)
	require.NoError(t, err)
	require.Empty(t, ended)
	require.True(t, running(forged))
	require.True(t, running(root))
}

// endless says that its environment and its arguments are 64 GiB of its memory, which
// are nothing but zeros and cost it nothing.
func endless(args []string) int {
	const size = 64 << 30
	memory, err := unix.MmapPtr(-1, 0, nil, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_NORESERVE)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return 1
	}
	f := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	field := func(i int) uint64 { n, _ := strconv.ParseUint(f[i-3], 10, 64); return n }
	brk, _, _ := unix.RawSyscall(unix.SYS_BRK, 0, 0, 0)
	from, to := uint64(uintptr(memory)), uint64(uintptr(memory))+size
	layout := struct { // prctl_mm_map, include/uapi/linux/prctl.h
		places        [11]uint64
		auxv          uint64
		auxvSize, exe uint32
	}{places: [...]uint64{field(26), field(27), field(45), field(46), field(47), uint64(brk), field(28), from, to, from, to}, exe: ^uint32(0)}
	if _, _, errno := unix.Syscall6(unix.SYS_PRCTL, unix.PR_SET_MM, unix.PR_SET_MM_MAP, uintptr(unsafe.Pointer(&layout)), unsafe.Sizeof(layout), 0, 0); errno != 0 {
		fmt.Fprintln(os.Stderr, "PR_SET_MM_MAP:", errno)
		return 1
	}
	announce(args, os.Getpid())
	park()
	return 1
}

// [measured] Any process can have an environment of 64 GiB. hive read it whole.
func TestAnEndlessEnvironment(t *testing.T) {
	file := filepath.Join(openDir(t), "ready")
	spec := newSpec(t, "sleep")
	_, tree := run(t, spec)
	pid := stranger(t, func(c *exec.Cmd) { c.Args, c.Env = append(c.Args, file), []string{modeVar + "=endless"} }) // of the worker's user
	if !awaitOrEnd(t, file, pid) {
		skip.Because(t, "this kernel does not let a process say where its environment is (CONFIG_CHECKPOINT_RESTORE)")
	}
	began := time.Now()
	requireStrangers(t, tree, spec.Secret, map[string]int{"endless": pid})
	require.Less(t, time.Since(began), testTimeout)
	id, err := proc.Identify(pid)
	require.NoError(t, err)
	p, _, err := proc.Adopt(id)
	require.NoError(t, err)
	defer p.Close()
	require.False(t, p.AtGate())
}

// awaitOrEnd waits for an announcement; false: the process has ended without one.
func awaitOrEnd(t *testing.T, file string, pid int) bool {
	t.Helper()
	await(t, "an announcement or an end", func() bool {
		_, err := os.Stat(file)
		return err == nil || !running(pid)
	})
	_, err := os.Stat(file)
	return err == nil
}

// The main process has ended, hive has not checked it again yet, and a stranger has got
// its number.
func TestAListenerWithThePIDOfADeadMain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "port")
	p, tree := run(t, newSpec(t, "exit", "0"))
	done(t, p)
	pid := stranger(t, func(c *exec.Cmd) { c.Args, c.Env = append(c.Args, file), []string{modeVar + "=listen"} })
	port := uint16(announced(t, file))
	proc.Renumber(p, pid)
	snap, err := sockets.NewTable().Port(t.Context(), port)
	require.NoError(t, err)
	owner, err := tree.Owns(t.Context(), snap.Listeners(port))
	require.NoError(t, err)
	require.Equal(t, proc.Foreign, owner)
	ports, err := tree.ListenPorts(t.Context(), snap)
	require.NoError(t, err)
	require.Empty(t, ports)
}
