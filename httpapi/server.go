package httpapi

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"

	"rbeehive/hive"
	"rbeehive/hive/access"
)

// Options is what a Server is made from.
type Options struct {
	// Log gets one line for each request when it has ended, and another for one
	// that failed on our side. Required.
	Log *logrus.Logger
	// AllowedHosts are Host names that are accepted besides loopback names and
	// the address of the listener; without or with a port, which is ignored.
	AllowedHosts []string
	// Access says who may do what; SetAccess changes it. Nil: root and the user of this
	// process everything, others nothing.
	Access *access.Policy
	// Token makes an admin of who sends it as "Authorization: Bearer", besides the
	// tokens that the hive knows. Empty: there is none.
	Token string
	// TokenFile is where callers are told that the token is.
	TokenFile string
	// Certificate makes TCP listeners speak TLS. SetCertificate changes it. Nil: no TLS.
	Certificate *tls.Certificate
	// MaxConnections is how many connections each listener has at most; 0: 2048.
	MaxConnections int
	// StreamWait is the longest life of an rbee stream of a job that has not
	// ended; 0: no limit. SetStreamWait changes it.
	StreamWait time.Duration
	// Shutdown is called by POST /v1/shutdown after its answer was sent. It must
	// not block: it asks for a shutdown, and Server.Shutdown waits for the very
	// handler that called it. Nil: the route does not exist.
	Shutdown func()
	// Reload is called by POST /v1/reload: it reads the configuration again and has the
	// hive take it over, or with dryRun only say what that would change. A mistake in the
	// configuration is a *errdefs.InputError of kind errdefs.ErrInvalidConfiguration. Nil:
	// the route does not exist.
	Reload func(ctx context.Context, dryRun bool) (hive.Plan, error)
	// DroppedLines is how many lines of hive's log nobody has read, for /metrics. Nil: there
	// is no such metric.
	DroppedLines func() uint64
}

// Server is the HTTP side of a hive. Its methods are safe for concurrent use.
type Server struct {
	opts    Options
	allowed map[string]bool
	hive    atomic.Pointer[hive.Hive]
	wait    atomic.Int64 // Options.StreamWait, as it is now
	http    *http.Server // what each listener gets a copy of
	origin  *http.CrossOriginProtection

	fileToken [sha256.Size]byte // of Options.Token
	policy    atomic.Pointer[access.Policy]
	users     users
	sessions  sessions

	serving sync.Mutex
	servers []*http.Server // one for each listener
	shut    bool           // Shutdown was called: none is added

	certificate atomic.Pointer[tls.Certificate] // nil: no TLS

	heartbeatTexts heartbeatCache
	workersText    workersCache
	traffic        *traffic
	registry       *prometheus.Registry
	exposition     http.Handler // of /metrics

	// closing is done when Shutdown was called: streams and waits end, while
	// ordinary requests finish.
	closing context.Context
	close   context.CancelFunc
	// base is the context of every request; it is cancelled only when Shutdown
	// ran out of time.
	base   context.Context
	cancel context.CancelFunc
}

// SetHive gives the server its hive. Until then every route answers 503; it may
// be called while serving, and once only.
func (s *Server) SetHive(h *hive.Hive) {
	s.registry.MustRegister(h.Collector())
	s.hive.Store(h)
}

// SetAccess changes Options.Access for requests that begin from now on.
func (s *Server) SetAccess(p *access.Policy) {
	if p == nil {
		p = &access.Policy{OwnUID: uint32(os.Geteuid())}
	}
	s.policy.Store(p)
}

// SetStreamWait changes Options.StreamWait for streams that begin from now on.
func (s *Server) SetStreamWait(d time.Duration) { s.wait.Store(int64(d)) }

// SetCertificate changes Options.Certificate for connections that begin from now
// on. It can neither begin nor end TLS: for that it must have been given at first.
func (s *Server) SetCertificate(c *tls.Certificate) { s.certificate.Store(c) }

// untilClosing is ctx that also ends when the server begins to shut down, for
// everything that would otherwise keep Shutdown waiting.
func (s *Server) untilClosing(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(s.closing, cancel)
	return ctx, func() { stop(); cancel() }
}
