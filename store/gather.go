package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"
)

// Version is a record as one place in a file, or in a backup of it, has it. Of a
// record that was changed a damaged file can hold several.
type Version[T any] struct {
	Record T
	Source Source
}

// Gathered is all that can be read of a state file, however damaged it is. Every
// record in it has passed its checksum.
type Gathered struct {
	StateIDs   []Version[string]
	Secrets    []Version[Secret]
	MachineIDs []Version[string]
	CreatedAt  []Version[time.Time]
	// Incarnation and Sequence (of the events) are the highest that were found.
	Incarnation uint64
	Sequence    uint64
	Pruned      uint64 // the highest number of an event that is known to have been removed
	Cursor      uint16

	Leases     []Version[Lease] // one for each port of a lease
	Tombstones []Version[Tombstone]
	Workers    []Version[Worker]
	Names      []Version[NamedPort]
	Jobs       []Version[Job]
	Keys       []Version[KeyedJob]
	Events     []Version[Event]

	// Damage is what could not be read, at most 100 findings of it.
	Damage []Finding
	// Whole are the buckets of which every record was read from the tree. What else was
	// found for them is outdated, and is left out.
	Whole map[string]bool
	Bytes int64 // length of the file
}

// KeyedJob is an idempotency key with what it stands for.
type KeyedJob struct {
	Key string
	Keyed
}

// Gather reads a state file that may be damaged anywhere. It does not use bbolt, changes
// nothing, and terminates whatever the file holds. The caller must see to it that nobody
// writes (FileLock). It returns an error only if the file cannot be read at all, or has a
// newer schema than this build (a *migrations.NewerError).
func Gather(file *os.File, backup bool) (*Gathered, error) {
	g := &gatherer{out: &Gathered{Whole: map[string]bool{}}, damaged: map[bucket]bool{}}
	w, err := newWalker(file, g.record, g.damage)
	if err != nil {
		return nil, err
	}
	g.out.Bytes = w.size
	g.backup = backup
	if err = w.tree(); err == nil || errors.Is(err, errNoMeta) {
		if err != nil {
			g.damage("", err.Error())
		}
		for _, b := range buckets() {
			// Damage in no particular bucket may have cost records of any.
			g.out.Whole[string(b)] = !g.damaged[b] && !g.damaged[""]
		}
		// Of a backup only the tree: its freed pages are older still.
		if !backup {
			err = w.unreached()
		}
	}
	if err != nil && !errors.Is(err, errNoMeta) {
		return nil, fmt.Errorf("read the damaged file: %w", err)
	}
	// Only now: the number may have been read last.
	if g.schema > 0 {
		if err := supported(g.schema); err != nil {
			return nil, err
		}
	}
	g.out.Sequence = max(g.out.Sequence, w.sequence)
	return g.out, nil
}

type gatherer struct {
	out     *Gathered
	damaged map[bucket]bool
	backup  bool
	schema  int // of the tree
}

func (g *gatherer) damage(b bucket, reason string) {
	g.damaged[b] = true
	g.add(Finding{Bucket: string(b), Reason: reason})
}

func (g *gatherer) add(f Finding) {
	if len(g.out.Damage) < maxFindings {
		g.out.Damage = append(g.out.Damage, f)
	}
}

func (g *gatherer) record(r rawRecord) error {
	if g.backup {
		r.source = FromBackup
	}
	// The tree has the whole bucket, so this is of the past.
	if r.source > FromTree && g.out.Whole[string(r.bucket)] {
		return nil
	}
	payload, err := unseal(r.bucket, r.key, r.value)
	if err == nil {
		err = g.decode(r, payload)
	}
	if err != nil && r.source == FromTree {
		g.damaged[r.bucket] = true
		g.add(Finding{Bucket: string(r.bucket), Key: keyName(r.bucket, r.key), Reason: err.Error()})
	}
	return nil
}

func (g *gatherer) decode(r rawRecord, payload []byte) error {
	o := g.out
	switch r.bucket {
	case bucketMeta:
		return g.meta(r, payload)
	case bucketLeases:
		// Each is compared with its key: on a lost page they need not belong together.
		return gather(&o.Leases, r, payload, func(l Lease) bool { return string(r.key) == string(be16(l.Port)) && l.valid() == nil })
	case bucketEnded:
		return gather(&o.Tombstones, r, payload, func(t Tombstone) bool { return string(r.key) == string(endedKey(t)) })
	case bucketWorkers:
		return gather(&o.Workers, r, payload, func(w Worker) bool { return string(r.key) == w.WorkerID })
	case bucketJobs:
		return gather(&o.Jobs, r, payload, func(j Job) bool { return string(r.key) == j.JobID })
	case bucketEvents:
		return gather(&o.Events, r, payload, func(e Event) bool {
			o.Sequence = max(o.Sequence, e.Seq)
			return string(r.key) == string(be64(e.Seq))
		})
	case bucketNames:
		var port uint16
		err := json.Unmarshal(payload, &port)
		if err == nil {
			o.Names = append(o.Names, Version[NamedPort]{NamedPort{string(r.key), port}, r.source})
		}
		return err
	case bucketKeys:
		var k Keyed
		err := json.Unmarshal(payload, &k)
		if err == nil {
			o.Keys = append(o.Keys, Version[KeyedJob]{KeyedJob{string(r.key), k}, r.source})
		}
		return err
	}
	return nil // an index, or the PID mapping: rebuilt from the records
}

// gather decodes a record and keeps it if it belongs to its key.
func gather[T any](list *[]Version[T], r rawRecord, payload []byte, fits func(T) bool) error {
	var record T
	if err := json.Unmarshal(payload, &record); err != nil {
		return err
	}
	if !fits(record) {
		return errors.New("the record does not belong to its key")
	}
	*list = append(*list, Version[T]{record, r.source})
	return nil
}

func (g *gatherer) meta(r rawRecord, payload []byte) error {
	o := g.out
	switch string(r.key) {
	case metaSchema:
		var schema int
		err := json.Unmarshal(payload, &schema)
		// Only the tree's: a freed page may be from before a migration.
		if err == nil && r.source == FromTree {
			g.schema = schema
		}
		return err
	case metaStateID:
		return gather(&o.StateIDs, r, payload, func(id string) bool { return id != "" })
	case metaSecret:
		s, err := decodeSecret(payload)
		if err == nil {
			o.Secrets = append(o.Secrets, Version[Secret]{s, r.source})
		}
		return err
	case metaMachineID:
		return gather(&o.MachineIDs, r, payload, func(string) bool { return true })
	case metaCreatedAt:
		return gather(&o.CreatedAt, r, payload, func(time.Time) bool { return true })
	case metaIncarnation:
		var n uint64
		err := json.Unmarshal(payload, &n)
		if err == nil {
			// It only grows, so the highest is the newest.
			o.Incarnation = max(o.Incarnation, n)
		}
		return err
	case metaPruned:
		var seq uint64
		err := json.Unmarshal(payload, &seq)
		if err == nil {
			// Both only grow, wherever they were found.
			o.Pruned, o.Sequence = max(o.Pruned, seq), max(o.Sequence, seq)
		}
		return err
	case metaCursor:
		var port uint16
		err := json.Unmarshal(payload, &port)
		if err == nil && (o.Cursor == 0 || r.source == FromTree) {
			o.Cursor = port
		}
		return err
	}
	return nil
}
