package httpapi

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

// Limits of one connection, besides those of its answers (respond.go) and of the bodies
// sent on it (request.go).
const (
	headerTimeout  = 10 * time.Second
	readTimeout    = 30 * time.Second
	idleTimeout    = 2 * time.Minute
	maxHeaderBytes = 64 << 10
)

// New makes a Server. It opens nothing and starts nothing.
func New(opts Options) *Server {
	s := &Server{
		opts: opts, allowed: allowedHosts(opts.AllowedHosts), traffic: newTraffic(),
		origin: http.NewCrossOriginProtection(), fileToken: sha256.Sum256([]byte(opts.Token)),
	}
	s.registry = newRegistry(s.traffic, opts.DroppedLines)
	s.exposition = newExposition(s.registry, opts.Log)
	s.SetStreamWait(opts.StreamWait)
	s.SetAccess(opts.Access)
	s.certificate.Store(opts.Certificate)
	s.closing, s.close = context.WithCancel(context.Background())
	s.base, s.cancel = context.WithCancel(context.Background())
	s.http = &http.Server{
		// Made before there is a hive: handlers look for it with each request, and the
		// gate keeps those away that come too early.
		Handler:           s.middleware(s.router()),
		BaseContext:       func(net.Listener) context.Context { return s.base },
		ErrorLog:          log.New(serverLog{opts.Log}, "", 0),
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		// net/http would answer OPTIONS * itself, past the Host check.
		DisableGeneralOptionsHandler: true,
	}
	return s
}

// serverOf makes the server of one listener. Each has connections of its own, so that
// a flood of one does not close another: the control socket is there when TCP is full.
func (s *Server) serverOf() (*http.Server, error) {
	conns := newConnections(s.opts.MaxConnections)
	one := &http.Server{
		Handler: s.http.Handler, BaseContext: s.http.BaseContext, ErrorLog: s.http.ErrorLog, TLSConfig: s.tlsConfig(),
		ReadHeaderTimeout: s.http.ReadHeaderTimeout, ReadTimeout: s.http.ReadTimeout, WriteTimeout: s.http.WriteTimeout,
		IdleTimeout: s.http.IdleTimeout, MaxHeaderBytes: s.http.MaxHeaderBytes,
		DisableGeneralOptionsHandler: s.http.DisableGeneralOptionsHandler,
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			return withPeer(ctx, conn, conns, &s.users, s.policy.Load())
		},
		ConnState: func(conn net.Conn, state http.ConnState) {
			conns.changed(conn, state)
			if s.http.ConnState != nil { // a test counts
				s.http.ConnState(conn, state)
			}
		},
	}
	// Runs after the listener is closed, so nobody can open a stream behind it.
	one.RegisterOnShutdown(s.close)
	s.serving.Lock()
	defer s.serving.Unlock()
	if s.shut {
		return nil, http.ErrServerClosed
	}
	s.servers = append(s.servers, one)
	return one, nil
}

// tlsConfig names HTTP/2: net/http sets that up at the first Serve of a server, for a
// listener without TLS only if it is named here, and offers it over TLS either way.
func (s *Server) tlsConfig() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, GetCertificate: s.getCertificate, NextProtos: []string{"h2", "http/1.1"},
	}
}

func (s *Server) getCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return s.certificate.Load(), nil
}

// Handler is the whole API, middleware included, for a server of one's own.
func (s *Server) Handler() http.Handler { return s.http.Handler }

// Serve accepts connections on ln, which it closes, until Shutdown. With a
// certificate they speak TLS, but for those of a unix socket. It blocks, may be
// called for several listeners at once, and returns nil after Shutdown, else the
// error of accept(2).
func (s *Server) Serve(ln net.Listener) error {
	one, err := s.serverOf()
	if err != nil {
		return ln.Close()
	}
	serve := one.Serve
	if s.opts.Certificate != nil && ln.Addr().Network() != "unix" {
		serve = func(ln net.Listener) error { return one.ServeTLS(ln, "", "") }
	}
	if err := serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", ln.Addr(), err)
	}
	return nil
}

// Shutdown closes the listeners at once (rbee's keeper kills by name whatever
// still answers a second later), ends streams and waits, and waits for running
// requests. When ctx ends first it cuts them off and returns ctx's error.
func (s *Server) Shutdown(ctx context.Context) error {
	defer s.cancel()
	defer s.close()
	s.serving.Lock()
	s.shut = true
	servers := s.servers
	s.serving.Unlock()
	// All at once, because ctx is one limit for all of them.
	errs := make([]error, len(servers))
	var all sync.WaitGroup
	for i, one := range servers {
		all.Go(func() { errs[i] = one.Shutdown(ctx) })
	}
	all.Wait()
	err := errors.Join(errs...)
	if err == nil {
		return nil
	}
	// Before the connections are closed: abortedBy tells by it whose doing that is.
	s.cancel()
	err = fmt.Errorf("wait for requests: %w", err)
	for _, one := range servers {
		err = errors.Join(err, one.Close())
	}
	return err
}

// serverLog takes the lines of net/http's own logger: TLS handshakes, panics of
// the server itself. All of them are about a peer, so they are debug.
type serverLog struct{ log *logrus.Logger }

func (l serverLog) Write(p []byte) (int, error) {
	if l.log.IsLevelEnabled(logrus.DebugLevel) {
		l.log.WithField("detail", string(bytes.TrimSpace(p))).Debug("http server")
	}
	return len(p), nil
}
