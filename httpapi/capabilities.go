package httpapi

import (
	"fmt"
	"net/http"

	"rbeehive/hive/access"
	"rbeehive/httpapi/wire"
)

// capabilities are the devices of this machine. A queen that asks may give its URL, which
// introduces it to a hive that has none configured.
func (s *Server) capabilities(w http.ResponseWriter, r *http.Request, queenURL *string) error {
	if err := s.meetQueen(r, orZero(queenURL)); err != nil {
		return err
	}
	devices, err := s.hive.Load().Devices(r.Context())
	if err != nil {
		return fmt.Errorf("read the devices: %w", err)
	}
	shape := wire.Capabilities{Devices: []wire.Device{}}
	for _, d := range devices {
		shape.Devices = append(shape.Devices, deviceShape(d))
	}
	return writeJSON(w, http.StatusOK, shape)
}

// meetQueen accepts a queen's URL. It makes hive send a POST there, so it is for admins
// although the method is GET, and counts as a write: a web page must not name one. From
// others it is ignored, so that a queen still gets its answer.
func (s *Server) meetQueen(r *http.Request, queenURL string) error {
	if queenURL == "" {
		return nil
	}
	who := callerOf(r)
	if !who.Rights.May(access.Admin) {
		s.opts.Log.WithFields(map[string]any{"remote": remote(r), "caller": who.String(), "queen_url": truncate(queenURL)}).
			Warn("ignored a queen that introduced itself: the caller is no admin; give the queen an admin token, or set queen_url")
		return nil
	}
	if who.Token == "" {
		// Check lets every GET pass, so it is shown the write that this one is in effect.
		write := *r
		write.Method = http.MethodPost
		if err := s.origin.Check(&write); err != nil {
			return fmt.Errorf("%w refused: %w", errCrossOrigin, err)
		}
	}
	return s.hive.Load().MeetQueen(r.Context(), queenURL)
}
