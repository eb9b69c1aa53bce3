package httpapi

import (
	"net/http"

	"rbeehive/hive/tokens"
	"rbeehive/httpapi/wire"
	"rbeehive/store"
)

func (s *Server) getVersion(w http.ResponseWriter) error {
	return writeJSON(w, http.StatusOK, wire.Version{Version: s.hive.Load().Info().Version})
}

func (s *Server) listTokens(w http.ResponseWriter) error {
	page := wire.Tokens{Tokens: []wire.Token{}}
	for _, t := range s.hive.Load().Tokens().List() {
		page.Tokens = append(page.Tokens, tokenShape(t))
	}
	return writeJSON(w, http.StatusOK, page)
}

func (s *Server) addToken(w http.ResponseWriter, r *http.Request) error {
	body, err := readBody(w, r)
	if err != nil {
		return err
	}
	wanted, err := tokens.Decode(body)
	if err != nil {
		return err
	}
	t, secret, err := s.hive.Load().Tokens().Add(r.Context(), callerOf(r), wanted)
	if err != nil {
		return err
	}
	return writeSecret(w, http.StatusCreated, t, secret)
}

func (s *Server) rotateToken(w http.ResponseWriter, r *http.Request, name string) error {
	t, secret, err := s.hive.Load().Tokens().Rotate(r.Context(), callerOf(r), name)
	if err != nil {
		return err
	}
	s.endSessions(r, name)
	return writeSecret(w, http.StatusOK, t, secret)
}

func (s *Server) revokeToken(w http.ResponseWriter, r *http.Request, name string) error {
	if err := s.hive.Load().Tokens().Revoke(r.Context(), callerOf(r), name); err != nil {
		return err
	}
	s.endSessions(r, name)
	return writeJSON(w, http.StatusOK, wire.Revoked{Name: name, Status: "revoked"})
}

// endSessions ends what came by a token whose secret no longer counts, unless it is
// this very request: its answer says so.
func (s *Server) endSessions(r *http.Request, name string) {
	if callerOf(r).Token != name {
		s.sessions.end(name)
	}
}

func writeSecret(w http.ResponseWriter, status int, t store.Token, secret string) error {
	w.Header().Set("Cache-Control", "no-store")
	return writeJSON(w, status, wire.TokenSecret{Token: tokenShape(t), Secret: secret})
}
