package proc

import (
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// ForwardSignals catches SIGTERM, SIGHUP, SIGUSR1, SIGUSR2, SIGINT and SIGQUIT of
// this process until stop is called, and forwards each to p, for a process that
// stands in front of a foreground child (see Spec.Foreground). They do not end
// this process meanwhile, nor after p has ended: it has to clean up.
//
// SIGINT and SIGQUIT are not forwarded when this process is in the foreground
// process group of its controlling terminal, which is looked up when the signal
// comes. Ctrl-C has reached the child too then, and a second SIGINT makes programs
// such as vLLM give up their orderly shutdown. The price is that `kill -INT` of this
// process does nothing while it is in the foreground; SIGTERM is always forwarded.
// What a shell or a service manager sends to the whole group (SIGHUP, SIGTERM) the
// child gets twice: who sent a signal cannot be known.
//
// What comes while the child is at its gate: see Gated.Process.
//
// SIGTSTP, SIGCONT and SIGWINCH are left alone: the terminal sends them to both.
// So is SIGHUP when this process ignores it (nohup): the child does so too.
//
// It does not block. stop waits for the signals that came before it to be forwarded;
// calling it again does nothing.
func ForwardSignals(p *Process) (stop func()) {
	// As many as can be pending at once of six kinds, and some: a full channel
	// loses signals.
	caught := make(chan os.Signal, 64)
	signal.Notify(caught, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGINT, unix.SIGQUIT)
	if !signal.Ignored(unix.SIGHUP) {
		signal.Notify(caught, unix.SIGHUP)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for sig := range caught {
			sig := sig.(syscall.Signal)
			if fromTerminal(sig) && inForeground() {
				continue // the child has got it from the terminal
			}
			_ = p.Signal(sig) // it may have ended, or be another user's by now (sudo)
		}
	})
	return sync.OnceFunc(func() {
		signal.Stop(caught) // nothing is sent on the channel after this
		close(caught)
		wg.Wait()
	})
}

// fromTerminal reports the signals that a terminal sends to its foreground group
// to end it.
func fromTerminal(sig syscall.Signal) bool { return sig == unix.SIGINT || sig == unix.SIGQUIT }

// inForeground reports whether this process is in the foreground process group of
// its controlling terminal; false without one.
func inForeground() bool {
	fd, err := unix.Open("/dev/tty", unix.O_RDONLY|unix.O_CLOEXEC|unix.O_NOCTTY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer closeAll(fd)
	group, err := unix.IoctlGetUint32(fd, unix.TIOCGPGRP)
	return err == nil && int(group) == unix.Getpgrp()
}
