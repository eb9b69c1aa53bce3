package yard

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"rbeehive/httpapi/wire"
)

// client gives up on a hive that does not answer: no request here asks it to wait
// for longer than 60 s.
var client = &http.Client{Timeout: 100 * time.Second}

// Get reads a JSON answer; into may be nil. It returns the status.
func (h *Daemon) Get(ctx context.Context, path string, into any) (int, error) {
	return h.Call(ctx, http.MethodGet, path, nil, into)
}

// Call sends body as JSON and reads a JSON answer below status 300. header is names
// and values.
func (h *Daemon) Call(ctx context.Context, method, path string, body, into any, header ...string) (int, error) {
	raw, err := json.Marshal(body)
	if err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+h.y.API+path, bytes.NewReader(raw))
	if err != nil {
		return 0, err
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if into == nil || resp.StatusCode >= 300 {
		return resp.StatusCode, nil
	}
	return resp.StatusCode, json.NewDecoder(resp.Body).Decode(into)
}

// Text reads an answer that is not JSON.
func (h *Daemon) Text(ctx context.Context, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+h.y.API+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: status %d", path, resp.StatusCode)
	}
	return string(body), err
}

// Info is GET /v1/hive.
func (h *Daemon) Info(ctx context.Context) (i wire.Hive, err error) {
	_, err = h.Get(ctx, "/v1/hive", &i)
	return i, err
}

// Leases is GET /v1/leases.
func (h *Daemon) Leases(ctx context.Context) ([]wire.Lease, error) {
	var l wire.Leases
	_, err := h.Get(ctx, "/v1/leases", &l)
	return l.Leases, err
}

// Live returns the workers that have a process, by id.
func (h *Daemon) Live(ctx context.Context) (map[string]wire.Worker, error) {
	var page wire.Workers
	if _, err := h.Get(ctx, "/v1/workers", &page); err != nil {
		return nil, err
	}
	live := map[string]wire.Worker{}
	for _, w := range page.Workers {
		if w.State != "stopped" && w.State != "failed" {
			live[w.WorkerID] = w
		}
	}
	return live, nil
}
