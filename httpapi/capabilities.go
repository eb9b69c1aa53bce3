package httpapi

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"

	"rbeehive/hive/machine"
	"rbeehive/httpapi/wire"
)

// capabilities are the devices of this machine. A queen that asks says where she is,
// which is how a hive that was not told learns of her.
func (s *Server) capabilities(w http.ResponseWriter, r *http.Request, queenURL *string) error {
	if err := s.meetQueen(r, orZero(queenURL)); err != nil {
		return err
	}
	devices, err := s.hive.Load().Devices(r.Context())
	if err != nil {
		return fmt.Errorf("look at the devices: %w", err)
	}
	shape := wire.Capabilities{Devices: []wire.Device{}}
	for _, d := range devices {
		shape.Devices = append(shape.Devices, deviceShape(d))
	}
	return writeJSON(w, http.StatusOK, shape)
}

func deviceShape(d machine.Device) wire.Device {
	return wire.Device{
		ID: d.ID, Name: d.Name, DeviceType: string(d.Kind), VRAMGB: d.MemoryMiB / 1024, ComputeCapability: orNull(d.ComputeCapability),
	}
}

// meetQueen takes up a queen's URL. It makes hive send a POST there, so it counts as a
// write although the method is GET: a web page must not name one, and without a token
// only this machine may, whose user could send the POST himself. What others say is
// passed over, so that a queen on another machine still gets her answer.
func (s *Server) meetQueen(r *http.Request, queenURL string) error {
	if queenURL == "" {
		return nil
	}
	if s.opts.Token == "" && !overUnixSocket(r) {
		write := *r
		write.Method = http.MethodPost
		if err := http.NewCrossOriginProtection().Check(&write); err != nil {
			return fmt.Errorf("%w refused: %w", errCrossOrigin, err)
		}
		if !fromLoopback(r) {
			s.opts.Log.WithFields(map[string]any{"remote": remote(r), "queen_url": clipped(queenURL)}).
				Warn("a queen on another machine has introduced herself and is passed over; ask for a token (auth: token), or set queen_url")
			return nil
		}
	}
	return s.hive.Load().MeetQueen(r.Context(), queenURL)
}

// fromLoopback reports whether the peer is on this machine.
func fromLoopback(r *http.Request) bool {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
