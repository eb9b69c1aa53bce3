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

// ModelDownload gets a model from the hub into the catalog.
type ModelDownload struct{ Model string }

// ModelList lists the models of the catalog.
type ModelList struct{}

// ModelGet shows one model of the catalog.
type ModelGet struct{ ID string }

// ModelDelete removes a model that no worker uses, and what came of one that is not whole.
type ModelDelete struct{ ID string }

// Tag implements Operation.
func (ModelDownload) Tag() string { return "model_download" }

// Tag implements Operation.
func (ModelList) Tag() string { return "model_list" }

// Tag implements Operation.
func (ModelGet) Tag() string { return "model_get" }

// Tag implements Operation.
func (ModelDelete) Tag() string { return "model_delete" }

// loading says what to do instead of the operations of rbee that load a model into
// a worker which runs already: there is none such here.
const loading = "operation '%s' is not supported: a worker has one model from its start to its end; spawn a worker with this model (worker_spawn), or stop it"

// modelID reads a field that names a model.
func (f fields) modelID(name string) (string, error) {
	id, err := f.text(name)
	if err != nil {
		return "", err
	}
	if _, err := models.ParseID(id); err != nil {
		return "", badField(name, strings.TrimPrefix(err.Error(), models.ErrInvalidID.Error()+": "))
	}
	return id, nil
}

// modelView is a model as clients see it. id, name, size, size_bytes, path, status
// and loaded are what rbee's page reads.
type modelView struct {
	ID        string        `json:"id"`
	Name      string        `json:"name"`
	Size      string        `json:"size"` // for a person
	SizeBytes int64         `json:"size_bytes"`
	Path      string        `json:"path"`
	Status    string        `json:"status"`
	Loaded    bool          `json:"loaded"`
	Workers   []string      `json:"workers"` // live ones that use it
	Repo      string        `json:"repo"`
	File      *string       `json:"file"`
	Commit    *string       `json:"commit"`
	Files     []models.File `json:"files"`
	AddedAt   *string       `json:"added_at"`
}

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

// modelList is the result of model_list.
type modelList struct {
	Models []modelView `json:"models"`
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

// holdModel keeps the model of a worker that is being started from being deleted.
// Once the worker is live it keeps it itself.
func (h *Hive) holdModel(typ *catalog.Type, rec store.Worker) (release func()) {
	if _, release, ok := h.models.Hold(modelOf(typ, rec.Asked.Model)); ok {
		return release
	}
	return func() {}
}

func modelOf(typ *catalog.Type, asked string) string {
	if asked != "" {
		return asked
	}
	return typ.Model
}

// located replaces the id of a model of the catalog by its path, for the program.
// What a worker is said to have stays the id.
func (h *Hive) located(typ *catalog.Type, v catalog.Values) catalog.Values {
	id := modelOf(typ, v.Model)
	if path, release, ok := h.models.Hold(id); ok {
		release() // whoever starts a worker holds it longer
		v.Model, v.ModelID = path, id
	}
	return v
}

// readable finds out whether the user of a worker can read the model of the catalog
// that it is to have: its program would only say that it cannot be loaded.
func (h *Hive) readable(ctx context.Context, typ *catalog.Type, rec store.Worker) error {
	if rec.Spec.User == "" {
		return nil
	}
	id := modelOf(typ, rec.Asked.Model)
	path, release, ok := h.models.Hold(id)
	if !ok {
		return nil
	}
	release() // whoever starts a worker holds it longer
	ctx, cancel := context.WithTimeout(ctx, fileLimit)
	defer cancel()
	_, err := proc.AsUser(ctx, rec.Spec.User, func() (struct{}, error) {
		f, err := os.Open(path) //nolint:gosec // a model, opened with the rights of the worker's user
		if err == nil {
			_ = f.Close()
		}
		return struct{}{}, err
	})
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fail(CodeExecFailed, "model %s: user %s, whom the worker runs as, must be able to read it, and to enter the directories it is in: %v", id, rec.Spec.User, err)
	case err != nil:
		return fail(CodeExecFailed, "model %s: %v", id, err)
	}
	return nil
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
