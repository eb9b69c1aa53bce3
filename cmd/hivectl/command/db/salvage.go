package db

import (
	"context"
	"fmt"

	"rbeehive/hive/salvage"
)

// Salvage is a plan to make a state file anew.
type Salvage struct {
	dir  string
	plan *salvage.Plan
}

// listed bounds lists in a plan.
const listed = 20

// PlanSalvage looks at the state file in dir, at the backups beside it, and at the
// processes, and says what can be done. Nothing is changed. It must be closed.
func PlanSalvage(ctx context.Context, dir string) (*Salvage, error) {
	if err := checkDir(dir); err != nil {
		return nil, err
	}
	p, err := salvage.Make(ctx, dir)
	if err := refuse("", err); err != nil {
		return nil, err
	}
	if err != nil {
		return nil, refusal(err, dir, "")
	}
	return &Salvage{dir, p}, nil
}

// Close lets go of the state file.
func (s *Salvage) Close() error { return s.plan.Close() }

// Carry does it, and returns where the damaged file is now; empty: there was none.
func (s *Salvage) Carry(ctx context.Context) (aside string, err error) {
	aside = s.plan.Aside()
	return aside, refusal(s.plan.Carry(ctx), s.dir, "")
}

// Lines is the plan for a person.
func (s *Salvage) Lines() []string {
	p := s.plan
	var lines []string
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	some := func(items []string) {
		for i, item := range items {
			if i == listed {
				say("  and %d more", len(items)-i)
				return
			}
			say("  %s", item)
		}
	}
	if p.Bytes == 0 {
		say("%s: there is none", State(s.dir))
	} else {
		places := "places cannot be read or contradict each other"
		if len(p.Damage) == 1 {
			places = "place cannot be read or contradicts another"
		}
		say("%s: %d bytes, %d %s", State(s.dir), p.Bytes, len(p.Damage), places)
	}
	var places []string
	for _, f := range p.Damage {
		places = append(places, f.String())
	}
	some(places)
	if p.Backup == "" {
		say("backup: none that is whole in %s/backups", s.dir)
	} else {
		say("backup: %s, of %s", p.Backup, p.BackupAt.Local().Format("2006-01-02 15:04:05"))
	}
	say("living workers, which hive will take back as they are: %d", len(p.Living))
	for _, k := range p.Living {
		say("  %s  port %d  pid %d  by %s  record from %s", k.WorkerID, k.Port, k.PID, k.Proof, k.From)
	}
	for _, list := range []struct {
		what  string
		items []string
	}{
		{"workers that are not seen to live, for hive to judge", p.Judged},
		{"workers that do not live any more, recorded as failed", p.Failed},
		{"processes that are left alone", p.Apart},
		{"lost", p.Lost},
	} {
		if len(list.items) > 0 {
			say("%s: %d", list.what, len(list.items))
			some(list.items)
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
		"judged": orEmpty(p.Judged), "failed": orEmpty(p.Failed), "left_alone": orEmpty(p.Apart), "lost": orEmpty(p.Lost), "records": p.Records,
	}
}

func orEmpty[T any](list []T) []T { return append([]T{}, list...) }

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
