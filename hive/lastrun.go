package hive

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"rbeehive/hive/journal"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

// lastRun is what the state file says of the hive before this one, for people: nothing is
// decided by it.
type lastRun struct {
	store.Run
	boot     string
	oomKills uint64
}

// loadLastRun reads it. A file that was copied (relocated) tells of the hive that has the
// original.
func loadLastRun(tx *store.Tx, relocated bool) (l lastRun, err error) {
	l.boot, _ = proc.BootID() // recovery fails without it
	l.oomKills = oomKills()
	if !relocated {
		l.Run, err = tx.LastRun()
	}
	return l, err
}

// message says how the last run has ended, if it has not recorded that itself; else empty.
func (l *lastRun) message() string {
	switch {
	case l.PID == 0:
		return ""
	case l.BootID != l.boot:
		return fmt.Sprintf("the machine went down while the last hive ran (PID %d, since %s)", l.PID, l.StartedAt.Format(time.RFC3339))
	}
	said := fmt.Sprintf("the last hive (PID %d, since %s) was killed or has crashed", l.PID, l.StartedAt.Format(time.RFC3339))
	if n := l.oomKills - l.OOMKills; l.oomKills > l.OOMKills {
		said += fmt.Sprintf("; since then the kernel has killed %d for lack of memory (dmesg names them)", n)
	}
	return said
}

// record tells of the last run and begins this one.
func (l *lastRun) record(b *journal.Batch, version string) error {
	if said := l.message(); said != "" {
		if err := b.Event(store.EventState, "", "", said, map[string]any{"hive": "lost", "pid": l.PID, "version": l.Version}); err != nil {
			return err
		}
	}
	return b.SetRun(&store.Run{PID: os.Getpid(), BootID: l.boot, Version: version, StartedAt: time.Now().UTC(), OOMKills: l.oomKills})
}

// endRun records that this hive has ended by itself. Without it, on a full disk say, the next
// one calls it killed.
func endRun(st *store.Store) {
	_ = st.UpdateReserved(context.Background(), func(tx *store.Tx) error { return tx.SetRun(nil) })
}

// oomKills is how many processes the kernel has killed for lack of memory, of the machine's
// or of a cgroup's, since it was booted (mm/oom_kill.c counts both); 0 if it does not say.
func oomKills() uint64 {
	text, err := os.ReadFile("/proc/vmstat")
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(text) {
		if n, ok := bytes.CutPrefix(line, []byte("oom_kill ")); ok {
			kills, _ := strconv.ParseUint(string(bytes.TrimSpace(n)), 10, 64)
			return kills
		}
	}
	return 0
}
