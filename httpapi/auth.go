package httpapi

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"rbeehive/hive/access"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/tokens"
)

// guard finds out who calls and what they may do, and refuses who may do nothing. A
// token is the caller's own word and needs no more. Who is known only by the connection
// may not know what is sent over it: a web page reaches a loopback address through the
// browser of whoever sits here, so Host and origin must be ours then. No browser speaks
// to a unix socket.
func (s *Server) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, policy := peerOf(r), s.policy.Load()
		who, err := s.byToken(r, policy)
		if public(r) {
			err = nil // a token that is wrong is as good as none
		}
		if err == nil && who.Token == "" {
			if err = s.checkBrowser(r, p, policy); err == nil {
				who = s.byConnection(r, p, policy)
			}
		}
		if err == nil && !who.Rights.May(access.Read) && !public(r) {
			err = s.unknown(r, p, who, policy)
		}
		if err != nil {
			if errors.Is(err, errUnauthorized) {
				w.Header().Set("WWW-Authenticate", "Bearer")
			}
			s.refuse(w, r, err)
			return
		}
		if who.Rights.May(access.Read) {
			p.trust()
		} else {
			hurry(w, r)
		}
		r, done := s.withCaller(r, who)
		defer done()
		next.ServeHTTP(w, r)
	})
}

// byToken is the caller whose token was sent; one without a token if none was. Sums are
// compared, so that neither the length nor a prefix can be measured.
func (s *Server) byToken(r *http.Request, policy *access.Policy) (access.Caller, error) {
	sent := r.Header.Get("Authorization")
	if _, there := r.Header["Authorization"]; !there {
		return access.Caller{}, nil
	}
	scheme, token, _ := strings.Cut(sent, " ")
	sum := sha256.Sum256([]byte(strings.TrimSpace(token)))
	if strings.EqualFold(scheme, "Bearer") {
		if s.opts.Token != "" && subtle.ConstantTimeCompare(sum[:], s.fileToken[:]) == 1 {
			return access.Caller{Token: tokens.FileName, Rights: access.Rights{Level: access.Admin}}, nil
		}
		h := s.hive.Load()
		if h == nil && policy.Mode != access.Anyone {
			// It may be a good one, and a 401 would have its sender give up.
			return access.Caller{}, recoveringError("the tokens have not been loaded yet")
		}
		if h != nil {
			if name, made, ok := h.TokenRights(sum); ok {
				return access.Caller{Token: name, Rights: policy.OfToken(name, made)}, nil
			}
		}
	}
	if policy.Mode == access.Anyone {
		return access.Caller{}, nil // nobody is asked, so what was sent proves nothing
	}
	return access.Caller{}, fmt.Errorf("%w: expected the header `Authorization: Bearer TOKEN` with a token of this hive that has not expired (%s)", errUnauthorized, s.whereTokens())
}

// byConnection is the caller as the kernel knows them.
func (s *Server) byConnection(r *http.Request, p *peer, policy *access.Policy) access.Caller {
	who := p.caller
	who.Rights = policy.OfUser(who, access.Connection{TCP: p.tcp, Forwarded: forwarded(r.Header)})
	if policy.Mode != access.Anyone && who.Rights.May(access.Read) && s.ofWorker(p) {
		who.Rights = access.Rights{}
	}
	return who
}

// ofWorker reports whether it is a process of a worker that has connected. It may run
// as a user who may do everything, and be made to fetch any URL by its own callers.
func (s *Server) ofWorker(p *peer) bool {
	h := s.hive.Load()
	if p.cgroup == 0 || h == nil { // without a hive nothing is done for anybody
		return false
	}
	p.once.Do(func() { p.worker = h.IsWorkersCgroup(p.cgroup) })
	return p.worker
}

// whereTokens says how to get a token.
func (s *Server) whereTokens() string {
	const made = "an admin makes a token by `hivectl tokens add NAME`"
	if s.opts.Token == "" {
		return made
	}
	return made + "; the first one is in " + s.opts.TokenFile + " on hive's machine"
}

// unknown says to a caller without any rights why that is, and how to get some.
func (s *Server) unknown(r *http.Request, p *peer, who access.Caller, policy *access.Policy) error {
	token := fmt.Sprintf("send the header `Authorization: Bearer TOKEN` (%s)", s.whereTokens())
	switch {
	case !who.Known:
		return fmt.Errorf("%w: the caller is not known: %s, or connect from this machine itself", errUnauthorized, token)
	case forwarded(r.Header):
		return fmt.Errorf("%w: the request was passed on, so %s, who has connected, is not the caller: %s", errUnauthorized, who, token)
	case s.ofWorker(p):
		return fmt.Errorf("%w: %s is a process of a worker, whatever its user may: %s", errUnauthorized, who, token)
	case p.tcp && policy.Mode == access.ByToken:
		return fmt.Errorf("%w: this hive requires a token over TCP (auth: token): %s, or use the unix socket, as hivectl does", errUnauthorized, token)
	case p.tcp && policy.NoTCPRoot && (who.UID == 0 || who.UID == policy.OwnUID):
		return fmt.Errorf("%w: %s is not recognised over TCP (access.tcp_root is false): use the unix socket, as hivectl does, or %s", errUnauthorized, who, token)
	}
	return fmt.Errorf("%w: %s is not allowed to call this hive: run the command as its user or root, have an admin allow you (access in hive.yaml), or %s", errUnauthorized, who, token)
}

type callerKey struct{}

// withCaller remembers who calls. A request that came by a token ends when that is
// revoked, streams too.
func (s *Server) withCaller(r *http.Request, who access.Caller) (*http.Request, func()) {
	if rec := recorderOf(r); rec != nil {
		rec.caller = who
	}
	ctx, done := s.sessions.begin(r.Context(), who.Token)
	return r.WithContext(context.WithValue(ctx, callerKey{}, who)), done
}

// callerOf is who sends a request. The zero Caller, which may do nothing, if it has
// not come through guard.
func callerOf(r *http.Request) access.Caller {
	who, _ := r.Context().Value(callerKey{}).(access.Caller)
	return who
}

// needs lets only callers through who may do what needs the level.
func (s *Server) needs(level access.Level, next http.Handler) http.Handler {
	if level == access.None {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if who := callerOf(r); !who.Rights.May(level) {
			s.refuse(w, r, &errdefs.InputError{Kind: errdefs.ErrForbidden, Detail: fmt.Sprintf(
				"%s may not do this: it needs the right %q, and theirs is %q", who, level, who.Rights)})
			return
		}
		next.ServeHTTP(w, r)
	})
}

// public reports whether a path says nothing of the hive's state but that it is
// there. It looks at the path as the router does: encoded, and not cleaned.
func public(r *http.Request) bool {
	switch r.URL.EscapedPath() {
	case "/health", "/version":
		return true
	}
	return document(r)
}

// publicTimeout is how long what anybody may ask for can take to be taken.
const publicTimeout = 5 * time.Second

// hurry keeps a caller without rights from holding a connection, or from keeping hive
// busy by one: they get one answer, which must be taken soon, and no body of theirs is
// waited for.
func hurry(w http.ResponseWriter, r *http.Request) {
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(publicTimeout)) // a recorder of a test has none
	w.Header().Set("Connection", "close")
	if r.ContentLength != 0 {
		_ = control.SetReadDeadline(time.Now())
	}
}
