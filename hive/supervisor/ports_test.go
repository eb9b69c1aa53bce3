package supervisor_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/operation"
	"rbeehive/hive/supervisor"
	"rbeehive/store"
)

// connectFrom makes a connection that has a port as its local one, as the kernel gives it
// to any program whose connection asks for none. It goes when closed is called, without
// leaving residue.
func (r *rig) connectFrom(port uint16) (closed func()) {
	r.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(r, err)
	accepted := make(chan net.Conn, 1)
	go func() {
		defer close(accepted)
		if c, err := l.Accept(); err == nil {
			accepted <- c
		}
	}()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(port)}}
	var conn net.Conn
	r.eventually("the port can be had", func() bool {
		conn, err = d.DialContext(context.Background(), "tcp", l.Addr().String())
		return err == nil
	})
	peer := <-accepted
	done := false
	closed = func() {
		if done {
			return
		}
		done = true
		require.NoError(r, conn.(*net.TCPConn).SetLinger(0))
		require.NoError(r, conn.Close())
		if peer != nil {
			_ = peer.Close()
		}
		_ = l.Close()
	}
	r.Cleanup(closed)
	return closed
}

// listenOn makes a stranger of this test listen on a port.
func (r *rig) listenOn(port uint16) net.Listener {
	r.Helper()
	var l net.Listener
	r.eventually("the port is free", func() bool {
		var err error
		l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		return err == nil
	})
	r.Cleanup(func() { _ = l.Close() })
	return l
}

// slowly makes the first wait of an entry's workers so long that a test can take the port.
func slowly(e catalog.Entry) catalog.Entry {
	e.Restart.Backoff, e.Restart.MaxBackoff = ref(300*time.Millisecond), ref(300*time.Millisecond)
	return e
}

// waitsForPort waits until a worker is shown as waiting for its port.
func (r *rig) waitsForPort(workerID string) store.Worker {
	r.Helper()
	var w store.Worker
	r.eventually("it is told who has the port", func() bool {
		w = r.worker(workerID)
		return w.State == store.WorkerBackoff && strings.Contains(w.Reason, "held by")
	})
	return w
}

// looksAgain waits until the port of a waiting worker was looked at so many times more.
func (r *rig) looksAgain(workerID string, n int) {
	r.Helper()
	for range n {
		last := *r.worker(workerID).NextTry
		r.eventually("the port is looked at again", func() bool { next := r.worker(workerID).NextTry; return next != nil && next.After(last) })
	}
}

// A range inside of ip_local_port_range: while the worker is down somebody's connection
// gets its port. It was given up after as many looks at the port as restart.max allows.
func TestAPortThatAConnectionHasIsWaitedFor(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, slowly(restarting(serving("serve"), "on-failure", 2)))
	w := r.spawn("serve")
	kill9(t, w.Identity.PID)
	release := r.connectFrom(w.Port)
	held := r.waitsForPort(w.WorkerID)
	require.Contains(t, held.Reason, "for a connection of its own")
	require.Contains(t, held.Reason, fmt.Sprintf("pid %d", os.Getpid()))
	r.looksAgain(w.WorkerID, 4) // more than restart.max
	held = r.worker(w.WorkerID)
	require.Equal(t, store.WorkerBackoff, held.State)
	require.Len(t, held.Failures, 1, "its own end, and no more")
	release()
	back := r.becomes(w.WorkerID, store.WorkerReady)
	require.Equal(t, 1, back.Restarts)
	require.Equal(t, w.Port, back.Port)
	require.Equal(t, []supervisor.Reason{supervisor.ReasonExited}, r.metrics.reasons())
	waits := 0
	for _, m := range r.messages(w.WorkerID) {
		if strings.Contains(m, "the port is looked at again") {
			waits++
		}
	}
	require.Equal(t, 1, waits, "one event, however often it was looked at")
}

// A listener may stay for days: it is waited for, too, and a stop ends the wait.
func TestAPortThatAListenerHasIsWaitedForAndTheWaitCanBeStopped(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, slowly(restarting(serving("serve"), "always", 1)))
	w := r.spawn("serve")
	kill9(t, w.Identity.PID)
	l := r.listenOn(w.Port)
	r.waitsForPort(w.WorkerID)
	r.looksAgain(w.WorkerID, 2)
	ended := r.stop(w.WorkerID)
	require.Equal(t, store.WorkerStopped, ended.State)
	require.Equal(t, store.DesiredStopped, ended.Desired)
	require.NoError(t, l.Close())
}

// The wait goes on with the next hive, and what was counted stays counted.
func TestTheWaitForAPortOutlivesHive(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, slowly(restarting(serving("serve"), "on-failure", 2)))
	w := r.spawn("serve")
	kill9(t, w.Identity.PID)
	release := r.connectFrom(w.Port)
	r.waitsForPort(w.WorkerID)
	r.looksAgain(w.WorkerID, 1)
	r.close()
	r.open()
	require.Equal(t, 1, r.recovery.Restarted)
	r.waitsForPort(w.WorkerID)
	r.looksAgain(w.WorkerID, 2)
	require.Len(t, r.worker(w.WorkerID).Failures, 1)
	release()
	r.becomes(w.WorkerID, store.WorkerReady)
}

// Without a policy nobody wants the worker to be there: a restart on request ends with who
// has the port.
func TestARestartOnRequestSaysWhoHasThePort(t *testing.T) {
	t.Parallel()
	r := newRig(t, 1, serving("serve"))
	w := r.spawn("serve")
	r.stop(w.WorkerID)
	r.listenOn(w.Port)
	f := r.failure(r.restart(w.WorkerID))
	require.Equal(t, errdefs.CodePortUnavailable, f.Code)
	require.Contains(t, f.Message, fmt.Sprintf("pid %d", os.Getpid()))
	require.Equal(t, store.WorkerStopped, r.worker(w.WorkerID).State)
}

// A fixed port inside of ip_local_port_range at the start of its worker.
func TestASpawnWaitsForAFixedPortThatAConnectionHas(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	entry := serving("fixed")
	entry.Port = int(r.port(0))
	r.setTypes(entry)
	release := r.connectFrom(r.port(0))
	j, done := newJob(), make(chan error, 1)
	go func() {
		_, err := r.s.Spawn(r.bounded(), j, operation.Spawn{Worker: "fixed", Wait: operation.WaitReady})
		done <- err
	}()
	var told string
	r.eventually("the job says what it waits for", func() bool {
		_ = r.store.View(func(tx *store.Tx) error {
			evs, err := tx.Events(0, 100)
			for _, ev := range evs {
				told += ev.Message
			}
			return err
		})
		return strings.Contains(told, "waiting: port ")
	})
	require.Contains(t, told, fmt.Sprintf("pid %d", os.Getpid()))
	require.Contains(t, r.s.Waiting(j.ID()), fmt.Sprintf("pid %d", os.Getpid()), "who asks is told, too")
	require.Empty(t, r.s.Workers())
	release()
	require.NoError(t, <-done)
	require.Empty(t, r.s.Waiting(j.ID()))
	require.Equal(t, r.port(0), r.s.Workers()[0].Port)
}

// For a worker that is not to be started again the wait has an end; a listener is not
// waited for at all.
func TestASpawnGivesAFixedPortUp(t *testing.T) {
	t.Parallel()
	r := newRig(t, 2)
	entry := serving("fixed")
	entry.Port, entry.Ready.Timeout = int(r.port(0)), ref(time.Millisecond)
	r.setTypes(entry)
	release := r.connectFrom(r.port(0))
	_, err := r.spawnBy(newJob(), operation.Spawn{Worker: "fixed"})
	f := r.failure(err)
	require.Equal(t, errdefs.CodePortUnavailable, f.Code)
	require.Contains(t, f.Message, fmt.Sprintf("pid %d", os.Getpid()))
	require.Contains(t, f.Message, "for a connection of its own")
	release()

	entry.Ready.Timeout = ref(testTimeout)
	r.setTypes(entry)
	r.listenOn(r.port(0))
	begun := time.Now()
	_, err = r.spawnBy(newJob(), operation.Spawn{Worker: "fixed"})
	require.Equal(t, errdefs.CodePortUnavailable, r.failure(err).Code)
	require.Less(t, time.Since(begun), testTimeout/2)
	require.Empty(t, r.leases())
}

// events are the messages of all events so far.
func (r *rig) events() (list []string) {
	r.Helper()
	require.NoError(r, r.store.View(func(tx *store.Tx) error {
		evs, err := tx.Events(0, 10000)
		for _, ev := range evs {
			list = append(list, ev.Message)
		}
		return err
	}))
	return list
}

// Jobs that wait for a port can be cancelled, and hold no slots for starts meanwhile.
func TestAWaitForAFixedPortCanBeCancelled(t *testing.T) {
	t.Parallel()
	const more = 9 // than there are slots
	r := newRig(t, more+1, serving("serve"))
	ended := make(chan error, more)
	ctx, cancel := context.WithCancelCause(context.Background())
	for i := range more {
		port := r.port(i + 1)
		r.connectFrom(port)
		go func() {
			_, err := r.s.Spawn(ctx, newJob(), operation.Spawn{Worker: "serve", Port: port, Wait: operation.WaitReady})
			ended <- err
		}()
	}
	r.eventually("all wait", func() bool {
		waiting := slices.DeleteFunc(r.events(), func(m string) bool { return !strings.HasPrefix(m, "waiting: ") })
		return len(waiting) == more
	})
	require.Equal(t, r.port(0), r.spawn("serve").Port)
	cancel(errdefs.ErrCancelled)
	for range more {
		require.ErrorIs(t, <-ended, errdefs.ErrCancelled)
	}
}

// taken is a type whose workers start only when a stranger has the first port, and the
// moment from which on one may take it.
func (r *rig) taken(policy string) (running func(), taken func() net.Listener) {
	r.Helper()
	dir := r.TempDir()
	text := fmt.Sprintf(`[ $1 != %d ] || { echo 1 >%[2]s/runs; while [ ! -e %[2]s/taken ]; do sleep 0.01; done; }; exec "$0" worker --port $1`, r.port(0), dir)
	r.setTypes(restarting(script("late", text), policy, 2))
	running = func() {
		r.Helper()
		r.eventually("its program runs", func() bool { _, err := os.Stat(filepath.Join(dir, "runs")); return err == nil })
	}
	return running, func() net.Listener {
		l := r.listenOn(r.port(0))
		require.NoError(r, os.WriteFile(filepath.Join(dir, "taken"), nil, 0o600))
		return l
	}
}

// Nobody knows the port of a first start yet: the spawn tries the next one, whatever the
// policy is.
func TestASpawnTriesTheNextPort(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	running, taken := r.taken("on-failure")
	done := make(chan any, 1)
	go func() {
		res, _ := r.s.Spawn(r.bounded(), newJob(), operation.Spawn{Worker: "late", Wait: operation.WaitReady})
		done <- res
	}()
	running()
	taken()
	spawned, ok := (<-done).(operation.Spawned)
	require.True(t, ok)
	require.Equal(t, r.port(1), spawned.Port)
	first := r.s.Workers()[0]
	require.Equal(t, store.WorkerFailed, first.State)
	require.Contains(t, first.Reason, fmt.Sprintf("pid %d", os.Getpid()))
	require.Equal(t, store.LeaseQuarantined, r.leases()[0].State, "somebody can be reached there")
}

// If nobody waits for the spawn nobody would try another port: the worker waits for its own.
func TestAPortThatIsTakenInTheFirstStartIsWaitedFor(t *testing.T) {
	t.Parallel()
	r := newRig(t, 3)
	running, taken := r.taken("on-failure")
	w := r.begin("late")
	running()
	l := taken()
	held := r.waitsForPort(w.WorkerID)
	require.Empty(t, held.Failures, "the port was held: that is no failure of the worker")
	require.NoError(t, l.Close())
	require.Equal(t, w.Port, r.becomes(w.WorkerID, store.WorkerReady).Port)
}
