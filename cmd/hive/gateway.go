package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"

	"rbeehive/alloc/sockets"
	"rbeehive/cmd/hive/config"
	"rbeehive/httpapi/client"
	"rbeehive/httpapi/client/unixsock"
	"rbeehive/httpapi/gateway"
)

const (
	// gatewayListen is where clients find all models.
	gatewayListen = "127.0.0.1:7840"
	// spoolDir is on a disk by the file system hierarchy standard, where /tmp may be memory.
	spoolDir = "/var/tmp"

	// firstTableTimeout is how long the gateway waits for hive's word before it takes requests.
	firstTableTimeout = 3 * time.Second

	gatewayHeaderTimeout = 10 * time.Second
	gatewayIdleTimeout   = 2 * time.Minute // of a client's connection; longer than clients keep theirs
)

// gatewayFlags are what hive gateway is told.
type gatewayFlags struct {
	listen, addr, spool string
	maxBody, maxSpool   int64
	verbose             bool
}

func newGatewayCommand() *cobra.Command {
	var o gatewayFlags
	cmd := &cobra.Command{
		Use:   "gateway",
		Short: "one address for the models of all workers",
		Long: `Takes requests as OpenAI's and Anthropic's clients send them, at one address, and
passes each to a worker that serves the model it asks for; GET /v1/models lists
them. It follows the hive of this user or of the machine, and goes on with what it
knows while that is away. See docs/gateway.md.

It runs in the foreground until SIGTERM or Ctrl-C; answers under way are finished first,
unless the signal comes again. It listens on loopback only.`,
		Example: `  hive gateway
  curl 127.0.0.1:7840/v1/models`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usageError{fmt.Sprintf("unexpected argument %q", args[0])}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return runGateway(cmd, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.listen, "listen", gatewayListen, "address of the gateway, on loopback")
	f.StringVar(&o.addr, "hive", "", "the hive: http://host:port or unix:/path (default the socket of a hive of this user or of the machine, else "+client.DefaultAddr+")")
	f.StringVar(&o.spool, "spool", spoolDir, "directory on a disk for bodies of more than 1 MiB")
	f.Int64Var(&o.maxBody, "max-body", gateway.DefaultMaxBody, "the longest body of a request, in bytes")
	f.Int64Var(&o.maxSpool, "max-spool", gateway.DefaultMaxSpool, "all bodies in that directory together, in bytes")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "log each request")
	return cmd
}

// check refuses what the gateway could not keep its promises with.
func (o *gatewayFlags) check() error {
	host, _, err := net.SplitHostPort(o.listen)
	switch info, statErr := os.Stat(o.spool); {
	case err != nil:
		return usageError{fmt.Sprintf("--listen %q: expected host:port, as in %s", o.listen, gatewayListen)}
	case !onLoopback(host):
		return usageError{fmt.Sprintf("--listen %q: expected a loopback address, as in %s: the gateway does not ask who calls, so only programs of this machine may reach it", o.listen, gatewayListen)}
	case o.maxBody <= 0:
		return usageError{fmt.Sprintf("--max-body %d: expected a number of bytes above 0", o.maxBody)}
	case o.maxSpool < o.maxBody:
		return usageError{fmt.Sprintf("--max-spool %d: expected at least --max-body, which is %d", o.maxSpool, o.maxBody)}
	case statErr != nil:
		return usageError{fmt.Sprintf("--spool: %v; expected a directory on a disk", statErr)}
	case !info.IsDir():
		return usageError{fmt.Sprintf("--spool %s: expected a directory", o.spool)}
	}
	return nil
}

// onLoopback reports whether who listens at a host is reached by programs of this machine only.
func onLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// hiveAddrs are where the hive may be, as hivectl looks for it.
func hiveAddrs() []string {
	var addrs []string
	if dir := config.DefaultDataDir(os.Geteuid()); dir != "" {
		addrs = append(addrs, "unix:"+unixsock.Control(dir))
	}
	return append(addrs, "unix:"+unixsock.System, client.DefaultAddr)
}

func runGateway(cmd *cobra.Command, o gatewayFlags) error {
	if err := o.check(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	spool, err := filepath.Abs(o.spool)
	if err != nil {
		return err
	}
	ignoreSIGPIPE()
	errs := newOutput(cmd.ErrOrStderr())
	defer errs.finish(finishTimeout)
	log := logrus.New()
	log.SetOutput(errs)
	if !o.verbose {
		log.SetLevel(logrus.WarnLevel)
	}
	opts := client.Options{Addr: o.addr, UserAgent: "hive-gateway"}
	if o.addr == "" {
		opts.Addrs = hiveAddrs()
	}
	hive, err := client.New(opts)
	if err != nil {
		return usageError{err.Error()}
	}
	defer hive.Close()
	g := gateway.New(gateway.Options{Hive: hive, Sockets: sockets.NewTable(), MaxBody: o.maxBody, MaxSpool: o.maxSpool, SpoolDir: spool, Log: log})
	ln, err := net.Listen("tcp", o.listen)
	if err != nil {
		return fmt.Errorf("--listen: %w", err)
	}
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		g.Follow(ctx, changes(ctx, hive, log))
	}()
	// Who asks at once is to find what runs; without a hive they are told so.
	select {
	case <-g.Ready():
	case <-time.After(firstTableTimeout):
	case <-ctx.Done():
	}
	fmt.Fprintf(cmd.OutOrStdout(), "models at http://%s/v1\n", ln.Addr())
	err = serveGateway(ctx, stop, ln, g.Handler())
	stop()
	<-followed
	return err
}

// changes has a value after each event of hive's, and each connection to it, until ctx ends.
func changes(ctx context.Context, hive *client.Client, log *logrus.Logger) <-chan struct{} {
	changed := make(chan struct{}, 1)
	tell := func() {
		select {
		case changed <- struct{}{}:
		default: // it has one
		}
	}
	away := func(err error) {
		log.WithError(err).Warn("hive is away: the gateway goes on with the workers that it knows")
	}
	go func() {
		for ctx.Err() == nil {
			for _, err := range hive.FollowAll(ctx, client.FollowAllOptions{After: "latest", OnWait: away, OnConnect: tell}) {
				if err != nil {
					if ctx.Err() == nil && !errors.Is(err, client.ErrEventsGone) {
						log.WithError(err).Error("hive's events cannot be followed")
					}
					break
				}
				tell()
			}
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}()
	return changed
}

// serveGateway serves until ctx ends, and then until the answers under way have ended, or the signal comes
// again.
func serveGateway(ctx context.Context, stop context.CancelFunc, ln net.Listener, handler http.Handler) error {
	server := &http.Server{Handler: handler, ReadHeaderTimeout: gatewayHeaderTimeout, IdleTimeout: gatewayIdleTimeout}
	served := make(chan error, 1)
	go func() { served <- server.Serve(ln) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	stop() // from now on a signal ends it at once
	err := server.Shutdown(context.WithoutCancel(ctx))
	if serveErr := <-served; !errors.Is(serveErr, http.ErrServerClosed) {
		err = errors.Join(err, serveErr)
	}
	return err
}
