package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"rbeehive/httpapi/wire"
)

// agree waits until processes, records and leases agree, and agree with how the
// jobs of the round ended.
func (s *stage) agree(ctx context.Context, acts []*act) error {
	return eventually(ctx, func() (string, error) {
		w, err := s.look(ctx)
		if err != nil {
			return "", err
		}
		wrong := w.contradictions()
		for _, a := range acts {
			if say := w.contradicts(a); say != "" {
				wrong = append(wrong, fmt.Sprintf("%v %s (%s): %s", a.op, a.id, a.job.State, say))
			}
		}
		return strings.Join(wrong, "; "), nil
	})
}

// world is what there is at one moment.
type world struct {
	procs   map[string]int    // worker -> process
	workers map[string]string // worker -> state
	pids    map[string]int    // worker -> process, as hive says
	leases  map[string]string // worker -> state of its lease
	busy    bool              // a job has not ended
}

func (s *stage) look(ctx context.Context) (*world, error) {
	w := &world{procs: map[string]int{}, workers: map[string]string{}, pids: map[string]int{}, leases: map[string]string{}}
	var page wire.Workers
	if _, err := s.h.Get(ctx, "/v1/workers", &page); err != nil {
		return nil, err
	}
	for _, r := range page.Workers {
		w.workers[r.WorkerID] = r.State
		if r.PID != nil {
			w.pids[r.WorkerID] = *r.PID
		}
	}
	leases, err := s.h.Leases(ctx)
	if err != nil {
		return nil, err
	}
	for _, l := range leases {
		if l.WorkerID != nil {
			w.leases[*l.WorkerID] = l.State
		}
	}
	for _, state := range []string{"queued", "running"} {
		var jobs wire.Jobs
		if _, err := s.h.Get(ctx, "/v1/jobs?state="+state, &jobs); err != nil {
			return nil, err
		}
		w.busy = w.busy || len(jobs.Jobs) > 0
	}
	procs, err := s.y.Members()
	for _, p := range procs {
		w.procs[p.Worker] = p.PID
	}
	return w, err
}

// contradictions are those between processes, records and leases.
func (w *world) contradictions() (wrong []string) {
	if w.busy {
		wrong = append(wrong, "jobs still run")
	}
	for id, pid := range w.procs {
		if w.pids[id] != pid || w.leases[id] == "" {
			wrong = append(wrong, fmt.Sprintf("process %d of %s: its record says process %d and %q, its lease is %q", pid, id, w.pids[id], w.workers[id], w.leases[id]))
		}
	}
	for id, pid := range w.pids {
		if w.procs[id] == 0 {
			wrong = append(wrong, fmt.Sprintf("%s is %s as process %d, which is not there", id, w.workers[id], pid))
		}
	}
	for id, state := range w.leases {
		if w.procs[id] == 0 {
			wrong = append(wrong, fmt.Sprintf("the lease of %s is %s, and it has no process", id, state))
		}
	}
	return wrong
}

// contradicts says in what the end of a job is not what there is; empty: in nothing.
func (w *world) contradicts(a *act) string {
	switch a.op["operation"] {
	case "worker_spawn":
		if a.job.State == "succeeded" {
			return w.lives(field(a.job.Result, "worker_id"))
		}
		return w.goneAll(a)
	case "worker_restart":
		if a.job.State == "succeeded" {
			return w.lives(field(a.job.Result, "worker_id"))
		}
	case "worker_stop":
		id, _ := a.op["worker_id"].(string)
		if a.job.State == "succeeded" {
			return w.gone(id)
		}
	case "hive_check":
		return w.goneAll(a)
	}
	return ""
}

// lives demands a process, or a record that says how it ended.
func (w *world) lives(id string) string {
	state, known := w.workers[id]
	if w.procs[id] != 0 || state == "stopped" || state == "failed" {
		return ""
	}
	return fmt.Sprintf("%s has no process, and its record (%v) does not say why: %q", id, known, state)
}

func (w *world) gone(id string) string {
	if w.procs[id] == 0 && w.leases[id] == "" {
		return ""
	}
	return fmt.Sprintf("%s has process %d and a lease that is %q", id, w.procs[id], w.leases[id])
}

// goneAll demands that no worker that the job's events name is left.
func (w *world) goneAll(a *act) string {
	for _, e := range a.listener.seen {
		if e.WorkerID == nil {
			continue
		}
		if say := w.gone(*e.WorkerID); say != "" {
			return say
		}
	}
	return ""
}

// newest asks for what is new, and returns the id that hive answers with.
func (s *stage) newest(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.y.API+allPath+"?after=latest", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	frame := make([]byte, 64)
	n, err := resp.Body.Read(frame)
	if err != nil {
		return 0, err
	}
	id, ok := strings.CutPrefix(string(frame[:n]), "id: ")
	if !ok {
		return 0, fmt.Errorf("%q instead of an id", frame[:n])
	}
	return strconv.ParseUint(strings.TrimSpace(id), 10, 64)
}

// eventually waits until look says nothing.
func eventually(ctx context.Context, look func() (string, error)) error {
	for deadline := time.Now().Add(patience); ; {
		wrong, err := look()
		if err != nil || wrong == "" {
			return err
		}
		if time.Now().After(deadline) {
			return errors.New(wrong)
		}
		if !pause(ctx, 50*time.Millisecond) {
			return ctx.Err()
		}
	}
}

// field is a member of a JSON object that is a text.
func field(object json.RawMessage, name string) string {
	var m map[string]any
	_ = json.Unmarshal(object, &m) // an empty text then, which is no worker's id and no state
	value, _ := m[name].(string)
	return value
}
