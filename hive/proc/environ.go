package proc

import "strings"

// environment is a list of variables without duplicates: the last value set counts.
type environment struct {
	list []string
	at   map[string]int
}

func newEnvironment(size int) *environment {
	return &environment{list: make([]string, 0, size), at: make(map[string]int, size)}
}

func (e *environment) set(name, value string) {
	kv := name + "=" + value
	if i, ok := e.at[name]; ok { // it keeps its place
		e.list[i] = kv
		return
	}
	e.at[name] = len(e.list)
	e.list = append(e.list, kv)
}

func (e *environment) setAll(list []string) {
	for _, kv := range list {
		if name, value, ok := strings.Cut(kv, "="); ok && name != "" {
			e.set(name, value)
		}
	}
}

// stamped returns the spec's environment with the stamps for a process of user uid, which
// replace any that are there: those of a hive that runs this one as a worker, perhaps.
func (s *Spec) stamped(uid uint32) []string {
	vars := newEnvironment(len(s.Env) + 6)
	vars.setAll(s.Env)
	vars.set(StampState, s.StateID)
	vars.set(StampLease, s.LeaseID)
	vars.set(StampWorker, s.WorkerID)
	if proof := Prove(s.Secret, s.StateID, s.LeaseID, s.WorkerID, uid); proof != "" {
		vars.set(StampProof, proof)
	}
	if s.Name == "" {
		return vars.list
	}
	vars.set(StampName, s.Name)
	if proof := ProveName(s.Secret, s.LeaseID, s.WorkerID, s.Name, uid); proof != "" {
		vars.set(StampNameProof, proof)
	}
	return vars.list
}
