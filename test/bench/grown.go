package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"rbeehive/store"
	"rbeehive/test/harness"
)

// bigFile is how large a state file is made, by repeating what churn has left in it.
const bigFile = 200 << 20

// grown measures starts with the state file of churn, and with one that is as large as
// bigFile; of that also what looks at all of it, beside a bare copy.
func (r results) grown(ctx context.Context, hive *harness.Instance) error {
	nothing := func() error { return nil }
	file := filepath.Join(hive.Data(), "hive.db")
	took, err := startsOf(ctx, hive, nothing)
	if err != nil {
		return err
	}
	r["churn-start ms"], r["churn-file MB"] = took, megabytes(file)
	hive.Kill()
	if err := repeatJobs(ctx, file); err != nil {
		return err
	}
	if r["big-start ms"], err = startsOf(ctx, hive, nothing); err != nil {
		return err
	}
	r["big-file MB"] = megabytes(file)
	fmt.Printf("start until healthy: %.0f ms with a file of %.0f MB, %.0f ms with one of %.0f MB\n",
		r["churn-start ms"], r["churn-file MB"], r["big-start ms"], r["big-file MB"])
	hive.Kill()
	return r.wholeFile(ctx, hive, file)
}

// wholeFile measures db check and db backup of a file that no hive has open.
func (r results) wholeFile(ctx context.Context, hive *harness.Instance, file string) error {
	for _, step := range []struct {
		key string
		do  func(dest string) error
	}{
		{"big-copy s", func(dest string) error { return copyFile(file, dest) }},
		{"big-check s", func(string) error { return r.hivectl(ctx, "db", "check", "--data-dir", hive.Data()) }},
		{"big-backup s", func(dest string) error { return r.hivectl(ctx, "db", "backup", dest, "--data-dir", hive.Data()) }},
	} {
		dest := filepath.Join(hive.Dir, step.key)
		begin := time.Now()
		if err := step.do(dest); err != nil {
			return fmt.Errorf("%s: %w", step.key, err)
		}
		r[step.key] = time.Since(begin).Seconds()
		if err := os.RemoveAll(dest); err != nil {
			return err
		}
	}
	fmt.Printf("a file of %.0f MB: copied and synced in %.2f s, db check %.2f s, db backup, which checks too, %.2f s\n",
		r["big-file MB"], r["big-copy s"], r["big-check s"], r["big-backup s"])
	return nil
}

// hivectl runs the one that lies beside the hive that is measured.
func (r results) hivectl(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, hivectlPath, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("hivectl %v: %w: %s", args, err, out)
	}
	return nil
}

func copyFile(from, to string) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	return out.Sync()
}

func megabytes(file string) float64 {
	info, err := os.Stat(file)
	if err != nil {
		return 0
	}
	return float64(info.Size()) / 1e6
}

// repeatJobs adds copies of the jobs in a file, with their events, until it is as large as
// bigFile.
func repeatJobs(ctx context.Context, file string) error {
	st, err := store.Open(ctx, store.Options{Path: file})
	if err != nil {
		return err
	}
	defer st.Close()
	for after := ""; megabytes(file)*1e6 < bigFile; {
		err := st.Update(ctx, func(tx *store.Tx) error {
			n, err := 0, error(nil)
			after, n, err = repeatSome(tx, after)
			if n == 0 && after == "" {
				return errors.Join(err, errors.New("the file has no job"))
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// repeatSome adds copies of the next jobs behind one. It returns the last; empty: begin anew.
func repeatSome(tx *store.Tx, after string) (last string, n int, err error) {
	var batch []store.Job
	for j, err := range tx.Jobs(after, false) {
		if err != nil {
			return "", 0, err
		}
		if batch = append(batch, j); len(batch) == 500 {
			break
		}
	}
	for _, j := range batch {
		last = j.JobID
		events, err := tx.JobEvents(j.JobID, 0, 1000)
		if err != nil {
			return "", n, err
		}
		id, err := uuid.NewV7()
		if err != nil {
			return "", n, err
		}
		j.JobID = "job-" + id.String()
		if err := tx.PutJob(j); err != nil {
			return "", n, err
		}
		for _, ev := range events {
			ev.JobID, ev.Seq, ev.JobSeq = j.JobID, 0, 0
			if _, err := tx.AppendEvent(ev); err != nil {
				return "", n, err
			}
		}
		n++
	}
	return last, n, nil
}
