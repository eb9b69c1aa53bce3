package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"rbeehive/store/internal/kv"
	"rbeehive/store/internal/page"
)

// Source says how far a record that was read from a damaged file can be relied
// on. A lower one goes before a higher one.
type Source = page.Source

// The sources of a record.
const (
	FromTree   = page.FromTree
	FromLost   = page.FromLost
	FromFreed  = page.FromFreed
	FromBackup = page.FromBackup
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
	g := &gatherer{out: &Gathered{Whole: map[string]bool{}}, damaged: map[kv.Bucket]bool{}}
	w, err := page.NewWalker(file, g.record, g.damage)
	if err != nil {
		return nil, err
	}
	g.out.Bytes = w.Size()
	g.backup = backup
	if err = w.Tree(); err == nil || errors.Is(err, page.ErrNoMeta) {
		if err != nil {
			g.damage("", err.Error())
		}
		for _, b := range kv.Buckets() {
			// Damage in no particular bucket may have cost records of any.
			g.out.Whole[string(b)] = !g.damaged[b] && !g.damaged[""]
		}
		// Of a backup only the tree: its freed pages are older still.
		if !backup {
			err = w.Unreached()
		}
	}
	if err != nil && !errors.Is(err, page.ErrNoMeta) {
		return nil, fmt.Errorf("read the damaged file: %w", err)
	}
	// Only now: the number may have been read last.
	if g.schema > 0 {
		if err := supported(g.schema); err != nil {
			return nil, err
		}
	}
	g.out.Sequence = max(g.out.Sequence, w.Sequence())
	return g.out, nil
}

type gatherer struct {
	out     *Gathered
	damaged map[kv.Bucket]bool
	backup  bool
	schema  int // of the tree
}

func (g *gatherer) damage(b kv.Bucket, reason string) {
	g.damaged[b] = true
	g.add(Finding{Bucket: string(b), Reason: reason})
}

func (g *gatherer) add(f Finding) {
	if len(g.out.Damage) < maxFindings {
		g.out.Damage = append(g.out.Damage, f)
	}
}

func (g *gatherer) record(r page.Record) error {
	if g.backup {
		r.Source = FromBackup
	}
	// The tree has the whole bucket, so this is of the past.
	if r.Source > FromTree && g.out.Whole[string(r.Bucket)] {
		return nil
	}
	payload, err := kv.Unseal(r.Bucket, r.Key, r.Value)
	if err == nil {
		err = g.decode(r, payload)
	}
	if err != nil && r.Source == FromTree {
		g.damaged[r.Bucket] = true
		g.add(Finding{Bucket: string(r.Bucket), Key: kv.KeyName(r.Bucket, r.Key), Reason: err.Error()})
	}
	return nil
}

func (g *gatherer) decode(r page.Record, payload []byte) error {
	o := g.out
	switch r.Bucket {
	case kv.Meta:
		return g.meta(r, payload)
	case kv.Leases:
		// Each is compared with its key: on a lost page they need not belong together.
		return gather(&o.Leases, r, payload, func(l Lease) bool { return string(r.Key) == string(kv.BE16(l.Port)) && l.valid() == nil })
	case kv.Ended:
		return gather(&o.Tombstones, r, payload, func(t Tombstone) bool { return string(r.Key) == string(t.key()) })
	case kv.Workers:
		return gather(&o.Workers, r, payload, func(w Worker) bool { return string(r.Key) == w.WorkerID })
	case kv.Jobs:
		return gather(&o.Jobs, r, payload, func(j Job) bool { return string(r.Key) == j.JobID })
	case kv.Events:
		return gather(&o.Events, r, payload, func(e Event) bool {
			o.Sequence = max(o.Sequence, e.Seq)
			return string(r.Key) == string(kv.BE64(e.Seq))
		})
	case kv.Names:
		var port uint16
		err := json.Unmarshal(payload, &port)
		if err == nil {
			o.Names = append(o.Names, Version[NamedPort]{NamedPort{string(r.Key), port}, r.Source})
		}
		return err
	case kv.Keys:
		var k Keyed
		err := json.Unmarshal(payload, &k)
		if err == nil {
			o.Keys = append(o.Keys, Version[KeyedJob]{KeyedJob{string(r.Key), k}, r.Source})
		}
		return err
	}
	return nil // an index, or the PID mapping: rebuilt from the records
}

// gather decodes a record and keeps it if it belongs to its key.
func gather[T any](list *[]Version[T], r page.Record, payload []byte, fits func(T) bool) error {
	var record T
	if err := json.Unmarshal(payload, &record); err != nil {
		return err
	}
	if !fits(record) {
		return errors.New("the record does not belong to its key")
	}
	*list = append(*list, Version[T]{record, r.Source})
	return nil
}

func (g *gatherer) meta(r page.Record, payload []byte) error {
	o := g.out
	switch string(r.Key) {
	case kv.KeySchema:
		var schema int
		err := json.Unmarshal(payload, &schema)
		// Only the tree's: a freed page may be from before a migration.
		if err == nil && r.Source == FromTree {
			g.schema = schema
		}
		return err
	case kv.KeyStateID:
		return gather(&o.StateIDs, r, payload, func(id string) bool { return id != "" })
	case kv.KeySecret:
		s, err := decodeSecret(payload)
		if err == nil {
			o.Secrets = append(o.Secrets, Version[Secret]{s, r.Source})
		}
		return err
	case kv.KeyMachineID:
		return gather(&o.MachineIDs, r, payload, func(string) bool { return true })
	case kv.KeyCreatedAt:
		return gather(&o.CreatedAt, r, payload, func(time.Time) bool { return true })
	case kv.KeyIncarnation:
		var n uint64
		err := json.Unmarshal(payload, &n)
		if err == nil {
			// It only grows, so the highest is the newest.
			o.Incarnation = max(o.Incarnation, n)
		}
		return err
	case kv.KeyPruned:
		var seq uint64
		err := json.Unmarshal(payload, &seq)
		if err == nil {
			// Both only grow, wherever they were found.
			o.Pruned, o.Sequence = max(o.Pruned, seq), max(o.Sequence, seq)
		}
		return err
	case kv.KeyCursor:
		var port uint16
		err := json.Unmarshal(payload, &port)
		if err == nil && (o.Cursor == 0 || r.Source == FromTree) {
			o.Cursor = port
		}
		return err
	}
	return nil
}
