package store

import (
	"fmt"
	"iter"

	"rbeehive/store/internal/kv"
)

// Worker returns the record of a worker. Errors: ErrNotFound.
func (tx *Tx) Worker(id string) (Worker, error) {
	var w Worker
	if err := tx.kv.Get(kv.Workers, []byte(id), &w); err != nil {
		return Worker{}, fmt.Errorf("worker %s: %w", id, err)
	}
	return w, nil
}

// PutWorker writes the record of a worker. Errors: ErrInvalid without an id.
func (tx *Tx) PutWorker(w Worker) error {
	if w.WorkerID == "" {
		return fmt.Errorf("worker: %w: no worker id", ErrInvalid)
	}
	if err := tx.kv.Put(kv.Workers, []byte(w.WorkerID), w); err != nil {
		return fmt.Errorf("write worker %s: %w", w.WorkerID, err)
	}
	return nil
}

// DeleteWorker removes a worker's record, its index of events, and those of its
// events that belong to no job. It need not exist. Its id must not be used
// again: events of its jobs stay, and are no longer in the index.
func (tx *Tx) DeleteWorker(id string) error {
	if err := tx.kv.Delete(kv.Workers, []byte(id)); err != nil {
		return fmt.Errorf("delete worker %s: %w", id, err)
	}
	// Events of a job go with the job, so that its numbers have no gaps.
	if err := tx.dropIndex(kv.ByWorker, id, func(ev Event) bool { return ev.JobID == "" }); err != nil {
		return fmt.Errorf("delete worker %s: %w", id, err)
	}
	return nil
}

// Workers yields all workers by id. The loop may write. An error ends it.
func (tx *Tx) Workers() iter.Seq2[Worker, error] {
	return kv.All[Worker](tx.kv, kv.Workers, kv.Range{})
}

// NamedPort returns the port a worker name had last. Errors: ErrNotFound.
func (tx *Tx) NamedPort(name string) (uint16, error) {
	var port uint16
	if err := tx.kv.Get(kv.Names, []byte(name), &port); err != nil {
		return 0, fmt.Errorf("port of name %s: %w", name, err)
	}
	return port, nil
}

// SetNamedPort remembers the port of a worker name; port 0 forgets the name.
// Errors: ErrInvalid for an empty name.
func (tx *Tx) SetNamedPort(name string, port uint16) error {
	if name == "" {
		return fmt.Errorf("port of a name: %w: no name", ErrInvalid)
	}
	var err error
	if port == 0 {
		err = tx.kv.Delete(kv.Names, []byte(name))
	} else {
		err = tx.kv.Put(kv.Names, []byte(name), port)
	}
	if err != nil {
		return fmt.Errorf("set the port of name %s: %w", name, err)
	}
	return nil
}

// NamedPort is the port that a worker name had last.
type NamedPort struct {
	Name string
	Port uint16
}

// NamedPorts yields all remembered names, in order. An error ends it.
func (tx *Tx) NamedPorts() iter.Seq2[NamedPort, error] {
	return func(yield func(NamedPort, error) bool) {
		for e, err := range tx.kv.Scan(kv.Names, kv.Range{}) {
			var n NamedPort
			if err == nil {
				n.Name = string(e.Key)
				err = tx.kv.Decode(kv.Names, e.Key, e.Payload, &n.Port)
			}
			if !yield(n, err) || err != nil {
				return
			}
		}
	}
}
