package probe

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/sync/errgroup"

	"rbeehive/alloc"
	"rbeehive/alloc/sockets"
	"rbeehive/hive/endpoint"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// When a worker that is not ready is probed.
const (
	// FirstInterval is from its start to its first probe.
	FirstInterval = 5 * time.Millisecond
	// MaxInterval is the longest time between two probes.
	MaxInterval = 500 * time.Millisecond
	// SearchInterval is how often a worker that does not listen is looked for on other
	// ports, and its tree's progress is read: both cost a walk of /proc.
	SearchInterval = time.Second
)

const (
	requestTimeout = 5 * time.Second // for one answer, unless live says it; a server that loads may be slow
	tableMaxAge    = 50 * time.Millisecond
	maxAnswer      = 200 // bytes of an answer that are shown
	maxConcurrent  = 64  // other ports that are asked at once
)

// Interval is the time to the next probe of a worker that has been started or adopted so
// long ago, and is not ready: what is lost by it is a small part of what the worker took.
func Interval(since time.Duration) time.Duration {
	return min(max(since/8, 2*time.Millisecond), MaxInterval)
}

// Prober probes workers. Its fields are set before it is used; its methods are safe for
// concurrent use.
type Prober struct {
	Sockets *sockets.Table
	Range   alloc.Range // the ports that are leased
	Log     *logrus.Logger
}

// Target is a worker that is probed.
type Target struct {
	Worker store.Worker
	Main   *proc.Process // its main process; nil if that has ended meanwhile
	Tree   *proc.Tree
	// Progress returns a string that changes while the worker gets on; empty if that is
	// not known this time. It is called for a search only.
	Progress func(ctx context.Context) string
}

// Probe probes a worker once, since when it was started or adopted. With search it looks
// for one that does not listen on other ports as well. It blocks for up to
// requestTimeout, or that of its liveness, and the reads of /proc. An error says that nothing was seen.
func (p *Prober) Probe(ctx context.Context, t Target, since time.Time, search bool) (Result, error) {
	rec := t.Worker
	r := Result{At: time.Since(since)}
	// Only with a search: it is read from the whole tree.
	if search {
		r.Progress = t.Progress(ctx)
	}
	socks, beside, err := p.listeners(ctx, rec)
	if err != nil {
		return r, err
	}
	if r.Listener, r.Holder, err = p.whoListens(ctx, t, socks); err != nil {
		return r, err
	}
	if r.Listener == Nobody && search {
		r.Searched, r.WrongOn, r.Astray = true, p.servesElsewhere(ctx, t), Astray(ctx, t.Tree, beside)
	}
	// Nobody else is sent a request.
	if r.Listener != Ours && r.Listener != WeaklyOurs {
		return r, nil
	}
	r.Answered, r.Answer = p.request(ctx, specFor(rec), rec.Port, socks, timeoutFor(rec))
	// The answer counts only if nobody joined or replaced the listeners meanwhile.
	after, _, err := p.listeners(ctx, rec)
	if err != nil {
		return r, err
	}
	r.Same = slices.Equal(inodes(socks), inodes(after))
	return r, nil
}

// listeners are the sockets on a worker's port: those that take connections to its own address,
// and those beside them.
func (p *Prober) listeners(ctx context.Context, rec store.Worker) (own, beside []sockets.Socket, err error) {
	all, err := p.Sockets.Listening(ctx, rec.Port)
	if err != nil {
		return nil, nil, fmt.Errorf("look at port %d: %w", rec.Port, err)
	}
	own, beside = endpoint.Split(all, rec.Spec.Host)
	return own, beside, nil
}

// Prove returns the sockets that listen at a worker's own address, and whose they are. It asks the
// worker nothing, and blocks for the reads of /proc. An error says that nothing was seen.
func (p *Prober) Prove(ctx context.Context, t Target) ([]sockets.Socket, Listener, error) {
	own, _, err := p.listeners(ctx, t.Worker)
	if err != nil {
		return nil, Unclear, err
	}
	who, _, err := p.whoListens(ctx, t, own)
	return own, who, err
}

// Astray says on which other address of its port a worker listens, of the sockets beside
// its own address; empty: on none.
func Astray(ctx context.Context, tree *proc.Tree, beside []sockets.Socket) string {
	for _, s := range beside {
		if owner, _ := tree.Owns(ctx, []sockets.Socket{s}); owner == proc.Ours {
			return s.Local.String()
		}
	}
	return ""
}

// Strangers returns those of socks that are in the hands of others than the tree.
func Strangers(ctx context.Context, tree *proc.Tree, socks []sockets.Socket) []sockets.Socket {
	if owner, _ := tree.Owns(ctx, socks); owner != proc.Foreign {
		return nil
	}
	// One by one: of all together, a single stranger's makes the answer Foreign.
	return slices.DeleteFunc(slices.Clone(socks), func(s sockets.Socket) bool {
		owner, _ := tree.Owns(ctx, []sockets.Socket{s})
		return owner != proc.Foreign
	})
}

// specFor is the spec to probe by: a worker that was ready once is asked for what
// its liveness names, if it has any.
func specFor(rec store.Worker) store.Spec {
	if rec.ReadyAt != nil && rec.Spec.Live.Interval > 0 {
		rec.Spec.Ready.Path = rec.Spec.Live.Path
	}
	return rec.Spec
}

// timeoutFor is how long a probe of a worker waits for its answer.
func timeoutFor(rec store.Worker) time.Duration {
	if rec.ReadyAt != nil && rec.Spec.Live.Interval > 0 {
		return rec.Spec.Live.AnswerTimeout()
	}
	return requestTimeout
}

func inodes(socks []sockets.Socket) []uint64 {
	var list []uint64
	for _, s := range socks {
		list = append(list, s.Inode)
	}
	slices.Sort(list)
	return list
}

func (p *Prober) whoListens(ctx context.Context, t Target, socks []sockets.Socket) (Listener, string, error) {
	switch {
	case len(socks) == 0:
		return Nobody, "", nil
	// With the client of a container runtime the listener is the runtime's, never a member.
	case t.Worker.Spec.Ready.AnyListener:
		return Ours, "", nil
	}
	owner, err := t.Tree.Owns(ctx, socks)
	switch owner {
	case proc.Ours:
		return Ours, "", nil
	case proc.Foreign:
		if strange := Strangers(ctx, t.Tree, socks); len(strange) > 0 { // else they have gone
			socks = strange
		}
		return Foreign, endpoint.Describe(ctx, socks), nil
	}
	// The look was cut short: that does not mean that it may not be seen.
	if ctx.Err() != nil {
		return Unclear, "", ctx.Err()
	}
	// Another user's process without CAP_SYS_PTRACE. The port was proved free
	// before the gate opened; one listener of the worker's own user is most
	// likely the worker.
	if uid, ok := t.uid(); ok && len(socks) == 1 && socks[0].UID == uid && proc.OneUser(uid) {
		return WeaklyOurs, "", nil
	}
	p.Log.WithError(err).WithField("worker", t.Worker.WorkerID).Debug("cannot see who listens")
	return Unclear, "", nil
}

// uid is the user of the worker's main process.
func (t Target) uid() (uint32, bool) {
	id := t.Worker.Identity
	if id == nil { // it has ended meanwhile
		return 0, false
	}
	fi, err := os.Stat("/proc/" + strconv.Itoa(id.PID))
	if err != nil {
		return 0, false
	}
	st, ok := fi.Sys().(*syscall.Stat_t)
	if p := t.Main; !ok || p == nil || p.PID() != id.PID || p.Ended() { // it may have been of another with its PID
		return 0, false
	}
	return st.Uid, true
}

// servesElsewhere finds a port without a lease on which the worker serves
// instead of its own. Programs open other ports for their own use while they
// load, so a listener counts only if it gives the answer that readiness asks
// for, or, where that is any listener, if it is a port of the pool or one of
// the next ten (a program that counts up when its port is taken).
func (p *Prober) servesElsewhere(ctx context.Context, t Target) uint16 {
	rec := t.Worker
	snap, err := p.Sockets.Snapshot(ctx, tableMaxAge)
	if err != nil {
		return 0
	}
	listens, err := t.Tree.ListenPorts(ctx, snap)
	if err != nil {
		return 0
	}
	// Its other leased ports are its own.
	listens = slices.DeleteFunc(listens, func(port uint16) bool { return slices.Contains(rec.Ports, port) })
	if rec.Spec.Ready.Path != "" {
		return p.firstToServe(ctx, t, listens)
	}
	for _, port := range listens {
		if p.Range.Contains(port) || (port > rec.Port && port-rec.Port <= 10) {
			return port
		}
	}
	return 0
}

// firstToServe asks ports side by side, and returns one that gave the expected
// answer; 0: none has. Programs open ports that accept and say nothing: asked one
// after the other, a probe would last so long that it is taken for a time in which
// hive was suspended.
func (p *Prober) firstToServe(ctx context.Context, t Target, ports []uint16) uint16 {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	var found atomic.Uint32
	var asked errgroup.Group
	asked.SetLimit(maxConcurrent)
	for _, port := range ports {
		asked.Go(func() error {
			// Another may have answered while this one waited for its turn.
			if ctx.Err() == nil && p.servesOn(ctx, t, port) {
				found.Store(uint32(port))
				cancel() // the others need not answer any more
			}
			return nil
		})
	}
	_ = asked.Wait()            // none fails
	return uint16(found.Load()) //nolint:gosec // a port was stored
}

// servesOn reports whether the worker gives the expected answer on another port.
// Whose the listeners there are is looked at anew: the snapshot that showed a
// member of the worker there is old by now, and a stranger may have the same
// port on the address that would be asked.
func (p *Prober) servesOn(ctx context.Context, t Target, port uint16) bool {
	spec := t.Worker.Spec
	socks, err := p.Sockets.Listening(ctx, port)
	if err != nil {
		return false
	}
	socks, _ = endpoint.Split(socks, spec.Host)
	if owner, err := t.Tree.Owns(ctx, socks); err != nil || owner != proc.Ours {
		return false
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	code, _, err := p.get(ctx, spec, port, socks)
	return err == nil && code == spec.Ready.Status
}
