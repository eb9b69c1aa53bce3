package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"

	"rbeehive/hive"
	"rbeehive/hive/telemetry"
	"rbeehive/httpapi/wire"
)

// megabyte is the unit of rbee's telemetry.
const megabyte = 1 << 20

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
	st.patient = true
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
	defer st.until(ctx)()
	for beat := range s.hive.Load().Heartbeats(ctx) {
		text, err := s.pulse.text(beat, s.hive.Load().Info(), bool(orZero(p.All)))
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

// pulse is the last heartbeat as it is sent: encoded once for all who listen.
type pulse struct {
	mu    sync.Mutex
	of    *telemetry.Heartbeat
	texts map[bool][]byte // by whether workers that are not ready are in it
}

func (p *pulse) text(beat *telemetry.Heartbeat, info hive.Info, all bool) ([]byte, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.of != beat {
		p.of, p.texts = beat, map[bool][]byte{}
	}
	if text := p.texts[all]; text != nil {
		return text, nil
	}
	data, err := json.Marshal(heartbeatShape(beat, info, all))
	if err != nil {
		return nil, fmt.Errorf("encode a heartbeat: %w", err)
	}
	text := append(append([]byte("event: heartbeat\ndata: "), data...), "\n\n"...)
	p.texts[all] = text
	return text, nil
}

func heartbeatShape(beat *telemetry.Heartbeat, info hive.Info, all bool) wire.Heartbeat {
	hostname, err := os.Hostname()
	if err != nil {
		hostname = "localhost"
	}
	shape := wire.Heartbeat{
		Type: "telemetry", HiveID: info.HiveID, Timestamp: wire.Time(beat.At), Workers: []wire.WorkerUse{},
		HiveInfo: wire.HeartbeatHive{
			ID: info.HiveID, Hostname: hostname, Port: int(info.APIPort), OperationalStatus: "ready",
			HealthStatus: wire.HeartbeatHealth{Status: "healthy"}, Version: info.Version,
		},
	}
	for _, u := range beat.Workers {
		if u.Ready || all {
			shape.Workers = append(shape.Workers, workerUseShape(u))
		}
	}
	return shape
}

func workerUseShape(u telemetry.WorkerUse) wire.WorkerUse {
	return wire.WorkerUse{
		PID: u.PID, Group: u.Type, Instance: strconv.Itoa(int(u.Port)), Model: orNull(u.Model),
		CPUPercent: u.CPUPercent, RSSMB: u.RSS / megabyte, UptimeS: int64(u.Uptime / time.Second),
		IOReadMBS: u.ReadPerSecond / megabyte, IOWriteMBS: u.WritePerSecond / megabyte,
		GPUPercent: u.GPUPercent, VRAMMB: u.GPUMemoryMiB, TotalVRAMMB: u.GPUMemoryAllMiB,
	}
}
