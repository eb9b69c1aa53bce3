package db

import (
	"cmp"
	"context"
	"fmt"

	"rbeehive/hive/salvage"
)

// Salvage is a plan to rebuild a state file.
type Salvage struct {
	dir  string
	plan *salvage.Plan
}

// maxListed is how many items of a list a plan prints.
const maxListed = 20

// PlanSalvage inspects the state file in dir, the backups beside it and the processes, and
// returns what can be done. Nothing is changed. The plan must be closed.
func PlanSalvage(ctx context.Context, dir string) (*Salvage, error) {
	if err := checkDir(dir); err != nil {
		return nil, err
	}
	p, err := salvage.Make(ctx, dir)
	if err := trustRefusal("", err); err != nil {
		return nil, err
	}
	if err != nil {
		return nil, refusal(err, dir, "")
	}
	return &Salvage{dir, p}, nil
}

// Close releases the state file.
func (s *Salvage) Close() error { return s.plan.Close() }

// Apply carries the plan out, and returns where the damaged file was saved; empty: there
// was none.
func (s *Salvage) Apply(ctx context.Context) (savedAs string, err error) {
	savedAs = s.plan.SavedAs()
	return savedAs, refusal(s.plan.Apply(ctx), s.dir, "")
}

// Lines is the plan for a person.
func (s *Salvage) Lines() []string {
	p := s.plan
	var lines []string
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	addList := func(items []string) {
		for i, item := range items {
			if i == maxListed {
				add("  and %d more", len(items)-i)
				return
			}
			add("  %s", item)
		}
	}
	if p.Bytes == 0 {
		add("%s: does not exist", State(s.dir))
	} else {
		places := "records or pages cannot be read or contradict each other"
		if len(p.Damage) == 1 {
			places = "record or page cannot be read or contradicts another"
		}
		add("%s: %d bytes, %d %s", State(s.dir), p.Bytes, len(p.Damage), places)
	}
	var places []string
	for _, f := range p.Damage {
		places = append(places, f.String())
	}
	addList(places)
	if p.Backup == "" {
		add("backup: no intact one in %s/backups", s.dir)
	} else {
		add("backup: %s, from %s", p.Backup, p.BackupAt.Local().Format("2006-01-02 15:04:05"))
	}
	add("running workers, which hive will adopt: %d", len(p.Living))
	for _, k := range p.Living {
		add("  %s  name %s  port %d  pid %d  by %s  record from %s", k.WorkerID, cmp.Or(k.Name, "-"), k.Port, k.PID, k.Proof, k.From)
	}
	for _, list := range []struct {
		what  string
		items []string
	}{
		{"workers that may be running, for hive to verify", p.ToVerify},
		{"workers that are no longer running, recorded as failed", p.Failed},
		{"processes that are left alone", p.LeftAlone},
		{"lost", p.Lost},
	} {
		if len(list.items) > 0 {
			add("%s: %d", list.what, len(list.items))
			addList(list.items)
		}
	}
	text := "records of the new file:"
	for _, c := range p.Records {
		text += fmt.Sprintf(" %s %d", c.Bucket, c.Records)
	}
	return append(lines, text)
}

// JSON is the plan for a program.
func (s *Salvage) JSON() any {
	p := s.plan
	type worker struct {
		WorkerID string `json:"worker_id"`
		Name     string `json:"name"`
		Port     uint16 `json:"port"`
		PID      int    `json:"pid"`
		From     string `json:"from"`
		Proof    string `json:"proof"`
	}
	living := []worker{}
	for _, k := range p.Living {
		living = append(living, worker(k))
	}
	return map[string]any{
		"path": State(s.dir), "bytes": p.Bytes, "findings": orEmpty(p.Damage), "backup": orNull(p.Backup), "living": living,
		"judged": orEmpty(p.ToVerify), "failed": orEmpty(p.Failed), "left_alone": orEmpty(p.LeftAlone), "lost": orEmpty(p.Lost), "records": p.Records,
	}
}

func orEmpty[T any](list []T) []T { return append([]T{}, list...) }

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
