package store

import (
	"context"
	"errors"
	"fmt"
	"os"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"rbeehive/store/internal/disk"
	"rbeehive/store/internal/kv"
	"rbeehive/store/internal/page"
)

// maxFindings bounds the report: one bad page can spoil thousands of records.
const maxFindings = 100

// Check checks everything: the structure of the file (with bbolt's own Check, while writers
// wait), the checksum and form of every record, and the invariants:
//
//   - a lease is under its own port, and a PID mapping exists exactly for the
//     leases with an identity, with the lease's id;
//   - a worker that has not ended has the lease of its ports;
//   - a worker's lease that is held has a record of the worker;
//   - each index entry has its event and each event its index entries;
//   - the events of a job are numbered 1, 2, 3, ..., but for the first of them in a
//     file that is older than these numbers.
//
// nil: nothing is wrong; else all findings (at most 100), joined: *CorruptError and
// ErrInconsistent. ErrClosed, ErrFailed and ctx's error end it early.
func (s *Store) Check(ctx context.Context) error {
	// The structure first: in a broken tree records cannot be found.
	if err := s.checkStructure(ctx); err != nil {
		return err
	}
	c := &checker{ctx: ctx}
	err := s.View(func(tx *Tx) error {
		c.tx = tx
		defer disk.ForgetPages(s.db.Info().Data, tx.kv.Bolt().Size())
		return c.run()
	})
	return errors.Join(append(c.findings, err)...)
}

// checkStructure holds a write transaction, because bbolt's Check reads the list of free
// pages that writers change. Our own check comes first: bbolt's runs on a goroutine of its
// own, where a fault ends the process.
func (s *Store) checkStructure(ctx context.Context) error {
	if err := s.Err(); err != nil {
		return fmt.Errorf("check: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("check: %w", err)
	}
	if err := s.checkLength(); err != nil {
		return fmt.Errorf("check: %w", err)
	}
	btx, err := s.db.Begin(true)
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return fmt.Errorf("check: %w", ErrClosed)
	}
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	defer func() { _ = btx.Rollback() }() // nothing was written
	if err := examine(s.file, s.path); err != nil {
		return err
	}
	return errors.Join(boltFindings(s.file, btx, s.path)...)
}

// boltFindings is what bbolt's Check finds, if it can be asked: it panics where one meta page
// is lost, and all that the other one leads to is whole.
func boltFindings(f *os.File, btx *bbolt.Tx, path string) (findings []error) {
	if page.OneMeta(f, btx.Size()) {
		return nil
	}
	for err := range btx.Check() {
		// No break: bbolt's goroutine sends until it is done.
		if len(findings) < maxFindings {
			findings = append(findings, &CorruptError{Path: path, Reason: err.Error()})
		}
	}
	return findings
}

// checker collects what is wrong with the records.
type checker struct {
	ctx      context.Context
	tx       *Tx
	findings []error
}

var errEnough = errors.New("more findings are not listed")

func (c *checker) run() error {
	checks := []func() error{
		c.records, c.leases, c.pids, c.workers, c.events, c.keys,
		func() error { return c.index(kv.ByJob) },
		func() error { return c.index(kv.ByWorker) },
	}
	for i, check := range checks {
		err := check()
		switch {
		// After any other error the other checks go on.
		case errors.Is(err, errEnough), errors.Is(err, c.ctx.Err()) && err != nil:
			return err
		case err != nil:
			c.findings = append(c.findings, err)
		}
		// With a record that cannot be read the other checks would only report its absence.
		if i == 0 && len(c.findings) > 0 {
			return nil
		}
	}
	return nil
}

// report adds a finding; its error ends the check.
func (c *checker) report(err error) error {
	c.findings = append(c.findings, err)
	if len(c.findings) >= maxFindings {
		return errEnough
	}
	return c.ctx.Err()
}

func (c *checker) inconsistent(b kv.Bucket, key []byte, format string, args ...any) error {
	return c.report(&InconsistentError{Bucket: string(b), Key: kv.KeyName(b, key), Reason: fmt.Sprintf(format, args...)})
}

// records verifies every envelope and decodes every record.
func (c *checker) records() error {
	if err := c.envelopes(); err != nil || len(c.findings) > 0 {
		return err
	}
	// The other buckets are decoded by their own checks.
	for _, err := range kv.All[Tombstone](c.tx.kv, kv.Ended, kv.Range{}) {
		if err != nil {
			return err
		}
	}
	for _, err := range c.tx.Jobs("", false) {
		if err != nil {
			return err
		}
	}
	for _, err := range c.tx.NamedPorts() {
		if err != nil {
			return err
		}
	}
	if _, err := c.tx.EventBounds(); err != nil {
		return err
	}
	if _, err := c.tx.Queen(); err != nil {
		return err
	}
	if _, err := c.tx.secret(); err != nil {
		return err
	}
	_, err := c.tx.Cursor()
	return err
}

// envelopes verifies the checksum of every record.
func (c *checker) envelopes() error {
	for _, b := range kv.Buckets() {
		bb, err := c.tx.kv.Bucket(b)
		if err != nil {
			if err := c.report(err); err != nil {
				return err
			}
			continue
		}
		// Not by scan, which ends with the first bad record: all are to be named.
		cursor := bb.Cursor()
		for k, v := cursor.First(); k != nil; k, v = cursor.Next() {
			_, err := kv.Unseal(b, k, v)
			if err == nil {
				err = c.ctx.Err()
			} else {
				err = c.report(c.tx.kv.Corrupt(b, k, err.Error()))
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *checker) leases() error {
	for e, err := range c.tx.kv.Scan(kv.Leases, kv.Range{}) {
		if err != nil {
			return err
		}
		// Not by tx.Leases: the record is compared with its key.
		var l Lease
		if err := c.tx.kv.Decode(kv.Leases, e.Key, e.Payload, &l); err != nil {
			return err
		}
		if string(e.Key) != string(kv.BE16(l.Port)) {
			if err := c.inconsistent(kv.Leases, e.Key, "the lease of port %d is under key %x", l.Port, e.Key); err != nil {
				return err
			}
		}
		if err := c.lease(l); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) lease(l Lease) error {
	if l.Identity != nil {
		var leaseID string
		err := c.tx.kv.Get(kv.PIDs, kv.PIDKey(l.Identity.PID, l.Port), &leaseID)
		if kv.IgnoreMissing(err) != nil {
			return err
		}
		if leaseID != l.LeaseID {
			err := c.inconsistent(kv.Leases, kv.BE16(l.Port), "lease %s of port %d has process %d, whose mapping says %q",
				l.LeaseID, l.Port, l.Identity.PID, leaseID)
			if err != nil {
				return err
			}
		}
	}
	// A quarantined lease outlives its worker's record.
	if l.Kind != LeaseWorker || l.State != LeaseHeld {
		return nil
	}
	known, err := c.tx.kv.Has(kv.Workers, []byte(l.WorkerID))
	if err != nil || known {
		return err
	}
	return c.inconsistent(kv.Leases, kv.BE16(l.Port), "lease %s of port %d is held by worker %q, which has no record", l.LeaseID, l.Port, l.WorkerID)
}

func (c *checker) pids() error {
	for e, err := range c.tx.kv.Scan(kv.PIDs, kv.Range{}) {
		if err != nil {
			return err
		}
		var leaseID string
		if err := c.tx.kv.Decode(kv.PIDs, e.Key, e.Payload, &leaseID); err != nil {
			return err
		}
		pid, port, ok := kv.SplitPIDKey(e.Key)
		if !ok {
			if err := c.inconsistent(kv.PIDs, e.Key, "PID mapping under key %x", e.Key); err != nil {
				return err
			}
			continue
		}
		// The other way round: each lease has been compared with its mapping.
		l, err := c.tx.Lease(port)
		if kv.IgnoreMissing(err) != nil {
			return err
		}
		if err == nil && l.LeaseID == leaseID && l.Identity != nil && l.Identity.PID == pid {
			continue
		}
		if err := c.inconsistent(kv.PIDs, e.Key, "process %d is mapped to port %d by lease %s, which does not name it", pid, port, leaseID); err != nil {
			return err
		}
	}
	return nil
}

func (c *checker) workers() error {
	for w, err := range c.tx.Workers() {
		if err != nil {
			return err
		}
		if w.State.Ended() {
			continue
		}
		// All of its ports: a start on a port that is another's would fight for it.
		for _, port := range append([]uint16{w.Port}, w.Ports...) {
			l, err := c.tx.Lease(port)
			if kv.IgnoreMissing(err) != nil {
				return err
			}
			if err == nil && l.LeaseID == w.LeaseID {
				continue
			}
			if err := c.inconsistent(kv.Workers, []byte(w.WorkerID), "worker %s is %s and does not hold port %d by lease %s", w.WorkerID, w.State, port, w.LeaseID); err != nil {
				return err
			}
		}
	}
	return nil
}

// events demands the index entries of every event. Those of a worker may be
// gone with its record while the event stays with its job.
func (c *checker) events() error {
	var last uint64
	for e, err := range c.tx.kv.Scan(kv.Events, kv.Range{}) {
		if err != nil {
			return err
		}
		var ev Event
		if err := c.tx.kv.Decode(kv.Events, e.Key, e.Payload, &ev); err != nil {
			return err
		}
		if string(e.Key) != string(kv.BE64(ev.Seq)) {
			if err := c.inconsistent(kv.Events, e.Key, "event %d is under key %x", ev.Seq, e.Key); err != nil {
				return err
			}
		}
		last = ev.Seq
		if err := c.event(ev); err != nil {
			return err
		}
	}
	b, err := c.tx.EventBounds()
	// bbolt's sequence has no checksum; behind an event it would give out its number again.
	if err == nil && b.Newest < max(last, b.Pruned) {
		return c.inconsistent(kv.Events, kv.BE64(max(last, b.Pruned)), "the sequence of events is at %d, behind event %d", b.Newest, max(last, b.Pruned))
	}
	return err
}

func (c *checker) event(ev Event) error {
	for _, ix := range indexesOf(ev) {
		present, err := c.tx.kv.Has(ix.bucket, kv.IndexKey(ix.id, ev.Seq))
		if err != nil {
			return err
		}
		wanted := true
		if ix.bucket == kv.ByWorker {
			// A worker's index goes with its record, while the event may still belong to a job.
			wanted, err = c.tx.kv.Has(kv.Workers, []byte(ix.id))
		}
		if err != nil {
			return err
		}
		if wanted && !present {
			if err := c.inconsistent(kv.Events, kv.BE64(ev.Seq), "event %d is missing in %s of %s", ev.Seq, ix.bucket, ix.id); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *checker) index(b kv.Bucket) error {
	var job jobNumbers
	for e, err := range c.tx.kv.Scan(b, kv.Range{}) {
		if err != nil {
			return err
		}
		var ev Event
		// An entry without its event is an error to every reader of that job or worker.
		err := c.tx.kv.Get(kv.Events, kv.IndexSeq(e.Key), &ev)
		if kv.IgnoreMissing(err) != nil {
			return err
		}
		id := ev.JobID
		if b == kv.ByWorker {
			id = ev.WorkerID
		}
		if err == nil && string(kv.IndexKey(id, ev.Seq)) == string(e.Key) {
			if b == kv.ByJob {
				err = c.number(&job, ev)
			}
			if err != nil {
				return err
			}
			continue
		}
		if err := c.inconsistent(b, e.Key, "%s has %x, but there is no such event", b, e.Key); err != nil {
			return err
		}
	}
	return nil
}

// keys demands that every idempotency key stands for a job that has that key.
func (c *checker) keys() error {
	for e, err := range c.tx.kv.Scan(kv.Keys, kv.Range{}) {
		if err != nil {
			return err
		}
		var k Keyed
		if err := c.tx.kv.Decode(kv.Keys, e.Key, e.Payload, &k); err != nil {
			return err
		}
		j, err := c.tx.Job(k.JobID)
		if kv.IgnoreMissing(err) != nil {
			return err
		}
		// A key that stands for another job would answer with that one's result.
		if err == nil && j.Key == string(e.Key) {
			continue
		}
		if err := c.inconsistent(kv.Keys, e.Key, "an idempotency key stands for job %q, which does not have that key", k.JobID); err != nil {
			return err
		}
	}
	return nil
}

// jobNumbers follows the numbers of one job's events after the other's.
type jobNumbers struct {
	id       string
	count    uint64
	recorded bool // an event before has a number; without, it is of an older file
}

// number demands that an event has the next number of its job. Events of a job
// without a record are removed one by one.
func (c *checker) number(job *jobNumbers, ev Event) error {
	if job.isNext(ev) {
		return nil
	}
	kept, err := c.tx.kv.Has(kv.Jobs, []byte(ev.JobID))
	if err != nil || !kept {
		return err
	}
	return c.inconsistent(kv.Events, kv.BE64(ev.Seq), "event %d is number %d of %s, expected %d", ev.Seq, ev.JobSeq, ev.JobID, job.count)
}

// isNext reports whether an event has the next number of its job.
func (n *jobNumbers) isNext(ev Event) bool {
	if ev.JobID != n.id {
		*n = jobNumbers{id: ev.JobID}
	}
	n.count++
	n.recorded = n.recorded || ev.JobSeq != 0
	return ev.JobSeq == n.count || (ev.JobSeq == 0 && !n.recorded)
}

// verify checks the envelope of every record in a bucket.
func (tx *Tx) verify(ctx context.Context, b kv.Bucket) error {
	for _, err := range tx.kv.Scan(b, kv.Range{}) {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}
