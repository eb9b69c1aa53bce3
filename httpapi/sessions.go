package httpapi

import (
	"context"
	"errors"
	"sync"
)

// sessions are the requests under way that came by a token.
type sessions struct {
	mu   sync.Mutex
	open map[string]map[*context.CancelCauseFunc]bool // by name of the token
}

var errRevoked = errors.New("the token was revoked")

// begin returns a context that ends when the token is revoked.
func (s *sessions) begin(ctx context.Context, token string) (context.Context, func()) {
	if token == "" {
		return ctx, func() {}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = map[string]map[*context.CancelCauseFunc]bool{}
	}
	if s.open[token] == nil {
		s.open[token] = map[*context.CancelCauseFunc]bool{}
	}
	s.open[token][&cancel] = true // by its address: functions cannot be compared
	return ctx, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		// Each request takes itself out, one that end has ended too.
		if delete(s.open[token], &cancel); len(s.open[token]) == 0 {
			delete(s.open, token)
		}
		cancel(nil)
	}
}

// end ends what came by a token.
func (s *sessions) end(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for cancel := range s.open[token] {
		(*cancel)(errRevoked)
	}
}
