//go:build linux

package store

import (
	"go.etcd.io/bbolt"

	"rbeehive/migrations"
	"rbeehive/store/internal/kv"
)

// SetCommit replaces what a commit is, to make it fail.
func SetCommit(s *Store, commit func(*bbolt.Tx) error) { s.commit = commit }

// SetSteps gives Open other migrations than those of this build.
func SetSteps(o *Options, steps []migrations.Step) { o.steps = steps }

// RawPut writes a record without the rules of the typed methods.
func RawPut(tx *Tx, b string, key []byte, v any) error { return tx.kv.Put(kv.Bucket(b), key, v) }

// RawDelete removes a record without the rules of the typed methods.
func RawDelete(tx *Tx, b string, key []byte) error { return tx.kv.Delete(kv.Bucket(b), key) }

// RawKeys lists the keys of a bucket.
func RawKeys(tx *Tx, b string) ([]string, error) {
	var keys []string
	for e, err := range tx.kv.Scan(kv.Bucket(b), kv.Range{}) {
		if err != nil {
			return nil, err
		}
		keys = append(keys, string(e.Key))
	}
	return keys, nil
}

// Queued is how many calls wait for the writer.
func Queued(s *Store) int {
	s.writer.mu.Lock()
	defer s.writer.mu.Unlock()
	return len(s.writer.queue)
}

// Closing reports whether the store refuses new work.
func Closing(s *Store) bool {
	s.writer.mu.Lock()
	defer s.writer.mu.Unlock()
	return s.writer.closing
}
