package salvage_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/salvage"
	"rbeehive/httpapi/wire"
	"rbeehive/store"
	"rbeehive/test/cgroups"
	"rbeehive/test/harness"
	"rbeehive/test/skip"
)

// fleet is how many workers live when the file is damaged.
const fleet = 20

// wreck is a data directory whose hive was killed, with living workers, and the
// state file as it was left.
type wreck struct {
	*testing.T
	hive *harness.Instance
	data string
	file []byte
	live map[string]wire.Worker
	hold wire.Lease // of a program that hive did not start
}

// newWreck runs a real hive that starts and stops many workers, makes a backup in
// the middle of it, and is killed. The backup knows workers that have ended since,
// on ports that others have now.
func newWreck(t *testing.T) *wreck {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "hive")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "rbeehive/cmd/hive")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	// bare has no stamps, as programs that overwrite their environment.
	hive, err := harness.New(binary, fleet+10, `[{name: bare, command: ["/usr/bin/env", "-i", "`+binary+`", "worker", "--port", "{{.Port}}"]}]`)
	require.NoError(t, err)
	t.Cleanup(func() {
		endAll(t, binary) // bare has no mark of the instance either
		require.NoError(t, hive.Close(nil))
	})
	w := &wreck{T: t, hive: hive, data: filepath.Join(hive.Dir, "data")}

	h := w.start()
	old := w.spawn(h, 12, "old")
	require.NoError(t, h.Term())
	require.NoError(t, os.MkdirAll(filepath.Join(w.data, "backups"), 0o700))
	_, err = store.BackupOffline(t.Context(), w.db(), filepath.Join(w.data, "backups", "hive-1.db"), false)
	require.NoError(t, err)
	h = w.start()
	for _, id := range old[:8] {
		w.stop(h, id)
	}
	var lease wire.Lease
	require.NoError(t, h.Call(t.Context(), http.MethodPost, "/v1/leases", map[string]any{"ttl": "1h", "owner": "somebody"}, &lease))
	w.hold = lease
	w.spawn(h, fleet-5, "new")
	w.spawnOf(h, "bare", 1, "bare")
	w.live, err = h.Live(t.Context())
	require.NoError(t, err)
	require.Len(t, w.live, fleet)
	h.Kill()
	w.file, err = os.ReadFile(w.db())
	require.NoError(t, err)
	for len(w.file) > 4096 && strings.Trim(string(w.file[len(w.file)-4096:]), "\x00") == "" {
		w.file = w.file[:len(w.file)-4096] // what bbolt has grown the file by
	}
	return w
}

// endAll ends every process that runs the binary, which only this test has.
func endAll(t *testing.T, binary string) {
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	require.NoError(t, err)
	for _, link := range links {
		if exe, err := os.Readlink(link); err != nil || exe != binary {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link)))
		require.NoError(t, err)
		_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended by now
	}
}

func (w *wreck) db() string { return filepath.Join(w.data, "hive.db") }

func (w *wreck) start() *harness.Instance {
	w.Helper()
	require.NoError(w, w.hive.Start(w.Context()))
	return w.hive
}

// spawn starts n workers with names and returns their ids.
func (w *wreck) spawn(h *harness.Instance, n int, name string) []string {
	w.Helper()
	return w.spawnOf(h, "cpu", n, name)
}

func (w *wreck) spawnOf(h *harness.Instance, typ string, n int, name string) []string {
	w.Helper()
	ids := make([]string, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			op := harness.Spawn(typ)
			op["name"] = fmt.Sprintf("%s-%d", name, i)
			var spawned wire.Spawned
			if h.Succeed(w.Context(), op, &spawned) == nil {
				ids[i] = spawned.WorkerID
			}
		})
	}
	wg.Wait()
	require.NotContains(w, ids, "")
	return ids
}

func (w *wreck) stop(h *harness.Instance, id string) {
	w.Helper()
	require.NoError(w, h.Succeed(w.Context(), harness.Stop(id), nil))
}

// salvaged salvages a damaged file, starts hive on it and looks at all that it says.
func (w *wreck) salvaged(t *testing.T, file []byte) *salvage.Plan {
	t.Helper()
	require.NoError(t, os.WriteFile(w.db(), file, 0o600))
	p, err := salvage.Make(t.Context(), w.data)
	require.NoError(t, err)
	defer func() { require.NoError(t, p.Close()) }()
	require.Len(t, p.Living, fleet)
	aside := p.SavedAs()
	require.NoError(t, p.Apply(t.Context()))
	require.NoError(t, p.Close())
	kept, err := os.ReadFile(aside)
	require.NoError(t, err)
	require.Equal(t, file, kept, "the damaged file is kept as it was")
	require.NoError(t, os.Remove(aside))

	h := w.start()
	defer func() {
		h.Kill()
		cgroups.Prune(w.data) // of this file's state, which the next has not
	}()
	w.requireTheSame(t, h)
	if !w.requirePortsOnce(t, h) {
		require.Contains(t, strings.Join(p.Lost, "\n"), "leases of programs that hive did not start")
	}
	if !strings.Contains(t.Name(), "page_") { // not for each page: it takes its time
		w.requireNoneTwice(t, h)
	}
	return p
}

// requireTheSame: every worker was adopted, none restarted, no PID changed.
func (w *wreck) requireTheSame(t *testing.T, h *harness.Instance) {
	t.Helper()
	info, err := h.Info(t.Context())
	require.NoError(t, err)
	require.Equal(t, fleet, info.Recovery.Adopted)
	require.Zero(t, info.Recovery.Restarted)
	require.Zero(t, info.Recovery.Unverified)
	now, err := h.Live(t.Context())
	require.NoError(t, err)
	require.Len(t, now, fleet)
	for id, was := range w.live {
		is, ok := now[id]
		require.True(t, ok, id)
		require.Equal(t, *was.PID, *is.PID, id)
		require.Equal(t, was.Port, is.Port, id)
		require.Zero(t, is.Restarts, id)
		if was.Type != "bare" { // it does not say which lease it has
			require.Equal(t, was.LeaseID, is.LeaseID, id)
			require.Equal(t, was.Name, is.Name, id)
			require.True(t, harness.IsWorker(*is.PID, id), id)
		}
	}
}

// requirePortsOnce: each living worker has its lease, and nobody else has one but
// who had it before. It reports whether the lease of a program that hive did not
// start is there too: of that one nothing is left where its record is lost.
func (w *wreck) requirePortsOnce(t *testing.T, h *harness.Instance) (held bool) {
	t.Helper()
	leases, err := h.Leases(t.Context())
	require.NoError(t, err)
	taken := map[uint16]bool{}
	for _, l := range leases {
		require.False(t, taken[l.Port], "port %d has two leases", l.Port)
		taken[l.Port] = true
		if l.Port == w.hold.Port {
			require.Equal(t, w.hold.LeaseID, l.LeaseID)
			held = true
			continue
		}
		require.NotNil(t, l.WorkerID, "port %d has leaked", l.Port)
		was, ok := w.live[*l.WorkerID]
		require.True(t, ok, "port %d has leaked to %s", l.Port, *l.WorkerID)
		if was.Type != "bare" {
			require.Equal(t, *was.LeaseID, l.LeaseID)
		}
		require.EqualValues(t, "held", l.State)
	}
	for _, was := range w.live {
		require.True(t, taken[was.Port], "port %d of %s has no lease", was.Port, was.WorkerID)
	}
	return held
}

// requireNoneTwice: a new worker gets a port that nobody has.
func (w *wreck) requireNoneTwice(t *testing.T, h *harness.Instance) {
	t.Helper()
	id := w.spawn(h, 1, "later")[0]
	now, err := h.Live(t.Context())
	require.NoError(t, err)
	for _, was := range w.live {
		require.NotEqual(t, was.Port, now[id].Port, "port %d was given twice", was.Port)
	}
	w.stop(h, id)
}

// TestSalvage is the promise: whatever 4 KiB of the file are lost, or all of it, hive
// takes every living worker back.
func TestSalvage(t *testing.T) {
	if testing.Short() {
		t.Skip("long: salvages a file for each of its pages")
	}
	w := newWreck(t)
	random := rand.New(rand.NewPCG(7, 8))
	pages := len(w.file) / 4096
	t.Logf("%d pages", pages)
	for page := pages / 4; page < pages-pages/4; page++ {
		file := append([]byte(nil), w.file...)
		clear(file[page*4096 : (page+1)*4096])
		if !w.damaged(t, file) {
			continue // a free page: nothing was lost
		}
		t.Run(fmt.Sprintf("page %d", page), func(t *testing.T) { w.salvaged(t, file) })
	}
	for range 5 {
		at := random.IntN(len(w.file) - 4096)
		file := append([]byte(nil), w.file...)
		clear(file[at : at+4096])
		if w.damaged(t, file) {
			t.Run(fmt.Sprintf("zeros at %d", at), func(t *testing.T) { w.salvaged(t, file) })
		}
	}
	for name, file := range map[string][]byte{
		"the list of free pages": withoutFreelist(t, w.file),
		"both meta pages":        append(make([]byte, 2*4096), w.file[2*4096:]...),
		"cut off in the middle":  w.file[:len(w.file)/2],
		"cut off in a page":      w.file[:len(w.file)*3/4+100],
		"zeros":                  make([]byte, len(w.file)),
		"nothing":                {1},
	} {
		t.Run(name, func(t *testing.T) { w.salvaged(t, file) })
	}
	require.NoError(t, os.RemoveAll(filepath.Join(w.data, "backups")))
	for name, file := range map[string][]byte{
		"zeros and no backup":           make([]byte, len(w.file)),
		"both meta pages and no backup": append(make([]byte, 2*4096), w.file[2*4096:]...),
	} {
		t.Run(name, func(t *testing.T) {
			w.salvaged(t, file)
		})
	}
	t.Run("the file is whole", func(t *testing.T) {
		require.NoError(t, os.WriteFile(w.db(), w.file, 0o600))
		_, err := salvage.Make(t.Context(), w.data)
		require.ErrorIs(t, err, salvage.ErrNeedless)
	})
	t.Run("a hive runs", func(t *testing.T) {
		h := w.start()
		defer h.Kill()
		_, err := salvage.Make(t.Context(), w.data)
		var locked *store.LockedError
		require.ErrorAs(t, err, &locked)
		require.Equal(t, h.PID(), locked.PID)
	})
}

// withoutFreelist is the file without the list of free pages that its newest meta
// page leads to: every record is still there.
func withoutFreelist(t *testing.T, file []byte) []byte {
	t.Helper()
	const meta, freelist, txid = 16, 32, 48 // bbolt's file format: the header of a page, and places behind it
	newest := file[meta:]
	if second := file[4096+meta:]; binary.NativeEndian.Uint64(second[txid:]) > binary.NativeEndian.Uint64(newest[txid:]) {
		newest = second
	}
	page := binary.NativeEndian.Uint64(newest[freelist:])
	file = append([]byte(nil), file...)
	clear(file[page*4096 : (page+1)*4096])
	return file
}

// damaged reports whether hive would refuse the file.
func (w *wreck) damaged(t *testing.T, file []byte) bool {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hive.db")
	require.NoError(t, os.WriteFile(path, file, 0o600))
	o, err := store.OpenOffline(path, false)
	if err != nil {
		return true
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	found := o.Check(ctx)
	require.NoError(t, o.Close())
	return found != nil
}

// Other users' processes have put the ids of a worker into their environment, and somebody
// has passed the worker's log to one of them: none is taken for a worker, whether the
// secret can be read or not.
func TestSalvageTakesNoForgery(t *testing.T) {
	skip.UnlessRoot(t, "only root can start a program as another user")
	binary := filepath.Join(t.TempDir(), "hive")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "rbeehive/cmd/hive")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	hive, err := harness.New(binary, 4, "[]")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, hive.Close(nil)) })
	w := &wreck{T: t, hive: hive, data: filepath.Join(hive.Dir, "data")}
	h := w.start()
	id := w.spawn(h, 1, "x")[0]
	live, err := h.Live(t.Context())
	require.NoError(t, err)
	info, err := h.Info(t.Context())
	require.NoError(t, err)
	h.Kill()
	file, err := os.ReadFile(w.db())
	require.NoError(t, err)

	worker := live[id]
	log, err := os.OpenFile(filepath.Join(w.data, "logs", id+".log"), os.O_WRONLY|os.O_APPEND, 0)
	require.NoError(t, err)
	defer log.Close()
	sleep := func(uid uint32, out *os.File, env ...string) int {
		cmd := exec.CommandContext(t.Context(), "/bin/sleep", "600")
		cmd.Dir, cmd.Env, cmd.Stdout = "/", append(env, "RBEEHIVE_STATE="+info.StateID), out
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		require.NoError(t, cmd.Start())
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		return cmd.Process.Pid
	}
	mine := []string{"RBEEHIVE_LEASE=" + *worker.LeaseID, "RBEEHIVE_WORKER=" + id}
	sleep(12345, nil, mine...)
	sleep(12345, nil, "RBEEHIVE_LEASE=l", "RBEEHIVE_WORKER=cpu-8080-forged")
	sleep(12345, log, mine...)
	sleep(12345, log)
	unproven := sleep(0, nil, mine...)
	sleep(0, nil, append(mine, "RBEEHIVE_PROOF="+strings.Repeat("0", 64))...)

	known, lost := append(make([]byte, 2*4096), file[2*4096:]...), make([]byte, len(file))
	plan := func(damaged []byte) *salvage.Plan {
		require.NoError(t, os.WriteFile(w.db(), damaged, 0o600))
		p, err := salvage.Make(t.Context(), w.data)
		require.NoError(t, err)
		require.NoError(t, p.Close())
		return p
	}
	apart := []string{fmt.Sprintf("sleep (pid %d, uid 0): it has the stamps of worker %s without their proof", unproven, id)}
	for _, damaged := range [][]byte{known, lost} {
		p := plan(damaged)
		require.Len(t, p.Living, 1, "%+v", p.Living)
		require.Equal(t, *worker.PID, p.Living[0].PID)
		require.NotEmpty(t, p.Living[0].Proof)
		if &damaged[0] == &known[0] {
			require.Equal(t, apart, p.LeftAlone)
		}
	}
	require.NoError(t, syscall.Kill(*worker.PID, syscall.SIGKILL))
	require.Eventually(t, func() bool { return !harness.IsWorker(*worker.PID, id) }, 20*time.Second, time.Millisecond)
	p := plan(known)
	require.Empty(t, p.Living)
	require.Equal(t, apart, p.LeftAlone)
	// Without the secret the two of hive's own user are as good as the worker.
	p = plan(lost)
	for _, k := range p.Living {
		require.Contains(t, []string{"its stamps and its user"}, k.Proof, "%+v", k)
	}
}
