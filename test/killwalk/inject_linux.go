package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"rbeehive/test/harness"
)

// faults are the errors that each call is given, as its man page lists them.
var faults = map[string][]unix.Errno{
	"pwrite64": {unix.EIO, unix.ENOSPC}, "write": {unix.EIO, unix.ENOSPC}, "fdatasync": {unix.EIO, unix.ENOSPC}, "fsync": {unix.EIO},
	"ftruncate": {unix.EIO}, "fallocate": {unix.ENOSPC, unix.EIO}, "openat": {unix.EMFILE, unix.ENOSPC, unix.EACCES, unix.EIO},
	"mkdirat": {unix.ENOSPC, unix.EACCES}, "unlinkat": {unix.EACCES, unix.EIO}, "renameat": {unix.ENOSPC, unix.EACCES}, "renameat2": {unix.ENOSPC, unix.EACCES},
	"linkat": {unix.ENOSPC, unix.EACCES}, "flock": {unix.EIO}, "bind": {unix.EADDRINUSE, unix.EACCES}, "listen": {unix.EADDRINUSE}, "connect": {unix.EAGAIN, unix.ECONNREFUSED},
	"sendmsg": {unix.EAGAIN, unix.ENOMEM}, "clone": {unix.EAGAIN, unix.ENOMEM}, "clone3": {unix.EAGAIN, unix.ENOMEM},
	"pidfd_open": {unix.EMFILE, unix.ENOMEM}, "pidfd_send_signal": {unix.EPERM}, "kill": {unix.EPERM},
}

// What happens to a call besides an error.
const (
	shortWrite = "short write"
	delay      = "delay"
)

// slowness is how long a delayed call takes: longer than any hive has patience for a look,
// shorter than it has for its disk.
const slowness = 2 * time.Second

// fault is one thing that is done to one call.
type fault struct {
	n    int
	what string // the name of an errno, or one of the above
	done bool
	call call // that it was done to
}

func (f *fault) String() string {
	return fmt.Sprintf("%s at call %d (%s)", f.what, f.call.n, f.call.name)
}

// inject gives the first call from the n-th that can have one a fault of its own.
func inject(n int, rnd *rand.Rand) (*fault, func(call) action) {
	f := &fault{n: n}
	return f, func(c call) action {
		if f.done || c.n < n {
			return action{}
		}
		errnos := faults[c.name]
		choice := rnd.IntN(len(errnos) + 2)
		switch {
		case choice < len(errnos):
			f.done, f.call, f.what = true, c, unix.ErrnoName(errnos[choice])
			return action{instead: failing(errnos[choice])}
		case c.name == "pwrite64" && c.args[2] > 1:
			f.done, f.call, f.what = true, c, shortWrite
			return action{instead: shortened}
		case c.name == "fdatasync":
			f.done, f.call, f.what = true, c, delay
			return action{delay: slowness}
		}
		return action{}
	}
}

// fault runs the script under a hive that one call fails for. Whatever becomes of its
// requests then: what was acknowledged holds, and hive says why it ends, if it does.
func (k *killwalk) fault(ctx context.Context, gate string, n int, seed uint64) error {
	w, err := newWalk(k.program.Hive, gate)
	if err != nil {
		return err
	}
	f, decide := inject(n, rand.New(rand.NewPCG(k.program.Seed, seed)))
	t, err := w.traced(ctx, decide, func(ctx context.Context) error {
		err := w.script.run(ctx)
		if refused(err) && !errors.Is(err, harness.ErrTimeout) { // an answer, and hive goes on
			w.refused = err
			return nil
		}
		return err
	})
	k.tally.Add("faults", 1)
	var broken []harness.Contradiction
	if errors.Is(err, harness.ErrTimeout) {
		broken, err = append(broken, harness.Contradiction{Kind: "STUCK", Text: err.Error()}), nil
	}
	if err == nil {
		broken = append(broken, w.saysWhy(t)...)
		var after []harness.Contradiction
		after, err = w.check(ctx, k.hivectl)
		broken = append(broken, after...)
	}
	k.report(w, f.String()+" (gate: "+gate+")", broken)
	return w.close(err)
}

// saysWhy objects to an end without a reason, and to an answer that says nothing.
func (w *walk) saysWhy(t *tracer) (broken []harness.Contradiction) {
	lines := strings.Split(strings.TrimSpace(string(w.output())), "\n")
	told := slices.ContainsFunc(lines, func(l string) bool {
		return strings.Contains(l, "level=error") || strings.Contains(l, "level=fatal") || strings.HasPrefix(l, "hive: ")
	})
	if t.ended && !told {
		broken = append(broken, harness.Contradiction{Kind: "SILENT", Text: "hive has ended by itself and has not said why"})
	}
	if r, ok := errors.AsType[*harness.Refused](w.refused); ok && (r.Code == "" || r.Detail == "") {
		broken = append(broken, harness.Contradiction{Kind: "SILENT", Text: "an answer without a code or a detail: " + r.Error()})
	}
	return broken
}
