package main

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// A port is a register: free, or held by one lease. What the clients did to it
// and saw of it becomes operations on that register, each with the time between
// which it must have taken effect, and porcupine looks for an order of them that
// is possible. There is none if two leases had a port at once, if a lease was gone
// that nothing can have ended, or if a response showed what was no longer true.
//
// Only what somebody has seen is in it. A lease that came and went unseen can be
// left out of any order that is possible with it.

// moment is nanoseconds since the history began, on the monotonic clock.
type moment int64

// never is after everything: an end that nothing can have caused yet, or an
// operation of which nobody knows that it is over.
const never moment = math.MaxInt64

// tenure is one lease from its acquisition to its end.
type tenure struct {
	lease string
	about string // whose, for a person
	ports []uint16
	// The acquisition took effect between these two.
	call, ret moment
	// The end took effect between these two. Mostly nobody orders an end: a holder
	// dies, a time runs out, hive gives a worker up. Then from is when the cause
	// was set, and by is never: later observations of the port say more.
	from, by moment
}

// observation is what a response of hive's said about a port. Free if lease is empty.
type observation struct {
	lease     string
	call, ret moment
}

// history is safe for concurrent use.
type history struct {
	start time.Time

	mu      sync.Mutex
	asked   map[string]moment // when the request with this tag was sent
	tenures map[string]*tenure
	seen    map[uint16][]observation
}

func newHistory() *history {
	return &history{start: time.Now(), asked: map[string]moment{}, tenures: map[string]*tenure{}, seen: map[uint16][]observation{}}
}

func (h *history) now() moment { return moment(time.Since(h.start)) }

// ask notes that a request is about to be sent which may lead to leases.
func (h *history) ask(tag string) moment {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked[tag] = h.now()
	return h.asked[tag]
}

// acquired records a lease, which cannot have ended before from. about is for a
// person. It reports false if the lease is known already: two requests were
// answered with it.
func (h *history) acquired(lease, about string, ports []uint16, call, ret, from moment) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.tenures[lease] != nil {
		return false
	}
	h.tenures[lease] = &tenure{lease: lease, about: about, ports: ports, call: call, ret: ret, from: from, by: never}
	return true
}

// mayEnd says that from this moment on the lease can end. Call it before doing
// what may end it.
func (h *history) mayEnd(lease string, at moment) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.tenures[lease]; t != nil {
		t.from = min(t.from, at)
	}
}

// allMayEnd is mayEnd for every lease.
func (h *history) allMayEnd() {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	for _, t := range h.tenures {
		t.from = min(t.from, now)
	}
}

// holds says that the lease is renewed: hive has confirmed that it
// lives on, until from at least.
func (h *history) holds(lease string, from moment) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.tenures[lease]; t != nil {
		t.from = from
	}
}

// endsFrom is the moment from which the lease can have ended.
func (h *history) endsFrom(lease string) moment {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tenures[lease].from
}

// ended says that hive has confirmed the end of the lease.
func (h *history) ended(lease string, call, ret moment) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t := h.tenures[lease]; t != nil {
		t.from, t.by = min(t.from, call), ret
	}
}

// saw records what a response said about a port.
func (h *history) saw(port uint16, lease string, call, ret moment) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.seen[port] = append(h.seen[port], observation{lease, call, ret})
}

// unknown returns the leases that were seen and that no request was answered
// with, each with the moment at which it had been seen.
func (h *history) unknown() map[string]moment {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := map[string]moment{}
	for _, all := range h.seen {
		for _, s := range all {
			if s.lease == "" || h.tenures[s.lease] != nil {
				continue
			}
			if first, ok := list[s.lease]; !ok || s.ret < first {
				list[s.lease] = s.ret
			}
		}
	}
	return list
}

// attribute records a lease that no response named, and that had been
// acquired by a moment: the request with this tag is what led to it. It reports
// false if there was none.
func (h *history) attribute(lease string, ports []uint16, tag string, by moment) bool {
	h.mu.Lock()
	call, ok := h.asked[tag]
	h.mu.Unlock()
	if ok {
		h.acquired(lease, tag, ports, call, by, call)
	}
	return ok
}

// step is what an operation does to the register, or what it saw of it.
type step struct {
	kind  kind
	lease string
}

type kind string

const (
	acquire kind = "acquire"
	end     kind = "end"
	read    kind = "read"
)

// register is the model of one port. Its state is the lease that has the port.
var register = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, _ any) (bool, any) {
		holder, s := state.(string), input.(step)
		switch s.kind {
		case acquire:
			return holder == "", s.lease
		case end:
			return holder == s.lease, ""
		}
		return holder == s.lease, holder
	},
}

// operations returns the history of each port.
func (h *history) operations() map[uint16][]porcupine.Operation {
	h.mu.Lock()
	defer h.mu.Unlock()
	ops := map[uint16][]porcupine.Operation{}
	add := func(port uint16, s step, call, ret moment, about string) {
		ops[port] = append(ops[port], porcupine.Operation{Input: s, Call: int64(call), Return: int64(max(call, ret)), Metadata: about})
	}
	for _, t := range h.tenures {
		for _, port := range t.ports {
			add(port, step{acquire, t.lease}, t.call, t.ret, fmt.Sprintf("(%s, cannot have ended before %s)", t.about, show(t.from)))
			if t.from != never {
				add(port, step{end, t.lease}, max(t.from, t.call), t.by, "")
			}
		}
	}
	for port, all := range h.seen {
		for _, s := range thin(all) {
			add(port, step{read, s.lease}, s.call, s.ret, "")
		}
	}
	return ops
}

// thin leaves of observations in a row that say the same the first and the last.
func thin(all []observation) (few []observation) {
	slices.SortFunc(all, func(a, b observation) int { return cmp.Compare(a.call, b.call) })
	for i, s := range all {
		if i > 0 && i < len(all)-1 && all[i-1].lease == s.lease && all[i+1].lease == s.lease {
			continue
		}
		few = append(few, s)
	}
	return few
}

// checkLimit is how long the search for an order may take, for one port.
const checkLimit = time.Minute

// check returns how many operations it has checked, and for each port whose
// history is not possible a description. Ports one by one: the memory of the
// search is what it costs.
func (h *history) check() (n int, wrong []string) {
	ops := h.operations()
	for _, port := range slices.Sorted(maps.Keys(ops)) {
		n += len(ops[port])
		switch porcupine.CheckOperationsTimeout(register, ops[port], checkLimit) {
		case porcupine.Illegal:
			wrong = append(wrong, fmt.Sprintf("port %d: no order of these is possible:\n%s", port, explain(ops[port])))
		case porcupine.Unknown:
			wrong = append(wrong, fmt.Sprintf("port %d: %s were not enough to check %d operations", port, checkLimit, len(ops[port])))
		}
	}
	return n, wrong
}

// explain shows how far an order can be found, and what does not fit any more.
func explain(ops []porcupine.Operation) string {
	_, info := porcupine.CheckOperationsVerbose(register, ops, checkLimit)
	var longest []porcupine.Operation
	for _, partial := range info.PartialLinearizationsOperations()[0] {
		if len(partial) > len(longest) {
			longest = partial
		}
	}
	placed := map[porcupine.Operation]int{}
	for _, op := range longest {
		placed[op]++
	}
	var left []porcupine.Operation
	for _, op := range ops {
		if placed[op]--; placed[op] < 0 {
			left = append(left, op)
		}
	}
	slices.SortFunc(left, func(a, b porcupine.Operation) int { return cmp.Compare(a.Return, b.Return) })
	const most = 6
	var b strings.Builder
	for _, op := range longest[max(0, len(longest)-most):] {
		fmt.Fprintf(&b, "    in order   %s\n", describe(op))
	}
	for _, op := range left[:min(most, len(left))] {
		fmt.Fprintf(&b, "    not placed %s\n", describe(op))
	}
	return strings.TrimRight(b.String(), "\n")
}

func describe(op porcupine.Operation) string {
	s := op.Input.(step)
	if s.lease == "" {
		s.lease = "(free)"
	}
	return fmt.Sprintf("%-7s %s [%s, %s] %v", s.kind, s.lease, show(moment(op.Call)), show(moment(op.Return)), op.Metadata)
}

func show(m moment) string {
	if m == never {
		return "open"
	}
	return time.Duration(m).Round(time.Microsecond).String()
}

// forged is the lease that forge adds.
const forged = "forged"

// forge adds a second lease into a copy of each port's history, at a moment at
// which the port certainly is leased, and reports how many of these copies the
// check takes for possible, of how many. Else its verdict on the real ones says
// nothing.
func (h *history) forge() (missed, tried int) {
	ops := h.operations()
	for port, t := range h.longest() {
		at := t.ret + (min(t.from, t.ret+2*moment(time.Second))-t.ret)/2
		double := append(slices.Clone(ops[port]),
			porcupine.Operation{Input: step{acquire, forged}, Call: int64(at), Return: int64(at)},
			porcupine.Operation{Input: step{end, forged}, Call: int64(at), Return: int64(never)})
		tried++
		if porcupine.CheckOperationsTimeout(register, double, checkLimit) != porcupine.Illegal {
			missed++
		}
	}
	return missed, tried
}

// longest returns for each port the lease that certainly had it longest.
func (h *history) longest() map[uint16]*tenure {
	h.mu.Lock()
	defer h.mu.Unlock()
	best := map[uint16]*tenure{}
	for _, t := range h.tenures {
		for _, port := range t.ports {
			if t.from-t.ret > 2 && (best[port] == nil || t.from-t.ret > best[port].from-best[port].ret) {
				best[port] = t
			}
		}
	}
	return best
}
