package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"rbeehive/httpapi/wire"
	"rbeehive/test/yard"
)

// world is what all clients share.
type world struct {
	y     *yard.Yard
	h     *history
	http  *http.Client
	tally *tally

	mu       sync.Mutex
	findings []string
	holders  map[int]*holder    // processes that hold leases, by PID
	origins  map[string]*origin // every lease that hive has listed
	untold   []*origin          // those of workers that are still to be asked for
	lately   []uint16           // the ports that were leased at the last look
	checked  int                // operations in the history
}

func newWorld(y *yard.Yard) *world {
	return &world{
		y: y, h: newHistory(), tally: newTally(), holders: map[int]*holder{}, origins: map[string]*origin{},
		http: &http.Client{Transport: &http.Transport{Proxy: nil, MaxIdleConnsPerHost: 256}, Timeout: time.Minute},
	}
}

// found enters one broken promise.
func (w *world) found(kind, format string, args ...any) {
	what := kind + ": " + fmt.Sprintf(format, args...)
	fmt.Println("contention:", what)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.findings = append(w.findings, what)
}

// mustHappen are the counts without which the run has shown nothing.
var mustHappen = []string{
	"spawned", "spawns failed", "stopped", "killed", "urls asked", "leases", "renewed", "bound", "released", "expired",
	"holders killed", "ports_exhausted", "port_unavailable", "ports taken by strangers", "strangers", "adopted",
}

// verdict says whether all that was promised was kept, and whether enough has happened
// to say so.
func (w *world) verdict() error {
	fmt.Printf("contention: %s\n", w.tally)
	fmt.Printf("contention: %d operations on %d ports checked, %d broken promises\n", w.checked, ports, len(w.findings))
	if len(w.findings) > 0 {
		return fmt.Errorf("%d promises were broken", len(w.findings))
	}
	for _, name := range mustHappen {
		if w.tally.get(name) == 0 {
			return fmt.Errorf("nothing was shown: %q never happened", name)
		}
	}
	return nil
}

// printOutput shows the end of what hive has printed: the directory is removed.
func (w *world) printOutput() {
	raw, err := os.ReadFile(w.y.Output())
	if err != nil {
		return
	}
	fmt.Printf("contention: hive's output ends with:\n%s\n", raw[max(0, len(raw)-4000):])
}

// tally counts what happened, by name.
type tally struct {
	mu sync.Mutex
	n  map[string]int
}

func newTally() *tally { return &tally{n: map[string]int{}} }

func (t *tally) add(name string, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n[name] += n
}

func (t *tally) get(name string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.n[name]
}

func (t *tally) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(t.n)) {
		parts = append(parts, fmt.Sprintf("%d %s", t.n[name], name))
	}
	return strings.Join(parts, ", ")
}

// errAway says that hive was away or not ready. Whether it has done what was
// asked is not known.
var errAway = errors.New("hive does not answer")

// refused is an answer that is an error.
type refused struct {
	status int
	wire.Problem
}

func (r *refused) Error() string { return fmt.Sprintf("%d %s: %s", r.status, r.Code, r.Detail) }

// call sends a request and reads its JSON answer; into may be nil. Errors are
// errAway, which a client must expect, and *refused. A fault of hive's own is
// entered as a broken promise too.
func (w *world) call(ctx context.Context, method, path string, body, into any) error {
	var raw []byte
	if body != nil {
		var err error
		if raw, err = json.Marshal(body); err != nil {
			return err
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+w.y.API+path, bytes.NewReader(raw))
	if err != nil {
		return err
	}
	resp, err := w.http.Do(req)
	if err != nil {
		return fmt.Errorf("%w: %w", errAway, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		r := &refused{status: resp.StatusCode}
		if err := json.NewDecoder(resp.Body).Decode(&r.Problem); err != nil && resp.StatusCode != http.StatusServiceUnavailable {
			return fmt.Errorf("%w: %w", errAway, err)
		}
		switch {
		case resp.StatusCode == http.StatusServiceUnavailable:
			return fmt.Errorf("%w: %w", errAway, r)
		case resp.StatusCode >= 500 || resp.StatusCode == http.StatusBadRequest:
			w.found("WRONG", "%s %s %s: %v", method, path, raw, r)
		}
		return r
	}
	if into == nil {
		return nil
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("%w: %w", errAway, err) // killed in the middle of its answer
	}
	return nil
}

// code is the problem's code of a refusal; empty for any other error.
func code(err error) string {
	var r *refused
	if errors.As(err, &r) {
		return r.Code
	}
	return ""
}
