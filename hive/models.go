package hive

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"rbeehive/hive/errdefs"
	"rbeehive/hive/journal"
	"rbeehive/hive/models"
	"rbeehive/hive/operation"
	"rbeehive/store"
)

// modelOperations carries out the operations on models. The work is the library's.
type modelOperations struct {
	library *models.Library
	live    func() []store.Worker // the workers that live
	journal *journal.Journal
}

func entryOf(m models.Model, live []store.Worker) operation.ModelEntry {
	v := operation.ModelEntry{
		ID: m.ID, Name: m.Name, Size: models.Bytes(m.Size), SizeBytes: m.Size, Path: m.Path, Status: m.Status,
		Workers: modelUsers(m, live), Repo: m.Repo, File: operation.OrNull(m.File), Commit: operation.OrNull(m.Commit), Files: append([]models.File{}, m.Files...),
	}
	v.Loaded = len(v.Workers) > 0
	if !m.AddedAt.IsZero() {
		at := m.AddedAt.UTC().Format("2006-01-02T15:04:05.000Z")
		v.AddedAt = &at
	}
	return v
}

// modelUsers are the workers that were started with a model, by its id or by a path.
func modelUsers(m models.Model, live []store.Worker) []string {
	users := []string{}
	for _, rec := range live {
		if rec.Spec.Model == m.ID || mentions(rec.Spec.Argv, m.Path) {
			users = append(users, rec.WorkerID)
		}
	}
	return users
}

// mentions reports whether an argument is a path, or something in the directory of it.
func mentions(argv []string, path string) bool {
	for _, arg := range argv {
		// Also a file in its directory, or --flag=path. Better a model too many kept than one deleted in use.
		if arg == path || strings.Contains(arg, path+string(filepath.Separator)) || strings.HasSuffix(arg, "="+path) {
			return true
		}
	}
	return false
}

// ModelList carries out model_list; the result is operation.ModelEntries.
func (m modelOperations) ModelList(context.Context, operation.ModelList) (any, error) {
	list, err := m.library.List()
	if err != nil {
		return nil, errdefs.Fail(errdefs.CodeInternal, "%v", err)
	}
	live, views := m.live(), []operation.ModelEntry{}
	for _, model := range list {
		views = append(views, entryOf(model, live))
	}
	return operation.ModelEntries{Models: views}, nil
}

// ModelGet carries out model_get; the result is operation.ModelEntry.
func (m modelOperations) ModelGet(_ context.Context, op operation.ModelGet) (any, error) {
	id, err := m.library.Find(op.ID)
	if err != nil {
		return nil, modelFailure(err)
	}
	model, err := m.library.Get(id)
	if err != nil {
		return nil, modelFailure(err)
	}
	return entryOf(model, m.live()), nil
}

// ModelDownload carries out model_download; the result is operation.ModelEntry. One that
// was under way when hive was killed goes on with the next start.
func (m modelOperations) ModelDownload(ctx context.Context, j operation.Job, op operation.ModelDownload) (any, error) {
	// Recorded at once: after a crash a running download goes on, while a queued job may expire.
	err := m.journal.Commit(ctx, func(b *journal.Batch) error {
		if err := j.RecordRunning(b); err != nil {
			return err
		}
		return b.Event(store.EventState, j.ID(), "", "model_download running", map[string]any{"job": store.JobRunning})
	})
	if err != nil {
		return nil, err
	}
	model, err := m.library.Download(ctx, op.Model, func(p models.Progress) { m.recordProgress(j, op.Model, p) })
	switch {
	case err == nil:
		return entryOf(model, m.live()), nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	}
	return nil, modelFailure(err)
}

// recordProgress records how far a download is.
func (m modelOperations) recordProgress(j operation.Job, id string, p models.Progress) {
	// The total may not be known.
	percent := 0
	if p.Total > 0 {
		percent = int(100 * p.Bytes / p.Total)
	}
	message := fmt.Sprintf("%s: %d%%, %s of %s", id, percent, models.Bytes(p.Bytes), models.Bytes(p.Total))
	var eta *float64
	switch {
	case p.Note != "":
		message += "; " + p.Note
	case p.ETA >= 0:
		seconds := p.ETA.Seconds()
		eta = &seconds
		message += fmt.Sprintf(", %s/s, %v left", models.Bytes(int64(p.Rate)), p.ETA)
	}
	err := m.journal.CommitBestEffort(func(b *journal.Batch) error {
		return b.Event(store.EventProgress, j.ID(), "", message, map[string]any{
			"file": p.File, "bytes": p.Bytes, "total": p.Total, "rate_bytes_s": int64(p.Rate), "eta_s": eta,
		})
	})
	// A full disk fails the download itself; it need not be logged twice a second.
	if !errors.Is(err, store.ErrDiskFull) {
		m.journal.LogUnlessClosing(err, "record the progress of a download", j.ID())
	}
}

// ModelDelete carries out model_delete; the result is operation.Deleted.
func (m modelOperations) ModelDelete(ctx context.Context, j operation.Job, op operation.ModelDelete) (any, error) {
	// No cancel from here on: a model that is half deleted is of no use.
	if err := j.Finalize(ctx); err != nil {
		return nil, err
	}
	// Asked while nobody can come to hold the model; a start holds it until its worker is among the live.
	err := m.library.Delete(op.ID, func(model models.Model) []string { return modelUsers(model, m.live()) })
	if err != nil {
		return nil, modelFailure(err)
	}
	return operation.Deleted{ID: op.ID, Status: "deleted"}, nil
}

// modelFailure is the failed job for an error of the catalog of models.
func modelFailure(err error) *errdefs.Failure {
	for _, k := range []struct {
		err  error
		code string
	}{
		{models.ErrDiskFull, errdefs.CodeDiskFull}, // before those that it may have caused
		{models.ErrNotFound, errdefs.CodeNotFound},
		{models.ErrInUse, errdefs.CodeModelInUse},
		{models.ErrAmbiguous, errdefs.CodeModelAmbiguous},
		{models.ErrUnauthorized, errdefs.CodeHubUnauthorized},
		{models.ErrCorrupt, errdefs.CodeDownloadCorrupt},
		{models.ErrFormat, errdefs.CodeDownloadCorrupt},
		{models.ErrUnavailable, errdefs.CodeDownloadFailed},
	} {
		if errors.Is(err, k.err) {
			return errdefs.Fail(k.code, "%s", strings.TrimPrefix(err.Error(), k.err.Error()+": "))
		}
	}
	return errdefs.Fail(errdefs.CodeInternal, "%v", err)
}
