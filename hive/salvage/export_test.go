package salvage

import (
	"time"

	"rbeehive/hive/proc"
	"rbeehive/store"
)

// Decided is what a decision has come to.
type Decided struct {
	Content                     store.Content
	Living                      []Kept
	Judged, Failed, Apart, Lost []string
}

// Alive is the processes of one worker.
type Alive struct {
	Main  *store.Identity
	Found []proc.Living
	Ports []uint16
}

// Decide decides about made-up files and processes.
func Decide(file, backup *store.Gathered, alive map[string]Alive, now time.Time) Decided {
	s := &seen{alive: map[string]*group{}}
	for id, a := range alive {
		s.alive[id] = &group{main: a.Main, found: a.Found, ports: a.Ports}
	}
	d := newDecision(&known{file, backup}, s, "/data/logs", now)
	c := d.decide()
	return Decided{c, d.living, d.toVerify, d.failed, d.leftAlone, d.lost}
}
