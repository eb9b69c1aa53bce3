//go:build linux

package docker_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/ory/dockertest/v3"
	"github.com/ory/dockertest/v3/docker"
	"github.com/stretchr/testify/require"

	"rbeehive/httpapi/wire"
	"rbeehive/test/skip"
)

// timeout is for what takes a moment on an idle machine.
const timeout = 60 * time.Second

// box is a container of the test's own. It is removed when the test ends.
type box struct {
	*testing.T
	pool *dockertest.Pool
	res  *dockertest.Resource
}

// options are what a container differs in from the Dockerfile.
type options struct {
	volume   string // at /var/lib/hive; empty: one of its own
	readOnly bool   // the volume
	user     string
	root     bool // the image whose hive is root
	entry    []string
	env      []string
	host     func(*docker.HostConfig)
}

// poolOf is a client of the test's own: one that several use at once is a data race,
// which is the library's.
func poolOf(t *testing.T) *dockertest.Pool {
	t.Helper()
	if engine.pool == nil {
		skip.Because(t, engine.why)
	}
	pool, err := connect()
	require.NoError(t, err)
	return pool
}

// newVolume makes a volume that is removed when the test ends.
func newVolume(t *testing.T) string {
	t.Helper()
	pool := poolOf(t)
	name := "rbeehive-" + engine.run + "-" + uuid.NewString()[:8]
	_, err := pool.Client.CreateVolume(docker.CreateVolumeOptions{Name: name, Labels: map[string]string{label: engine.run}})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, pool.Client.RemoveVolumeWithOptions(docker.RemoveVolumeOptions{Name: name}))
	})
	return name
}

// start runs a container. It does not wait for hive.
func start(t *testing.T, o options) *box {
	t.Helper()
	pool := poolOf(t)
	run := &dockertest.RunOptions{
		Name: "rbeehive-" + engine.run + "-" + uuid.NewString()[:8], Repository: engine.image, Tag: engine.run,
		Env: o.env, Labels: map[string]string{label: engine.run}, Entrypoint: o.entry, User: o.user,
	}
	if o.root {
		run.Tag += rootImage
	}
	if o.volume != "" {
		mount := o.volume + ":/var/lib/hive"
		if o.readOnly {
			mount += ":ro"
		}
		run.Mounts = []string{mount}
	}
	res, err := pool.RunWithOptions(run, func(hc *docker.HostConfig) {
		hc.PublishAllPorts, hc.Init = false, false
		closed(hc)
		if o.host != nil {
			o.host(hc)
		}
	})
	require.NoError(t, err)
	b := &box{t, pool, res}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("what container %s said:\n%s", res.Container.Name, b.said())
		}
		require.NoError(t, pool.Purge(res))
	})
	return b
}

// closed is what docker-compose.yml takes away from a container.
func closed(hc *docker.HostConfig) {
	hc.ReadonlyRootfs, hc.Tmpfs = true, map[string]string{"/tmp": ""}
	hc.CapDrop, hc.SecurityOpt = []string{"ALL"}, []string{"no-new-privileges:true"}
}

// serving starts a container and waits until hive serves.
func serving(t *testing.T, o options) *box {
	t.Helper()
	b := start(t, o)
	b.awaitHive()
	return b
}

func (b *box) awaitHive() {
	b.Helper()
	b.eventually("hive serves", func() bool {
		code, _ := b.exec("/hivectl", "-q", "status")
		return code == 0
	})
}

// eventually waits for a condition, which may end the test.
func (b *box) eventually(what string, cond func() bool) {
	b.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(timeout); !cond(); <-tick.C {
		require.True(b, time.Now().Before(deadline), "not within %s: %s", timeout, what)
	}
}

// exec runs a program in the container and returns its exit code and what it said;
// code -1: it could not be run.
func (b *box) exec(argv ...string) (code int, said string) {
	var out bytes.Buffer
	code, err := b.res.Exec(argv, dockertest.ExecOptions{StdOut: &out, StdErr: &out})
	if err != nil {
		return -1, err.Error()
	}
	return code, out.String()
}

// do is exec for what must work.
func (b *box) do(argv ...string) string {
	b.Helper()
	code, said := b.exec(argv...)
	require.Zero(b, code, "%v: %s", argv, said)
	return said
}

// detached starts a program in the container.
func (b *box) detached(argv ...string) {
	b.Helper()
	exec, err := b.pool.Client.CreateExec(docker.CreateExecOptions{Container: b.res.Container.ID, Cmd: argv})
	require.NoError(b, err)
	require.NoError(b, b.pool.Client.StartExec(exec.ID, docker.StartExecOptions{Detach: true}))
}

func (b *box) json(into any, argv ...string) {
	b.Helper()
	said := b.do(argv...)
	require.NoError(b, json.Unmarshal([]byte(said), into), "%v: %s", argv, said)
}

// process is one of the container, or with pid: host of the machine.
type process struct {
	PID, Parent int
	State       string
	Args        []string
}

func (b *box) ps() []process {
	b.Helper()
	var all []process
	b.json(&all, "/inside", "ps")
	return all
}

// hives are the processes of hive itself, apart from workers and gates.
func (b *box) hives() (pids []int) {
	b.Helper()
	for _, p := range b.ps() {
		if len(p.Args) == 1 && p.Args[0] == "/hive" && p.State != "Z" {
			pids = append(pids, p.PID)
		}
	}
	return pids
}

// running are the PIDs of reference workers by their ids.
func (b *box) running() map[string]int {
	b.Helper()
	out := map[string]int{}
	for _, p := range b.ps() {
		if at := slices.Index(p.Args, "--worker-id"); at > 0 && p.State != "Z" {
			out[p.Args[at+1]] = p.PID
		}
	}
	return out
}

func (b *box) workers() []wire.Worker {
	b.Helper()
	var list struct{ Workers []wire.Worker }
	b.json(&list, "/hivectl", "workers", "list", "-o", "json")
	return list.Workers
}

// worker returns one by its id.
func (b *box) worker(id string) wire.Worker {
	b.Helper()
	all := b.workers()
	at := slices.IndexFunc(all, func(w wire.Worker) bool { return w.WorkerID == id })
	require.GreaterOrEqual(b, at, 0, "worker %s of %v", id, all)
	return all[at]
}

// autostarted waits for the worker of the entry that starts with hive.
func (b *box) autostarted() wire.Worker {
	b.Helper()
	var w wire.Worker
	b.eventually("the autostart entry is ready", func() bool {
		for _, w = range b.workers() {
			if w.Type == "steady" && w.State == "ready" {
				return true
			}
		}
		return false
	})
	return w
}

// up starts a worker that becomes ready.
func (b *box) up(typ string) wire.Worker {
	b.Helper()
	return b.worker(strings.TrimSpace(b.do("/hivectl", "-q", "up", typ)))
}

// status is what hive says about its start. Its exit code is 1 if there are issues, such as
// a worker that was found dead.
func (b *box) status() wire.Hive {
	b.Helper()
	var h wire.Hive
	code, said := b.exec("/hivectl", "status", "-o", "json")
	require.Contains(b, []int{0, 1}, code, said)
	require.NoError(b, json.Unmarshal([]byte(said), &h), said)
	return h
}

// promises holds what is recorded against the processes: each live worker is a
// process and has its ports, no port is leased twice or for nobody, and no worker
// runs that hive does not know.
func (b *box) promises() {
	b.Helper()
	var list struct{ Leases []wire.Lease }
	b.json(&list, "/hivectl", "leases", "list", "-o", "json")
	running, leased := b.running(), map[string]int{}
	ports := map[uint16]bool{}
	for _, l := range list.Leases {
		require.NotNil(b, l.WorkerID, "%+v", l)
		for _, port := range l.Ports {
			require.False(b, ports[port], "port %d is leased twice", port)
			ports[port] = true
		}
		require.NotNil(b, l.PID, "a lease for nobody: %+v", l)
		leased[*l.WorkerID] = *l.PID
	}
	require.Equal(b, running, leased, "processes against leases")
	recorded := map[string]int{}
	for _, w := range b.workers() {
		if w.PID != nil {
			recorded[w.WorkerID] = *w.PID
		}
	}
	require.Equal(b, running, recorded, "processes against workers")
}

// signal sends one to the container's PID 1.
func (b *box) signal(sig docker.Signal) {
	b.Helper()
	require.NoError(b, b.pool.Client.KillContainer(docker.KillContainerOptions{ID: b.res.Container.ID, Signal: sig}))
}

// ended waits for the container's end and returns its exit code.
func (b *box) ended() int {
	b.Helper()
	code, err := b.pool.Client.WaitContainer(b.res.Container.ID)
	require.NoError(b, err)
	return code
}

// again starts the container again.
func (b *box) again() {
	b.Helper()
	require.NoError(b, b.pool.Client.StartContainer(b.res.Container.ID, nil))
}

// said is all that the container's PID 1 and its children have printed.
func (b *box) said() string {
	var out bytes.Buffer
	err := b.pool.Client.Logs(docker.LogsOptions{
		Container: b.res.Container.ID, OutputStream: &out, ErrorStream: &out, Stdout: true, Stderr: true,
	})
	if err != nil {
		out.WriteString(err.Error())
	}
	return out.String()
}

func (b *box) kill(sig string, pid int) {
	b.Helper()
	b.do("/inside", "kill", sig, strconv.Itoa(pid))
}
