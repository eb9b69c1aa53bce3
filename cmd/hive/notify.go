package main

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/sirupsen/logrus"
)

const (
	// extension is how much longer systemd waits after each word of a hive that
	// is starting or stopping.
	extension = 30 * time.Second
	// stepEvery is how often such a hive says a word.
	stepEvery = time.Second
	// startLimit is for how long a start asks for more time. One that takes longer
	// hangs, and systemd ends it.
	startLimit = 15 * time.Minute
)

// notifier tells the service manager how far hive is, by sd_notify(3). Where none
// asks to be told it does nothing. Its methods are safe for concurrent use.
type notifier struct {
	log  *logrus.Logger
	asks bool // somebody wants to be told

	mu       sync.Mutex
	stopping bool   // what would say otherwise is not sent any more
	status   string // said last
	failed   bool   // it was logged that the manager cannot be told
}

func newNotifier(log *logrus.Logger) *notifier {
	return &notifier{log: log, asks: os.Getenv("NOTIFY_SOCKET") != ""}
}

// starting says what is being done, and asks for time while begun is not too long ago.
func (n *notifier) starting(begun time.Time, status string) {
	if time.Since(begun) > startLimit {
		n.say(status)
		return
	}
	n.say(status, extend())
}

// ready ends the start, or a reload.
func (n *notifier) ready(status string) { n.say(status, sd.SdNotifyReady) }

// reloading begins a reload; ready ends it, also if nothing was taken over:
// systemd knows no reload that failed. The time is what Type=notify-reload asks for.
func (n *notifier) reloading() {
	n.say("reloading", sd.SdNotifyReloading, strings.TrimSpace(sd.SdNotifyMonotonicUsec()))
}

// alive says that hive still works. fed: the watchdog is to be told, too.
func (n *notifier) alive(status string, fed bool) {
	if fed {
		n.say(status, sd.SdNotifyWatchdog)
		return
	}
	n.say(status)
}

// stop says that hive ends. What reports otherwise afterwards, as a reload that was
// under way does, is not sent.
func (n *notifier) stop() {
	n.say("stopping", sd.SdNotifyStopping)
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stopping = true
}

// ending asks for time while hive stops workers.
func (n *notifier) ending(status string) {
	if !n.asks {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.send("STATUS="+status, extend())
}

func extend() string { return fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", extension.Microseconds()) }

// say sends the assignments and, if it is another than before, the status.
func (n *notifier) say(status string, assignments ...string) {
	if !n.asks {
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
	if len(assignments) > 0 {
		n.send(assignments...)
	}
}

// send logs a failure once: a manager that is not there is no reason to stop. mu is held.
func (n *notifier) send(assignments ...string) {
	_, err := sd.SdNotify(false, strings.Join(assignments, "\n"))
	if err != nil && !n.failed {
		n.failed = true
		n.log.WithError(err).Warn("the service manager (NOTIFY_SOCKET) cannot be told how far hive is")
	}
}
