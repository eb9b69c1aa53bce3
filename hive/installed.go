package hive

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"time"

	"rbeehive/hive/catalog"
)

// CatalogList lists the worker types.
type CatalogList struct{}

// CatalogGet shows one worker type.
type CatalogGet struct{ WorkerID string }

// InstalledList lists the worker types whose programs are on this machine.
type InstalledList struct{}

// InstalledGet shows one of them.
type InstalledGet struct{ WorkerID string }

// Tag implements Operation.
func (CatalogList) Tag() string { return "worker_catalog_list" }

// Tag implements Operation.
func (CatalogGet) Tag() string { return "worker_catalog_get" }

// Tag implements Operation.
func (InstalledList) Tag() string { return "worker_list_installed" }

// Tag implements Operation.
func (InstalledGet) Tag() string { return "worker_installed_get" }

// typeID reads the worker_id of an operation on worker types. It becomes the name
// of a file.
func (f fields) typeID() (string, error) {
	id, err := f.text("worker_id")
	switch {
	case err != nil:
		return "", err
	case id == "":
		return "", badField("worker_id", "is required: the name of a worker type, a preset or a program")
	case !catalog.ValidName(id):
		return "", badField("worker_id", fmt.Sprintf("is %q; expected letters, digits, '.', '_' and '-', at most 63, the first a letter or a digit", clip(id)))
	}
	return id, nil
}

// catalogView is a worker type as worker_catalog_list shows it. worker_type is what
// a spawn takes as worker.
type catalogView struct {
	ID          string  `json:"id"`
	Name        string  `json:"name"`
	WorkerType  string  `json:"worker_type"`
	Platform    string  `json:"platform"`
	Description string  `json:"description"`
	Source      string  `json:"source"`
	Preset      *string `json:"preset"`
	Installed   bool    `json:"installed"`
	Program     *string `json:"program"`
	Reason      *string `json:"reason"`
}

func catalogViewOf(t TypeView) catalogView {
	return catalogView{
		ID: t.Name, Name: t.Name, WorkerType: t.Name, Platform: runtime.GOOS, Description: t.Description, Source: t.Source,
		Preset: orNull(t.Preset), Installed: t.Program != "", Program: orNull(t.Program), Reason: orNull(t.Missing),
	}
}

// catalogList is the result of worker_catalog_list.
type catalogList struct {
	Workers []catalogView `json:"workers"`
}

func (h *Hive) listCatalog(ctx context.Context) catalogList {
	list := catalogList{[]catalogView{}}
	for _, t := range h.Types(ctx, false) {
		list.Workers = append(list.Workers, catalogViewOf(t))
	}
	return list
}

func (h *Hive) getCatalog(ctx context.Context, id string) (catalogView, *failure) {
	t, err := h.TypeInfo(ctx, Spawn{Worker: id}, false)
	if err != nil {
		return catalogView{}, fail(CodeNotFound, "%v", err)
	}
	return catalogViewOf(t), nil
}

// installedView is a worker type whose program is here. id to added_at are what
// rbee's page reads; its size is a number of bytes, its added_at when the type was
// installed, else when its program was.
type installedView struct {
	ID         string  `json:"id"`
	Name       string  `json:"name"`
	WorkerType string  `json:"worker_type"`
	Platform   string  `json:"platform"`
	Version    *string `json:"version"`
	Size       int64   `json:"size"`
	Path       string  `json:"path"`
	AddedAt    string  `json:"added_at"`
	SHA256     *string `json:"sha256"`
	Source     string  `json:"source"`
	Preset     *string `json:"preset"`
}

// installedList is the result of worker_list_installed.
type installedList struct {
	Workers []installedView `json:"workers"`
}

func (h *Hive) listInstalled(ctx context.Context) installedList {
	list := installedList{[]installedView{}}
	for _, t := range h.Types(ctx, true) {
		if v, ok := h.installedViewOf(ctx, t); ok {
			list.Workers = append(list.Workers, v)
		}
	}
	return list
}

func (h *Hive) getInstalled(ctx context.Context, id string) (installedView, *failure) {
	t, err := h.TypeInfo(ctx, Spawn{Worker: id}, true)
	if err != nil {
		return installedView{}, fail(CodeNotFound, "%v", err)
	}
	v, ok := h.installedViewOf(ctx, t)
	if !ok {
		return installedView{}, fail(CodeNotFound, "worker type %s is not installed: %s", t.Name, t.Missing)
	}
	return v, nil
}

// installedViewOf looks at the program of a type; ok is false if there is none.
func (h *Hive) installedViewOf(ctx context.Context, t TypeView) (v installedView, ok bool) {
	if t.Program == "" {
		return v, false
	}
	info, err := os.Stat(t.Program)
	if err != nil { // it has gone in this moment
		return v, false
	}
	v = installedView{
		ID: t.Name, Name: t.Name, WorkerType: t.Name, Platform: runtime.GOOS, Version: orNull(t.Version),
		Size: info.Size(), Path: t.Program, Source: t.Source, Preset: orNull(t.Preset), SHA256: orNull(h.sums.of(ctx, t.Program, info)),
	}
	added := info.ModTime()
	if file, err := os.Stat(t.File); err == nil {
		added = file.ModTime()
	}
	v.AddedAt = added.UTC().Format("2006-01-02T15:04:05.000Z")
	return v, true
}

// largestSummed is how large a program is at most whose hash is worth its reading.
const largestSummed = 128 << 20

// sums remembers the hashes of files, as long as neither size nor time of a file
// changes.
type sums struct {
	mu    sync.Mutex // also held while a file is read: one at a time
	known map[string]knownSum
}

type knownSum struct {
	sum   string
	size  int64
	mtime time.Time
}

// of is the SHA-256 of a file; empty for one that is large or cannot be read.
func (s *sums) of(ctx context.Context, path string, info os.FileInfo) string {
	if !info.Mode().IsRegular() || info.Size() > largestSummed {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if k, ok := s.known[path]; ok && k.size == info.Size() && k.mtime.Equal(info.ModTime()) {
		return k.sum
	}
	if ctx.Err() != nil {
		return ""
	}
	f, err := os.Open(path) //nolint:gosec // a file of hive's own directory types.d
	if err != nil {
		return ""
	}
	defer f.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, io.LimitReader(f, largestSummed)); err != nil {
		return ""
	}
	if s.known == nil {
		s.known = map[string]knownSum{}
	}
	sum := hex.EncodeToString(hash.Sum(nil))
	s.known[path] = knownSum{sum, info.Size(), info.ModTime()}
	return sum
}
