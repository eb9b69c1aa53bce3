package main

import (
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/sirupsen/logrus"
)

const (
	// timeoutExtension is how much longer systemd waits after each notification of a hive
	// that is starting or stopping.
	timeoutExtension = 30 * time.Second
	// notifyInterval is how often such a hive notifies it.
	notifyInterval = time.Second
	// maxStartTime is how long a start requests more time. One that takes longer hangs, and
	// systemd ends it.
	maxStartTime = 15 * time.Minute
)

// notifier notifies the service manager of hive's state, by sd_notify(3). Without
// NOTIFY_SOCKET it does nothing. Its methods are safe for concurrent use.
type notifier struct {
	log     *logrus.Logger
	enabled bool // NOTIFY_SOCKET is set

	mu       sync.Mutex
	stopping bool     // no other state is sent any more
	status   string   // sent last
	failed   bool     // a failure was logged
	unsent   []string // assignments that the manager did not take
}

func newNotifier(log *logrus.Logger) *notifier {
	return &notifier{log: log, enabled: os.Getenv("NOTIFY_SOCKET") != ""}
}

// starting sends the status, and requests time unless the start was too long ago.
func (n *notifier) starting(start time.Time, status string) {
	if time.Since(start) > maxStartTime {
		n.notify(status)
		return
	}
	n.notify(status, extend())
}

// ready ends the start, or a reload.
func (n *notifier) ready(status string) { n.notify(status, sd.SdNotifyReady) }

// reloading begins a reload; ready ends it, also if nothing was applied: systemd knows no
// reload that failed. The time is what Type=notify-reload asks for.
func (n *notifier) reloading() {
	n.notify("reloading", sd.SdNotifyReloading, strings.TrimSpace(sd.SdNotifyMonotonicUsec()))
}

// alive says that hive still works, to the watchdog too if watchdog is set.
func (n *notifier) alive(status string, watchdog bool) {
	if watchdog {
		n.notify(status, sd.SdNotifyWatchdog)
		return
	}
	n.notify(status)
}

// stop says that hive ends. Later notifications, as of a reload that was under way, are not
// sent.
func (n *notifier) stop() {
	n.notify("stopping", sd.SdNotifyStopping)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stopping = true
}

// ending requests time while hive stops workers.
func (n *notifier) ending(status string) {
	if !n.enabled {
		return
	}
	// Not by notify, which sends nothing any more after stop.
	n.mu.Lock()
	defer n.mu.Unlock()
	n.send("STATUS="+status, extend())
}

func extend() string { return fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", timeoutExtension.Microseconds()) }

// notify sends the assignments and, if it has changed, the status.
func (n *notifier) notify(status string, assignments ...string) {
	if !n.enabled {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.stopping {
		return
	}
	if status != n.status {
		n.status = status
		assignments = append(assignments, "STATUS="+status)
	}
	if len(assignments) > 0 || len(n.unsent) > 0 {
		n.send(assignments...)
	}
}

// send gives the manager the assignments, and what it did not take before: a READY=1 that
// is lost would be waited for until the start timed out. A failure is logged once: a manager
// that cannot be reached is no reason to stop. mu is held.
func (n *notifier) send(assignments ...string) {
	for _, a := range assignments {
		n.unsent = append(slices.DeleteFunc(n.unsent, func(old string) bool { return subject(old) == subject(a) }), a)
	}
	err := sendState(os.Getenv("NOTIFY_SOCKET"), strings.Join(n.unsent, "\n"))
	if err == nil {
		n.unsent = nil
		return
	}
	if !n.failed {
		n.failed = true
		n.log.WithError(err).Warn("notifying the service manager (NOTIFY_SOCKET) failed; it is told later, with what comes next")
	}
}

// subject is what an assignment is about: of two with the same one, the later holds.
func subject(assignment string) string {
	name, _, _ := strings.Cut(assignment, "=")
	if name == "RELOADING" || name == "STOPPING" {
		return "READY" // they are states of one service
	}
	return name
}

// sendTimeout is how long a manager may take. The socket holds a few messages (unix(7),
// max_dgram_qlen), so only one that is frozen does not take one at once.
const sendTimeout = time.Second

// sendState sends one message of sd_notify(3). It blocks for sendTimeout at most, which
// go-systemd's does not promise.
func sendState(socket, state string) error {
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	_, err = conn.Write([]byte(state))
	return err
}
