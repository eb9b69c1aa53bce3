package httpapi

import (
	"encoding/json"
	"fmt"
	"sync"

	"rbeehive/hive"
	"rbeehive/hive/telemetry"
)

// heartbeatCache is the last heartbeat as it is sent: encoded once for all who listen.
type heartbeatCache struct {
	mu    sync.Mutex
	of    *telemetry.Heartbeat
	texts map[bool][]byte // by whether workers that are not ready are in it
}

// text is the event of a heartbeat.
func (p *heartbeatCache) text(beat *telemetry.Heartbeat, info hive.Info, all bool) ([]byte, error) {
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
