package hive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"rbeehive/hive/catalog"
	"rbeehive/hive/models"
	"rbeehive/hive/proc"
	"rbeehive/store"
)

func viewOfModel(m models.Model, live []store.Worker) modelView {
	v := modelView{
		ID: m.ID, Name: m.Name, Size: models.Bytes(m.Size), SizeBytes: m.Size, Path: m.Path, Status: m.Status,
		Workers: modelUsers(m, live), Repo: m.Repo, File: orNull(m.File), Commit: orNull(m.Commit), Files: append([]models.File{}, m.Files...),
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
		if arg == path || strings.Contains(arg, path+string(filepath.Separator)) || strings.HasSuffix(arg, "="+path) {
			return true
		}
	}
	return false
}

func (h *Hive) listModels() (modelList, *failure) {
	list, err := h.models.List()
	if err != nil {
		return modelList{}, fail(CodeInternal, "%v", err)
	}
	live, views := h.live(), []modelView{}
	for _, m := range list {
		views = append(views, viewOfModel(m, live))
	}
	return modelList{views}, nil
}

func (h *Hive) getModel(id string) (modelView, *failure) {
	m, err := h.models.Get(id)
	if err != nil {
		return modelView{}, modelFailure(err)
	}
	return viewOfModel(m, h.live()), nil
}

// runDownload carries out model_download. One that was under way when hive was
// killed goes on with the next start (settled).
func (h *Hive) runDownload(ctx context.Context, j *job, op ModelDownload) (any, error) {
	err := h.write(ctx, op, func(b *batch) error {
		if err := b.PutJob(j.begin("", b.Now())); err != nil {
			return err
		}
		return b.event(store.EventState, j.id(), "", "model_download running", map[string]any{"job": store.JobRunning})
	})
	if err != nil {
		return nil, err
	}
	m, err := h.models.Download(ctx, op.Model, func(p models.Progress) { h.tellDownload(j, op.Model, p) })
	switch {
	case err == nil:
		return viewOfModel(m, h.live()), nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	}
	return nil, modelFailure(err)
}

// tellDownload records how far a download is.
func (h *Hive) tellDownload(j *job, id string, p models.Progress) {
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
	err := h.tidy(func(b *batch) error {
		return b.event(store.EventProgress, j.id(), "", message, map[string]any{
			"file": p.File, "bytes": p.Bytes, "total": p.Total, "rate_bytes_s": int64(p.Rate), "eta_s": eta,
		})
	})
	if err != nil && !errors.Is(err, store.ErrDiskFull) {
		h.logUnlessClosing(err, "record the progress of a download", j.id())
	}
}

// runModelDelete carries out model_delete.
func (h *Hive) runModelDelete(ctx context.Context, j *job, op ModelDelete) (any, error) {
	if err := j.finalize(ctx); err != nil {
		return nil, err
	}
	err := h.models.Delete(op.ID, func(m models.Model) []string { return modelUsers(m, h.live()) })
	if err != nil {
		return nil, modelFailure(err)
	}
	return map[string]any{"id": op.ID, "status": "deleted"}, nil
}

// modelFailure is the failed job for an error of the catalog of models.
func modelFailure(err error) *failure {
	for _, k := range []struct {
		err  error
		code string
	}{
		{models.ErrDiskFull, CodeDiskFull}, // before those that it may have caused
		{models.ErrNotFound, CodeNotFound},
		{models.ErrInUse, CodeModelInUse},
		{models.ErrAmbiguous, CodeModelAmbiguous},
		{models.ErrUnauthorized, CodeHubUnauthorized},
		{models.ErrCorrupt, CodeDownloadCorrupt},
		{models.ErrUnavailable, CodeDownloadFailed},
	} {
		if errors.Is(err, k.err) {
			return fail(k.code, "%s", strings.TrimPrefix(err.Error(), k.err.Error()+": "))
		}
	}
	return fail(CodeInternal, "%v", err)
}

// tidyModels removes what downloads and deletions have left behind, now and once a day.
func (h *Hive) tidyModels() {
	day := time.NewTicker(24 * time.Hour)
	defer day.Stop()
	for {
		if err := h.models.Tidy(h.ctx); err != nil {
			h.cfg.Log.WithError(err).Warn("rests of downloads could not be removed")
		}
		select {
		case <-day.C:
		case <-h.ctx.Done():
			return
		}
	}
}
