package lease_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"rbeehive/hive/access"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/lease"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// quarantined is a lease whose holder is gone and on whose port somebody listened.
func (r *rig) quarantined(ports int) store.Lease {
	r.t.Helper()
	l := r.acquire(lease.Request{Holder: lease.Holder{TTL: time.Hour}, Ports: ports})
	listener := listen(r.t, last(l.All()))
	freed, err := r.Release(access.Hive(), l.Port, l.LeaseID)
	require.NoError(r.t, err)
	require.False(r.t, freed)
	require.NoError(r.t, listener.Close())
	return l
}

// claim claims a port as another hive on this machine does.
func claim(t *testing.T, port uint16) (release func()) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, unix.Bind(fd, &unix.SockaddrUnix{Name: "@hive-port/" + strconv.Itoa(int(port))}))
	return func() { require.NoError(t, unix.Close(fd)) }
}

func TestAQuarantinedPortIsFreedWhenNobodyWasFoundTwice(t *testing.T) {
	r := newRig(t, 4)
	l := r.quarantined(2)
	r.Review(t.Context())
	require.Len(t, r.all(), 2, "a holder may have been between two sockets")
	r.Review(t.Context())
	require.Empty(t, r.all())
	r.freed(l.Port)
	require.Equal(t, fmt.Sprintf("ports %d-%d are free again: nobody was found on it twice", l.Port, l.Port+1), last(r.events()))
	r.Review(t.Context()) // there is nothing left to do
	require.Empty(t, r.logs.AllEntries())
}

// Twice in a row: whoever is seen, or cannot be looked for, in between begins the row anew.
func TestAReviewInBetweenBreaksTheRow(t *testing.T) {
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for name, between := range map[string]func(t *testing.T, r *rig, l store.Lease){
		"somebody listens on one of the ports": func(t *testing.T, r *rig, l store.Lease) {
			listener := listen(t, last(l.All()))
			r.Review(t.Context())
			require.NoError(t, listener.Close())
		},
		"a process of the lease lives": func(t *testing.T, r *rig, l store.Lease) {
			p := start(t, "/bin/sh", "-c", "sleep 600 & wait")
			id, err := proc.Identify(p.PID)
			require.NoError(t, err)
			main, _, err := proc.Adopt(id)
			require.NoError(t, err)
			defer main.Close()
			// The main process proves others; its child is the member.
			tree := &proc.Tree{Main: main, Identity: id}
			var members []proc.Member
			r.eventually("it has a child", func() bool {
				members, err = tree.Members(t.Context())
				return err == nil && len(members) == 1
			})
			r.trees[l.LeaseID] = tree
			r.Review(t.Context())
			delete(r.trees, l.LeaseID)
			require.NoError(t, unix.Kill(members[0].PID, unix.SIGKILL))
		},
		"hive could not look": func(_ *testing.T, r *rig, _ store.Lease) { r.Review(cancelled) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 2)
			l := r.quarantined(2)
			r.Review(t.Context())
			between(t, r, l)
			require.Len(t, r.all(), 2)
			r.Review(t.Context())
			require.Len(t, r.all(), 2, "the first of a new row")
			r.Review(t.Context())
			require.Empty(t, r.all())
		})
	}
}

// A port whose holder has asked for it meanwhile is no longer the review's.
func TestAReviewOfWhatWasReleasedMeanwhile(t *testing.T) {
	r := newRig(t, 2)
	l := r.quarantined(1)
	r.Review(t.Context())
	freed, err := r.Release(access.Hive(), l.Port, l.LeaseID)
	require.NoError(t, err)
	require.True(t, freed)
	next := r.acquire(byTTL(time.Hour))
	require.Equal(t, l.Port, next.Port)
	r.Review(t.Context())
	r.Review(t.Context())
	require.Equal(t, []store.Lease{next}, r.all())
}

// Both may find the port free, and one of them the lease gone: that is no error.
func TestAReviewAndAReleaseAtOnce(t *testing.T) {
	r := newRig(t, 2)
	l := r.quarantined(1)
	r.Review(t.Context())
	release := r.hold()
	released, reviewed := make(chan error, 2), make(chan struct{})
	for range 2 {
		go func() {
			freed, err := r.Release(access.Hive(), l.Port, l.LeaseID)
			if err == nil && !freed {
				err = errors.New("still held")
			}
			released <- err
		}()
	}
	go func() { defer close(reviewed); r.Review(t.Context()) }()
	release()
	r.soon(reviewed, "the review")
	for range 2 {
		if err := <-released; err != nil { // it came when the lease was gone
			require.ErrorIs(t, err, errdefs.ErrNotFound)
		}
	}
	r.freed(l.Port)
	require.Empty(t, r.logs.AllEntries())
	require.Len(t, r.events(), 3, "it is freed once")
}

func TestALeaseWhoseWorkerHasEndedIsReviewedToo(t *testing.T) {
	r := newRig(t, 5)
	live, ended := r.worker(0, store.WorkerReady), r.worker(1, store.WorkerStopped)
	failed, lost := r.worker(2, store.WorkerFailed), r.worker(3, store.WorkerStopped)
	r.update(func(tx *store.Tx) error { return tx.DeleteWorker(lost.WorkerID) })
	require.NoError(t, r.alloc.Rebuild(t.Context()))
	q := r.quarantined(1)
	held, err := r.Unheld()
	require.NoError(t, err)
	require.Equal(t, []uint16{ended.Port, failed.Port, lost.Port, q.Port}, portsOf(held))
	r.Review(t.Context())
	r.Review(t.Context())
	require.Equal(t, []store.Lease{live}, r.all(), "a living worker's is not touched")
	held, err = r.Unheld()
	require.NoError(t, err)
	require.Empty(t, held)
}

// A lease of several ports is one, however many records it has.
func TestUnheldNamesALeaseOnce(t *testing.T) {
	r := newRig(t, 4)
	l := r.quarantined(3)
	held, err := r.Unheld()
	require.NoError(t, err)
	require.Equal(t, []uint16{l.Port}, portsOf(held))
	require.Equal(t, l.All(), held[0].All())
}

// unverified is a lease whose process recovery could not judge, because another hive claimed
// its port.
func unverified(t *testing.T, r *rig, p *program) (l store.Lease, unclaim func()) {
	t.Helper()
	l = r.acquire(byPID(p))
	r.shut()
	unclaim = claim(t, l.Port)
	r.open()
	r.recover(t.Context(), l.Port)
	require.Equal(t, store.LeaseUnverified, r.state(l.Port))
	return l, unclaim
}

func TestAnUnverifiedHolderIsJudgedAgain(t *testing.T) {
	r := newRig(t, 2)
	p := start(t)
	l, unclaim := unverified(t, r, p)
	before := r.events()
	r.Review(t.Context())
	require.Equal(t, store.LeaseUnverified, r.state(l.Port), "the other hive still claims it")
	require.Equal(t, before, r.events())
	unclaim()
	r.Review(t.Context())
	require.Equal(t, []store.Lease{l}, r.all())
	require.Equal(t, fmt.Sprintf("port %d is held by pid %d, as before", l.Port, p.PID), last(r.events()))
	r.Review(t.Context())
	require.Len(t, r.events(), len(before)+1, "once")
	p.kill()
	r.freed(l.Port)
}

func TestAnUnverifiedHolderThatHasEnded(t *testing.T) {
	for name, listens := range map[string]bool{"nobody listens": false, "somebody listens": true} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 2)
			p := start(t)
			l, unclaim := unverified(t, r, p)
			p.kill()
			require.Equal(t, store.LeaseUnverified, r.state(l.Port), "nobody follows it")
			unclaim()
			if listens {
				listen(t, l.Port)
			}
			r.Review(t.Context())
			require.Contains(t, last(r.events()), ": its holder is gone: ")
			if listens {
				require.Equal(t, store.LeaseQuarantined, r.state(l.Port))
				return
			}
			r.freed(l.Port)
		})
	}
}

// Whoever renews a lease shows that it is held.
func TestAnUnverifiedLeaseIsHeldAgainByItsRenewal(t *testing.T) {
	r := newRig(t, 2)
	p := start(t)
	l, unclaim := unverified(t, r, p)
	defer unclaim()
	next := start(t)
	bound, err := r.renew(l, byPID(next).Holder)
	require.NoError(t, err)
	require.Equal(t, store.LeaseHeld, bound.State)
	require.Empty(t, bound.Reason)
	require.Equal(t, []store.Lease{bound}, r.all())
	next.kill()
	r.freed(l.Port)
}

// And it can be released, also while nothing is known of its process.
func TestAnUnverifiedLeaseIsReleased(t *testing.T) {
	r := newRig(t, 2)
	l, unclaim := unverified(t, r, start(t))
	defer unclaim()
	freed, err := r.Release(access.Hive(), l.Port, l.LeaseID)
	require.NoError(t, err)
	require.True(t, freed)
	require.Empty(t, r.all())
	r.Review(t.Context())
	require.Zero(t, r.Tracked())
}
