package hive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"rbeehive/alloc/sockets"
	"rbeehive/hive/proc"
	"rbeehive/store"
	"rbeehive/store/plain"
)

// whose says to whom the listeners on a worker's port belong, at its own address.
type whose int

const (
	nobody     whose = iota // nothing listens
	ours                    // a member of the worker
	weaklyOurs              // the system does not let us see, and nothing speaks against it
	foreign                 // somebody else
	unclear                 // the system does not let us see
)

// sighting is one look at a worker that is not ready yet.
type sighting struct {
	listener  whose
	holder    string        // who the foreign listener is
	astray    string        // where the worker listens on its port, which is not its own address; empty: not looked at
	probed    bool          // the probe gave the expected answer
	answer    string        // what the probe got, for a person
	same      bool          // the listeners were the same before and after the probe
	searched  bool          // it was looked for on other ports
	elsewhere uint16        // a port without a lease on which the worker serves; 0: none
	progress  string        // changes while the worker makes progress; empty: not looked at
	at        time.Duration // time since the worker was started or adopted
}

// serves reports whether the sighting shows the worker serving.
func (s sighting) serves() bool {
	return (s.listener == ours || s.listener == weaklyOurs) && s.probed && s.same
}

// verdict is what is to be done about a worker after a sighting.
type verdict int

const (
	waitStarting  verdict = iota // nothing listens yet
	waitLoading                  // it listens, and does not serve yet
	nowReady                     // it serves
	takenByOther                 // a stranger serves on its port
	onWrongPort                  // it serves on a port that it has no lease for
	stalledOut                   // no progress for too long
	ranOutOfTime                 // the total time is over
	waitUndecided                // who listens can't be seen: wait, never stop for that
)

// following is what a sequence of sightings adds up to.
type following struct {
	looks      int // sightings so far
	foreign    int // sightings of a foreign listener in a row
	elsewhere  int // sightings on another port in a row
	progress   string
	progressAt time.Duration
	at         time.Duration // of the last sighting
	lost       time.Duration // in which hive did not run
}

// stoodStill is a gap between two sightings that no look is long enough for: hive
// was stopped meanwhile (docker pause freezes a container, and the clock goes on).
// Its workers were most likely stopped with it, so such a time counts neither as a
// time without progress nor for ready.timeout.
const stoodStill = 3 * probeLimit

// judge decides from one more sighting. A stranger or a wrong port must be
// seen twice in a row: between the socket table and /proc a socket can close,
// and then nobody seems to own it.
func (f *following) judge(s sighting, r store.Ready) verdict {
	if gap := s.at - f.at; f.looks > 0 && gap > stoodStill {
		f.lost += gap
		f.progressAt = s.at
	}
	f.at = s.at
	if s.progress != "" && s.progress != f.progress {
		f.progress, f.progressAt = s.progress, s.at
	}
	f.looks++
	f.foreign = count(f.foreign, s.listener == foreign)
	if s.searched || s.listener != nobody {
		f.elsewhere = count(f.elsewhere, s.elsewhere != 0)
	}
	switch {
	case s.serves():
		return nowReady
	case f.foreign >= 2:
		return takenByOther
	case f.elsewhere >= 2:
		return onWrongPort
	case s.listener == unclear:
		return waitUndecided
	case r.Timeout > 0 && s.at-f.lost >= r.Timeout:
		return ranOutOfTime
	case r.Stall > 0 && s.at-f.progressAt >= r.Stall:
		return stalledOut
	}
	switch s.listener {
	case ours, weaklyOurs:
		return waitLoading
	case nobody:
		return waitStarting
	}
	return waitUndecided
}

func count(n int, again bool) int {
	if again {
		return n + 1
	}
	return 0
}

// Times of the readiness loop.
const (
	firstLook  = 5 * time.Millisecond
	longestGap = 500 * time.Millisecond
	probeLimit = 5 * time.Second // for one answer; a server that loads may be slow
	tableAge   = 50 * time.Millisecond
	// searchEvery is how often a worker that does not listen is looked for on
	// other ports, and its tree's progress is read: both cost a walk of /proc.
	searchEvery = time.Second
	// longestAnswer is how much is shown of what a probe got, in bytes.
	longestAnswer = 200
	// mostAsked bounds how many other ports are asked at once.
	mostAsked = 64
)

// look makes one sighting. It blocks for up to probeLimit and the reads of /proc.
func (w *worker) look(ctx context.Context, since time.Time, search bool) (sighting, error) {
	rec := w.record()
	s := sighting{at: time.Since(since)}
	if search {
		s.progress = w.progress(ctx)
	}
	all, err := w.h.sockets.Listening(ctx, rec.Port)
	if err != nil {
		return s, fmt.Errorf("look at port %d: %w", rec.Port, err)
	}
	socks, beside := atOwn(all, rec.Spec.Host)
	if s.listener, s.holder, err = w.whoListens(ctx, socks); err != nil {
		return s, err
	}
	if s.listener == nobody && search {
		s.searched, s.elsewhere, s.astray = true, w.servesElsewhere(ctx, rec), w.astray(ctx, beside)
	}
	if s.listener != ours && s.listener != weaklyOurs {
		return s, nil
	}
	s.probed, s.answer = w.h.probe(ctx, probed(rec), rec.Port, socks)
	after, err := w.h.sockets.Listening(ctx, rec.Port)
	if err != nil {
		return s, fmt.Errorf("look at port %d: %w", rec.Port, err)
	}
	after, _ = atOwn(after, rec.Spec.Host)
	s.same = slices.Equal(inodes(socks), inodes(after))
	return s, nil
}

// astray says on which other address of its port a worker listens; empty: on none.
func (w *worker) astray(ctx context.Context, beside []sockets.Socket) string {
	for _, s := range beside {
		if owner, _ := w.tree().Owns(ctx, []sockets.Socket{s}); owner == proc.Ours {
			return s.Local.String()
		}
	}
	return ""
}

// probed is the spec to probe by: a worker that was ready once is asked for what
// its liveness names, if it has any.
func probed(rec store.Worker) store.Spec {
	if rec.ReadyAt != nil && rec.Spec.Live.Interval > 0 {
		rec.Spec.Ready.Path = rec.Spec.Live.Path
	}
	return rec.Spec
}

func inodes(socks []sockets.Socket) []uint64 {
	var list []uint64
	for _, s := range socks {
		list = append(list, s.Inode)
	}
	slices.Sort(list)
	return list
}

func (w *worker) whoListens(ctx context.Context, socks []sockets.Socket) (whose, string, error) {
	switch {
	case len(socks) == 0:
		return nobody, "", nil
	case w.record().Spec.Ready.AnyListener:
		return ours, "", nil
	}
	owner, err := w.tree().Owns(ctx, socks)
	switch owner {
	case proc.Ours:
		return ours, "", nil
	case proc.Foreign:
		if strange := w.foreigners(ctx, socks); len(strange) > 0 { // else they have gone
			socks = strange
		}
		return foreign, describeHolders(ctx, socks), nil
	}
	if ctx.Err() != nil {
		return unclear, "", ctx.Err()
	}
	// Another user's process without CAP_SYS_PTRACE. The port was proved free
	// before the gate opened; one listener of the worker's own user is most
	// likely the worker.
	if uid, ok := w.uid(); ok && len(socks) == 1 && socks[0].UID == uid && proc.OneUser(uid) {
		return weaklyOurs, "", nil
	}
	w.h.cfg.Log.WithError(err).WithField("worker", w.id()).Debug("cannot see who listens")
	return unclear, "", nil
}

// servesElsewhere finds a port without a lease on which the worker serves
// instead of its own. Programs open other ports for their own use while they
// load, so a listener counts only if it gives the answer that readiness asks
// for, or, where that is any listener, if it is a port of the pool or one of
// the next ten (a program that counts up when its port is taken).
func (w *worker) servesElsewhere(ctx context.Context, rec store.Worker) uint16 {
	snap, err := w.h.sockets.Snapshot(ctx, tableAge)
	if err != nil {
		return 0
	}
	listens, err := w.tree().ListenPorts(ctx, snap)
	if err != nil {
		return 0
	}
	listens = slices.DeleteFunc(listens, func(port uint16) bool { return slices.Contains(rec.Ports, port) })
	if rec.Spec.Ready.Path != "" {
		return w.firstToServe(ctx, rec.Spec, listens)
	}
	for _, port := range listens {
		if w.h.cfg.Ports.Range.Contains(port) || (port > rec.Port && port-rec.Port <= 10) {
			return port
		}
	}
	return 0
}

// firstToServe asks ports side by side, and returns one that gave the expected
// answer; 0: none has. Programs open ports that accept and say nothing: asked one
// after the other, a look would last so long that it is taken for a time in which
// hive stood still.
func (w *worker) firstToServe(ctx context.Context, spec store.Spec, ports []uint16) uint16 {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	var found atomic.Uint32
	var asked errgroup.Group
	asked.SetLimit(mostAsked)
	for _, port := range ports {
		asked.Go(func() error {
			if ctx.Err() == nil && w.servesOn(ctx, spec, port) {
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
func (w *worker) servesOn(ctx context.Context, spec store.Spec, port uint16) bool {
	socks, err := w.h.sockets.Listening(ctx, port)
	if err != nil {
		return false
	}
	socks, _ = atOwn(socks, spec.Host)
	if owner, err := w.tree().Owns(ctx, socks); err != nil || owner != proc.Ours {
		return false
	}
	ok, _ := w.h.probe(ctx, spec, port, socks)
	return ok
}

// probe asks for the readiness path once. seen is who listened on the port at the
// worker's own address when its owner was looked at; nobody else is asked. It follows no redirects and uses
// no proxy. It closes its connection first, so that the residue (TIME_WAIT) is on
// its own side and not on the worker's port.
func (h *Hive) probe(ctx context.Context, spec store.Spec, port uint16, seen []sockets.Socket) (ok bool, answer string) {
	if spec.Ready.Path == "" {
		return true, "it listens"
	}
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	transport := &http.Transport{
		Proxy: nil, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return h.dial(ctx, network, addr, port, seen)
		},
	}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, workerURL(spec.Host, port)+spec.Ready.Path, nil)
	if err != nil {
		return false, err.Error()
	}
	req.Header.Set("User-Agent", "hive")
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return false, plain.Clip(err.Error(), longestAnswer)
	}
	defer func() {
		_, _ = io.CopyN(io.Discard, resp.Body, 64<<10) // only what lets the connection become idle
		_ = resp.Body.Close()
	}()
	return resp.StatusCode == spec.Ready.Status, "it answers " + plain.Clip(resp.Status, longestAnswer)
}

// dial connects, and gives the connection up if the listeners that can have it are no
// longer those that were seen: the worker may have ended since, and a stranger may
// have its port, who must not get a request. A listener that was there before and
// after the connection was made is the one that has it, unless it shares its port
// (SO_REUSEPORT) with one that came and went in between.
func (h *Hive) dial(ctx context.Context, network, addr string, port uint16, seen []sockets.Socket) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	now, err := h.sockets.Listening(ctx, port)
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		to := tcp.AddrPort().Addr()
		seen, now = sockets.Accepting(seen, to), sockets.Accepting(now, to)
	}
	if err == nil && !slices.Equal(inodes(seen), inodes(now)) {
		err = errors.New("who listens there has changed")
	}
	if err != nil {
		_ = conn.Close() // nothing was written
		return nil, fmt.Errorf("connected to port %d: %w", port, err)
	}
	return conn, nil
}
