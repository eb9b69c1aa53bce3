package migrations

import (
	"fmt"

	"go.etcd.io/bbolt"
)

// createSchema1 makes the buckets of schema 1. They are all made here and never
// later: store's transactions undo single keys, and cannot undo a new bucket.
func createSchema1(tx *bbolt.Tx) error {
	buckets := []string{
		"meta", "leases", "pids", "ended", "workers", "names",
		"jobs", "events", "byjob", "byworker", "keys",
	}
	for _, name := range buckets {
		if _, err := tx.CreateBucket([]byte(name)); err != nil {
			return fmt.Errorf("create bucket %q: %w", name, err)
		}
	}
	return nil
}
