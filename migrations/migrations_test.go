package migrations_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
	"go.uber.org/goleak"

	"rbeehive/migrations"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func openDB(t *testing.T) *bbolt.DB {
	t.Helper()
	db, err := bbolt.Open(filepath.Join(t.TempDir(), "hive.db"), 0o600, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

func version(t *testing.T, db *bbolt.DB) int {
	t.Helper()
	n := -1
	require.NoError(t, db.View(func(tx *bbolt.Tx) (err error) {
		n, err = migrations.Version(tx)
		return err
	}))
	return n
}

func bucketNames(t *testing.T, db *bbolt.DB) (names []string) {
	t.Helper()
	require.NoError(t, db.View(func(tx *bbolt.Tx) error {
		return tx.ForEach(func(name []byte, _ *bbolt.Bucket) error {
			names = append(names, string(name))
			return nil
		})
	}))
	return names
}

func noBackup(t *testing.T) func(*bbolt.Tx, int) error {
	return func(*bbolt.Tx, int) error {
		t.Error("a backup was made")
		return nil
	}
}

// withStep2 is a build that knows one schema more.
func withStep2(run func(*bbolt.Tx) error) []migrations.Step {
	return append(migrations.Steps(), migrations.Step{To: 2, Name: "second", Run: run})
}

func addBucket(tx *bbolt.Tx) error {
	_, err := tx.CreateBucket([]byte("second"))
	return err
}

// The buckets and the record of schema 1 as they are in files out there.
func TestSchema1IsFrozen(t *testing.T) {
	db := openDB(t)
	require.Zero(t, version(t, db))
	require.NoError(t, migrations.Apply(db, migrations.Steps()[:1], noBackup(t)))
	require.Equal(t, 1, version(t, db))
	require.Equal(t, []string{
		"byjob", "byworker", "ended", "events", "jobs", "keys", "leases", "meta", "names", "pids", "workers",
	}, bucketNames(t, db))
	require.NoError(t, db.View(func(tx *bbolt.Tx) error {
		require.Equal(t, "\x01\x8a\x9a\xaa\x9f1", string(tx.Bucket([]byte("meta")).Get([]byte("schema"))))
		return nil
	}))
	require.NoError(t, migrations.Apply(db, migrations.Steps()[:1], noBackup(t)), "there is nothing to do")
}

func TestStepsOfThisBuildAreInOrder(t *testing.T) {
	steps := migrations.Steps()
	require.Equal(t, steps[len(steps)-1].To, migrations.Current())
	for i, step := range steps {
		require.Equal(t, i+1, step.To)
		require.NotEmpty(t, step.Name)
	}
	steps[0].To = 99
	require.Equal(t, 1, migrations.Steps()[0].To, "the slice is the caller's")
}

func TestBackupSeesTheFileAsItWas(t *testing.T) {
	db := openDB(t)
	require.NoError(t, migrations.Apply(db, migrations.Steps(), nil))
	called := 0
	require.NoError(t, migrations.Apply(db, withStep2(addBucket), func(tx *bbolt.Tx, from int) error {
		called++
		require.Equal(t, 1, from)
		require.Nil(t, tx.Bucket([]byte("second")))
		return nil
	}))
	require.Equal(t, 1, called)
	require.Equal(t, 2, version(t, db))
	require.Contains(t, bucketNames(t, db), "second")
}

func TestNothingChangesWhenTheBackupFails(t *testing.T) {
	db := openDB(t)
	require.NoError(t, migrations.Apply(db, migrations.Steps(), nil))
	broken := errors.New("no space for the backup")
	err := migrations.Apply(db, withStep2(addBucket), func(*bbolt.Tx, int) error { return broken })
	require.ErrorIs(t, err, broken)
	require.ErrorIs(t, migrations.Apply(db, withStep2(addBucket), nil), migrations.ErrSteps, "no migration without a backup")
	require.Equal(t, 1, version(t, db))
	require.NotContains(t, bucketNames(t, db), "second")
}

func TestFailedStepLeavesTheSchemaBefore(t *testing.T) {
	db := openDB(t)
	broken := errors.New("broken")
	err := migrations.Apply(db, withStep2(func(tx *bbolt.Tx) error {
		require.NoError(t, addBucket(tx))
		return broken
	}), noBackup(t))
	require.ErrorIs(t, err, broken)
	require.ErrorContains(t, err, "schema 2 (second)")
	require.Equal(t, 1, version(t, db), "the step before it stands")
	require.NotContains(t, bucketNames(t, db), "second")
	require.NoError(t, migrations.Apply(db, withStep2(addBucket), func(*bbolt.Tx, int) error { return nil }), "it can be tried again")
	require.Equal(t, 2, version(t, db))
}

func TestNewerSchemaIsRefused(t *testing.T) {
	db := openDB(t)
	require.NoError(t, migrations.Apply(db, withStep2(addBucket), noBackup(t)))
	err := migrations.Apply(db, migrations.Steps(), noBackup(t))
	require.ErrorIs(t, err, migrations.ErrNewer)
	var newer *migrations.NewerError
	require.ErrorAs(t, err, &newer)
	require.Equal(t, &migrations.NewerError{File: 2, Supported: 1}, newer)
	require.ErrorContains(t, err, "schema 2")
	require.ErrorContains(t, err, "up to schema 1")
	require.ErrorContains(t, err, "newer hive")
	require.Equal(t, 2, version(t, db))
}

func TestForeignAndDamagedFiles(t *testing.T) {
	put := func(bucket, key string, value []byte) func(*bbolt.Tx) error {
		return func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte(bucket))
			if err != nil {
				return err
			}
			return b.Put([]byte(key), value)
		}
	}
	for name, c := range map[string]struct {
		spoil func(*bbolt.Tx) error
		want  error
	}{
		"somebody else's":   {put("theirs", "k", []byte("v")), migrations.ErrForeign},
		"no number":         {put("meta", "k", []byte("v")), migrations.ErrForeign},
		"too short":         {put("meta", "schema", []byte{1, 2}), migrations.ErrDamaged},
		"another format":    {put("meta", "schema", []byte("\x02\x8a\x9a\xaa\x9f1")), migrations.ErrDamaged},
		"a flipped bit":     {put("meta", "schema", []byte("\x01\x8a\x9a\xaa\x9f3")), migrations.ErrDamaged},
		"a flipped bit sum": {put("meta", "schema", []byte("\x01\x8b\x9a\xaa\x9f1")), migrations.ErrDamaged},
	} {
		t.Run(name, func(t *testing.T) {
			db := openDB(t)
			require.NoError(t, db.Update(c.spoil))
			before := bucketNames(t, db)
			require.ErrorIs(t, migrations.Apply(db, migrations.Steps(), noBackup(t)), c.want)
			require.Equal(t, before, bucketNames(t, db))
		})
	}
}

func TestBadStepsAreRefused(t *testing.T) {
	ok := func(*bbolt.Tx) error { return nil }
	for name, steps := range map[string][]migrations.Step{
		"none":     nil,
		"a gap":    {{To: 1, Run: ok}, {To: 3, Run: ok}},
		"order":    {{To: 2, Run: ok}, {To: 1, Run: ok}},
		"no start": {{To: 2, Run: ok}},
		"no run":   {{To: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorIs(t, migrations.Apply(openDB(t), steps, nil), migrations.ErrSteps)
		})
	}
}
