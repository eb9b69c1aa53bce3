package telemetry_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/sirupsen/logrus/hooks/test"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"rbeehive/hive/hardware"
	"rbeehive/hive/proc"
	_ "rbeehive/hive/proc/gate" // the test binary is its own gate
	"rbeehive/hive/run"
	"rbeehive/hive/supervisor"
	"rbeehive/hive/telemetry"
	"rbeehive/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// long bounds what must happen: a test that reaches it has failed.
const long = 20 * time.Second

// rig is the telemetry of a hive, whose workers the test starts.
type rig struct {
	*telemetry.Telemetry
	t    *testing.T
	run  *run.State
	logs *test.Hook
	smi  smi

	mu        sync.Mutex
	processes []supervisor.Process
	asked     int   // how often the workers were asked for
	listeners []int // as hive is told
}

// smi stands in for nvidia-smi: what it prints, by its first argument. Without answers there
// is none.
type smi struct {
	mu      sync.Mutex
	answers map[string]string
	hangs   bool // until it is given up
	asked   int  // who uses the GPUs
}

func (s *smi) looks() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

func (s *smi) set(answers map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers = answers
}

func (s *smi) run(ctx context.Context, argv []string) ([]byte, error) {
	s.mu.Lock()
	if strings.HasPrefix(argv[1], "--query-compute-apps") {
		s.asked++
	}
	hangs := s.hangs
	s.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for prefix, text := range s.answers {
		if strings.HasPrefix(argv[1], prefix) {
			return []byte(text), nil
		}
	}
	return nil, errors.New("exit status 9")
}

func newRig(t *testing.T, every time.Duration) *rig {
	t.Helper()
	log := logrus.New()
	log.SetOutput(io.Discard)
	r := &rig{t: t, run: run.New(), logs: test.NewLocal(log)}
	r.Telemetry = telemetry.New(telemetry.Options{
		Run: r.run, Every: every, Processes: r.live, Log: log,
		Listeners: func(n int) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.listeners = append(r.listeners, n)
		},
		Devices: hardware.New(hardware.Options{
			Run: r.smi.run, Go: r.run.Go, Root: t.TempDir(), Log: log,
			LookPath: func(name string) (string, error) {
				r.smi.mu.Lock()
				defer r.smi.mu.Unlock()
				if r.smi.answers == nil {
					return "", proc.ErrProgramNotFound
				}
				return "/bin/" + name, nil
			},
		}),
	})
	t.Cleanup(r.close)
	return r
}

func (r *rig) close() {
	r.run.Close()
	r.run.Wait()
}

func (r *rig) live() []supervisor.Process {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked++
	return append([]supervisor.Process{}, r.processes...)
}

// worker starts a shell as a worker; it is ended with the test.
func (r *rig) worker(line string, change ...func(*store.Worker)) supervisor.Process {
	r.t.Helper()
	rec := store.Worker{
		WorkerID: "w" + strconv.Itoa(len(r.processes)), Type: "web", Port: 9000 + uint16(len(r.processes)), LeaseID: "l" + strconv.Itoa(len(r.processes)),
		State: store.WorkerReady, StartedAt: time.Now().UTC(), Log: filepath.Join(r.t.TempDir(), "log"),
	}
	g, err := proc.Start(proc.Spec{
		Argv: []string{"/bin/sh", "-c", line}, Env: []string{"PATH=/usr/bin:/bin"}, Log: rec.Log,
		StateID: "state", Secret: store.Secret("secret"), LeaseID: rec.LeaseID, WorkerID: rec.WorkerID,
	})
	require.NoError(r.t, err)
	p, err := g.Open(r.t.Context())
	require.NoError(r.t, err)
	id := p.Identity()
	rec.Identity = &id
	for _, c := range change {
		c(&rec)
	}
	tree := &proc.Tree{
		Main: p, Identity: id, Log: rec.Log, StateID: "state", LeaseID: rec.LeaseID, WorkerID: rec.WorkerID, UID: g.UID(),
		StampProof: proc.Prove(store.Secret("secret"), "state", rec.LeaseID, rec.WorkerID, g.UID()),
	}
	r.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), long)
		defer cancel()
		left, err := tree.Stop(ctx, store.Stop{})
		require.NoError(r.t, err)
		require.Empty(r.t, left)
		p.Close()
	})
	w := supervisor.Process{Worker: rec, Tree: tree}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.processes = append(r.processes, w)
	return w
}

// beats listens; next returns the next heartbeat.
func (r *rig) beats() (next func() *telemetry.Heartbeat, stop func()) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	pull, leave := iter.Pull(r.Heartbeats(ctx))
	stop = func() { cancel(); leave() }
	r.t.Cleanup(stop)
	return func() *telemetry.Heartbeat {
		r.t.Helper()
		b, ok := pull()
		require.True(r.t, ok, "no heartbeat")
		return b
	}, stop
}

// of is a worker's part of a heartbeat; nil if it is not in it.
func of(b *telemetry.Heartbeat, w supervisor.Process) *telemetry.WorkerUse {
	for i := range b.Workers {
		if b.Workers[i].WorkerID == w.Worker.WorkerID {
			return &b.Workers[i]
		}
	}
	return nil
}
