package reference

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"
)

// drainTime is how long running requests may take after SIGTERM. It is below
// hive's default grace of 10 s, so that a drain is not cut short by a kill.
const drainTime = 8 * time.Second

// Main is the whole program `hive worker`: args are what follows that word. It
// blocks until the worker ends and returns the exit code: 0 after SIGTERM or
// SIGINT, 1 when it could not serve, 2 for wrong flags. It sets the process's
// GOMAXPROCS and garbage collection, so it is for a process of its own.
func Main(args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return 2
	}
	// 1,920 of these run at once in a test of the full port range: one running
	// goroutine, and a heap of about 1 MB instead of 4.
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(20)

	signals := make(chan os.Signal, 1)
	// Ignored and not caught, as in a program that has hung: only SIGKILL ends it.
	if o.IgnoreTerm {
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
	} else {
		signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
		defer signal.Stop(signals)
	}
	code, err := o.run(signals, stdout)
	if err != nil {
		fmt.Fprintf(stderr, "hive worker: %v\n", err)
	}
	return code
}

// run serves until a signal, until the exit that was asked for, or until
// serving ends by itself.
func (o *Options) run(signals <-chan os.Signal, stdout io.Writer) (code int, err error) {
	// Before it listens, as a program does that cannot load its model.
	if o.ExitAfter == 0 {
		fmt.Fprintf(stdout, "exiting with code %d, as asked\n", o.ExitCode)
		return o.ExitCode, nil
	}
	var exit <-chan time.Time
	if o.ExitAfter > 0 {
		exit = time.After(o.ExitAfter)
	}
	srv := o.server()
	// Room for one, so that Serve's goroutine ends though nobody asks any more.
	served := make(chan error, 1)
	if !o.NoListen {
		l, err := net.Listen("tcp", o.address())
		if err != nil {
			return 1, fmt.Errorf("listen: %w", err)
		}
		fmt.Fprintf(stdout, "worker %s listening on %s, model %s\n", o.WorkerID, l.Addr(), o.Model)
		go func() { served <- srv.Serve(l) }()
	}
	select {
	case s := <-signals:
		fmt.Fprintf(stdout, "%v: draining\n", s)
		return o.drain(srv, served)
	case <-exit:
		fmt.Fprintf(stdout, "exiting with code %d, as asked\n", o.ExitCode)
		return o.ExitCode, nil
	case err := <-served:
		return 1, fmt.Errorf("serve: %w", err)
	}
}

func (o *Options) server() *http.Server {
	return &http.Server{
		Handler:           o.handler(time.Now()),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       time.Minute,
	}
}

func (o *Options) drain(srv *http.Server, served <-chan error) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), drainTime)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil {
		// The requests that are left are cut off: a kill would come next.
		return 1, errors.Join(fmt.Errorf("drain: %w", err), srv.Close())
	}
	if !o.NoListen {
		<-served //nolint:errcheck // it says only that the server was closed
	}
	return 0, nil
}
