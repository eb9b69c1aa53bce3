package httpapi

import (
	"net/http"
	"time"

	"rbeehive/httpapi/wire"
)

// heartbeats sends what workers use until the client goes or the server shuts down. A
// client that takes nothing loses the oldest heartbeats, and stays: its connection ends
// when TCP finds that nobody is there.
func (s *Server) heartbeats(w http.ResponseWriter, r *http.Request, p wire.FollowHeartbeatsParams) error {
	ctx, cancel := s.untilClosing(r.Context())
	defer cancel()
	st := openStream(w, "text/event-stream")
	if r.Method == http.MethodHead {
		return nil
	}
	st.noTimeout = true
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
	defer st.until(ctx)()
	for beat := range s.hive.Load().Heartbeats(ctx) {
		text, err := s.heartbeatTexts.text(beat, s.hive.Load().Info(), bool(orZero(p.All)))
		if err != nil {
			return err
		}
		_, _ = st.Write(text) // a buffer takes everything
		if st.flush() != nil {
			return nil // it has gone
		}
	}
	return nil
}
