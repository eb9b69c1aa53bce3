package main

import (
	"context"
	"fmt"
	"strings"

	"rbeehive/httpapi/wire"
	"rbeehive/test/harness"
)

// checkProcesses waits until processes, records and leases agree, and agree with how
// the jobs of the round ended.
func (r *run) checkProcesses(ctx context.Context, steps []*step) error {
	return harness.Eventually(ctx, agreeTimeout, func() (string, error) {
		s, err := r.snapshot(ctx)
		if err != nil {
			return "", err
		}
		wrong := s.contradictions()
		for _, step := range steps {
			if objection := s.contradicts(step); objection != "" {
				wrong = append(wrong, fmt.Sprintf("%v %s (%s): %s", step.op, step.id, step.job.State, objection))
			}
		}
		return strings.Join(wrong, "; "), nil
	})
}

// snapshot is what there is at one moment.
type snapshot struct {
	procs      map[string]int         // worker -> process
	workers    map[string]wire.Worker // as hive says
	leases     map[string]string      // worker -> state of its lease
	unfinished int                    // jobs
}

func (r *run) snapshot(ctx context.Context) (s snapshot, err error) {
	s = snapshot{procs: map[string]int{}, leases: map[string]string{}}
	if s.workers, err = r.hive.Workers(ctx); err != nil {
		return s, err
	}
	leases, err := r.hive.Leases(ctx)
	if err != nil {
		return s, err
	}
	for _, l := range leases {
		if l.WorkerID != nil {
			s.leases[*l.WorkerID] = l.State
		}
	}
	if s.unfinished, err = r.hive.Unfinished(ctx); err != nil {
		return s, err
	}
	procs, err := r.hive.Members()
	for _, p := range procs {
		s.procs[p.Worker] = p.PID
	}
	return s, err
}

// pid is a worker's process, as hive says; 0: none.
func (s snapshot) pid(id string) int {
	if p := s.workers[id].PID; p != nil {
		return *p
	}
	return 0
}

// contradictions are those between processes, records and leases.
func (s snapshot) contradictions() (wrong []string) {
	if s.unfinished > 0 {
		wrong = append(wrong, "jobs still run")
	}
	for id, pid := range s.procs {
		if s.pid(id) != pid || s.leases[id] == "" {
			wrong = append(wrong, fmt.Sprintf("process %d of %s: its record says process %d and %q, its lease is %q", pid, id, s.pid(id), s.workers[id].State, s.leases[id]))
		}
	}
	for id, w := range s.workers {
		if pid := s.pid(id); pid != 0 && s.procs[id] == 0 {
			wrong = append(wrong, fmt.Sprintf("%s is %s as process %d, which is not there", id, w.State, pid))
		}
	}
	for id, state := range s.leases {
		if s.procs[id] == 0 {
			wrong = append(wrong, fmt.Sprintf("the lease of %s is %s, and it has no process", id, state))
		}
	}
	return wrong
}

// contradicts says in what the end of a job is not what there is; empty: in nothing.
func (s snapshot) contradicts(step *step) string {
	succeeded := step.job.State == "succeeded"
	switch operation := step.op["operation"]; {
	case succeeded && (operation == "worker_spawn" || operation == "worker_restart"):
		return s.lives(field(step.job.Result, "worker_id"))
	case operation == "worker_spawn" || operation == "hive_check":
		return s.allGone(step)
	case succeeded && operation == "worker_stop":
		id, _ := step.op["worker_id"].(string)
		return s.gone(id)
	}
	return ""
}

// lives demands a process, or a record that says how it ended.
func (s snapshot) lives(id string) string {
	w, known := s.workers[id]
	if s.procs[id] != 0 || w.State == "stopped" || w.State == "failed" {
		return ""
	}
	return fmt.Sprintf("%s has no process, and its record (%v) does not say why: %q", id, known, w.State)
}

func (s snapshot) gone(id string) string {
	if s.procs[id] == 0 && s.leases[id] == "" {
		return ""
	}
	return fmt.Sprintf("%s has process %d and a lease that is %q", id, s.procs[id], s.leases[id])
}

// allGone demands that no worker that the job's events name is left.
func (s snapshot) allGone(step *step) string {
	for _, e := range step.listener.events {
		if e.WorkerID == nil {
			continue
		}
		if objection := s.gone(*e.WorkerID); objection != "" {
			return objection
		}
	}
	return ""
}
