package audit_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"rbeehive/hive/audit"
	"rbeehive/store"
)

func TestNothingIsFoundWhereAllIsWell(t *testing.T) {
	r := newRig(t, 4)
	require.Equal(t, audit.Report{}, r.Last())
	r.worker(r.record("w", store.WorkerReady, r.port(0), r.port(1)), r.at("127.0.0.1", 0), r.at("127.0.0.1", 1))
	r.update(func(tx *store.Tx) error {
		return tx.PutLease(store.Lease{Port: r.port(2), LeaseID: "ttl", Kind: store.LeaseTTL, State: store.LeaseHeld, TTL: time.Hour})
	})
	for n := 1; n <= 2; n++ {
		begun := time.Now()
		report, err := r.Audit(t.Context())
		require.NoError(t, err)
		require.Empty(t, report.Findings)
		require.Equal(t, n, report.Runs)
		require.WithinRange(t, report.At, begun, time.Now())
		require.Positive(t, report.Took)
		require.Equal(t, report, r.Last())
	}
	require.Empty(t, r.events())
	require.Empty(t, r.workers.rechecked)
}

// What the owners of the records can mend is no finding.
func TestRecordsAreReviewedFirst(t *testing.T) {
	r := newRig(t, 1)
	r.update(func(tx *store.Tx) error {
		return tx.PutLease(store.Lease{Port: r.port(0), LeaseID: "l", Kind: store.LeaseTTL, State: store.LeaseQuarantined, Reason: "x"})
	})
	r.review = func() {
		r.update(func(tx *store.Tx) error { _, err := tx.EndLease(r.port(0), "l"); return err })
	}
	require.Empty(t, r.audit())
	require.Equal(t, 1, r.reviewed)
}

// A finding that is still there is the same one: it has its age. What comes and goes begins
// anew each time.
func TestFindingsAgeInARow(t *testing.T) {
	r := newRig(t, 2)
	rec := r.record("w", store.WorkerReady, r.port(0))
	r.worker(rec)
	first := r.one()
	require.Equal(t, []any{audit.FindingNotListening, 1}, []any{first.Code, first.Sightings})
	require.Equal(t, r.Last().At, first.Since)
	require.Empty(t, r.workers.rechecked, "once may be a moment between two states")
	require.Empty(t, r.events())
	second, third := r.one(), r.one()
	require.Equal(t, []int{2, 3}, []int{second.Sightings, third.Sightings})
	require.Equal(t, []time.Time{first.Since, first.Since}, []time.Time{second.Since, third.Since})
	require.Equal(t, []string{"w", "w"}, r.workers.rechecked)

	here := r.workers.processes
	r.workers.processes = nil
	require.Empty(t, r.audit())
	r.workers.processes = here
	again := r.one()
	require.Equal(t, 1, again.Sightings)
	require.True(t, again.Since.After(first.Since))
	require.Len(t, r.workers.rechecked, 2)
}

// A finding that lasts is told once, with what a program needs to know of it.
func TestAFindingThatLastsIsAnEvent(t *testing.T) {
	r := newRig(t, 1)
	r.worker(r.record("w", store.WorkerReady, r.port(0)))
	for range 4 {
		r.audit()
	}
	require.Equal(t, []string{fmt.Sprintf("nothing listens on port %d of worker w", r.port(0))}, r.events())
	require.NoError(t, r.store.View(func(tx *store.Tx) error {
		evs, err := tx.Events(0, 10)
		require.Equal(t, "w", evs[0].WorkerID)
		var data map[string]any
		require.NoError(t, json.Unmarshal(evs[0].Data, &data))
		require.Equal(t, map[string]any{"code": "not_listening", "port": float64(r.port(0)), "lease_id": "lease-of-w", "pid": 0.0, "program": ""}, data)
		return err
	}))
	require.Len(t, r.logs.AllEntries(), 1)
	require.Equal(t, "audit: "+r.events()[0], r.logs.LastEntry().Message)
}

// Who has quarantined or could not verify a lease has told so already.
func TestWhatWasToldIsNotToldAgain(t *testing.T) {
	r := newRig(t, 2)
	r.update(func(tx *store.Tx) error {
		for i, state := range []store.LeaseState{store.LeaseQuarantined, store.LeaseUnverified} {
			l := store.Lease{Port: r.port(i), LeaseID: fmt.Sprint(i), Kind: store.LeaseTTL, State: state, Reason: "why"}
			if err := tx.PutLease(l); err != nil {
				return err
			}
		}
		return nil
	})
	for range 3 {
		require.Equal(t, []string{audit.FindingQuarantined, audit.FindingUnverified}, codes(r.audit()))
	}
	require.Empty(t, r.events())
	require.Empty(t, r.logs.AllEntries())
}

func TestFindingsAreInOrder(t *testing.T) {
	r := newRig(t, 4)
	for _, n := range []int{2, 0, 1} {
		r.worker(r.record(fmt.Sprintf("w%d", n), store.WorkerReady, r.port(n)))
	}
	r.update(func(tx *store.Tx) error {
		return tx.PutLease(store.Lease{Port: r.port(3), LeaseID: "q", Kind: store.LeaseTTL, State: store.LeaseQuarantined})
	})
	var order []string
	for _, f := range r.audit() {
		order = append(order, fmt.Sprint(f.Code, " ", f.Port-r.port(0)))
	}
	require.Equal(t, []string{"not_listening 0", "not_listening 1", "not_listening 2", "quarantined 3"}, order)
}

// Two at once are enough for all that takes a second sighting, and a third says what is left.
func TestRepair(t *testing.T) {
	r := newRig(t, 1)
	r.worker(r.record("w", store.WorkerReady, r.port(0)))
	report, err := r.Repair(t.Context())
	require.NoError(t, err)
	require.Equal(t, []int{3, 3}, []int{report.Runs, report.Findings[0].Sightings})
	require.Equal(t, 3, r.reviewed)
	require.Equal(t, []string{"w", "w"}, r.workers.rechecked)
	require.Equal(t, report, r.Last())
}

// An audit that was cut short has missed things: it does not count, or they would be new in
// the next one.
func TestAnAuditThatIsGivenUp(t *testing.T) {
	r := newRig(t, 1)
	r.worker(r.record("w", store.WorkerReady, r.port(0)))
	r.audit()
	before := r.Last()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := r.Audit(ctx)
	require.ErrorIs(t, err, context.Canceled)
	_, err = r.Repair(ctx)
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, before, r.Last())
	require.Equal(t, 2, r.one().Sightings)
}

// Each code is a series of a metric: one that is not listed would have none.
func TestFindingCodes(t *testing.T) {
	list := audit.FindingCodes()
	require.Len(t, list, 10)
	slices.Sort(list)
	require.Equal(t, list, slices.Compact(slices.Clone(list)))
	require.Contains(t, list, audit.FindingBeside)
	require.Contains(t, list, audit.FindingContested)
}
