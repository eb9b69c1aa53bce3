package workertype

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"runtime"
	"sync"
	"time"

	"rbeehive/hive/errdefs"
	"rbeehive/hive/operation"
	"rbeehive/hive/proc"
)

func catalogViewOf(t View) operation.CatalogEntry {
	return operation.CatalogEntry{
		ID: t.Name, Name: t.Name, WorkerType: t.Name, Platform: runtime.GOOS, Description: t.Description, Source: t.Source,
		Preset: operation.OrNull(t.Preset), Installed: t.Program != "", Program: operation.OrNull(t.Program), Reason: operation.OrNull(t.Missing),
	}
}

// CatalogList carries out worker_catalog_list; the result is operation.CatalogEntries.
func (ts *Types) CatalogList(ctx context.Context, _ operation.CatalogList) (any, error) {
	list := operation.CatalogEntries{Workers: []operation.CatalogEntry{}}
	for _, t := range ts.List(ctx, false) {
		list.Workers = append(list.Workers, catalogViewOf(t))
	}
	return list, nil
}

// CatalogGet carries out worker_catalog_get; the result is operation.CatalogEntry.
func (ts *Types) CatalogGet(ctx context.Context, op operation.CatalogGet) (any, error) {
	t, err := ts.Info(ctx, operation.Spawn{Worker: op.WorkerID}, false)
	if err != nil {
		return nil, errdefs.Fail(errdefs.CodeNotFound, "%v", err)
	}
	return catalogViewOf(t), nil
}

// InstalledList carries out worker_list_installed; the result is operation.InstalledPrograms.
func (ts *Types) InstalledList(ctx context.Context, _ operation.InstalledList) (any, error) {
	list := operation.InstalledPrograms{Workers: []operation.InstalledProgram{}}
	for _, t := range ts.List(ctx, true) {
		if v, ok := ts.installedViewOf(ctx, t); ok {
			list.Workers = append(list.Workers, v)
		}
	}
	return list, nil
}

// InstalledGet carries out worker_installed_get; the result is operation.InstalledProgram.
func (ts *Types) InstalledGet(ctx context.Context, op operation.InstalledGet) (any, error) {
	t, err := ts.Info(ctx, operation.Spawn{Worker: op.WorkerID}, true)
	if err != nil {
		return nil, errdefs.Fail(errdefs.CodeNotFound, "%v", err)
	}
	v, ok := ts.installedViewOf(ctx, t)
	if !ok {
		return nil, errdefs.Fail(errdefs.CodeNotFound, "worker type %s is not installed: %s", t.Name, t.Missing)
	}
	return v, nil
}

// installedViewOf looks at the program of a type; ok is false if there is none.
func (ts *Types) installedViewOf(ctx context.Context, t View) (v operation.InstalledProgram, ok bool) {
	if t.Program == "" {
		return v, false
	}
	info, err := proc.StatFile(ctx, t.Program)
	if err != nil { // it has gone in this moment
		return v, false
	}
	v = operation.InstalledProgram{
		ID: t.Name, Name: t.Name, WorkerType: t.Name, Platform: runtime.GOOS, Version: operation.OrNull(t.Version),
		Size: info.Size, Path: t.Program, Source: t.Source, Preset: operation.OrNull(t.Preset), SHA256: operation.OrNull(ts.sums.of(ctx, t.User, t.Program, info)),
	}
	added := info.Modified
	if file, err := os.Stat(t.File); err == nil {
		added = file.ModTime()
	}
	v.AddedAt = added.UTC().Format("2006-01-02T15:04:05.000Z")
	return v, true
}

// maxSummed is how large a program is at most whose hash is worth its reading.
const maxSummed = 128 << 20

// sums remembers the hashes of files, as long as neither size nor time of a file
// changes.
type sums struct {
	mu    sync.Mutex // also held while a file is read: one at a time
	known map[string]knownSum
}

type knownSum struct {
	user  string // who could read it
	sum   string
	size  int64
	mtime time.Time
}

// sumTimeout is how long the reading of a program may take.
const sumTimeout = 10 * time.Second

// of is the SHA-256 of a file that user can read; empty for one that is large or
// cannot be read. With hive's rights it would tell of files that are closed to the
// user, who may have made a link to one in the place of a program.
func (s *sums) of(ctx context.Context, user, path string, info proc.FileFacts) string {
	if !info.Mode.IsRegular() || info.Size > maxSummed {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if k, ok := s.known[path]; ok && k.user == user && k.size == info.Size && k.mtime.Equal(info.Modified) {
		return k.sum
	}
	ctx, cancel := context.WithTimeout(ctx, sumTimeout)
	defer cancel()
	sum, err := lookForSum.As(ctx, user, path)
	if err != nil {
		return ""
	}
	if s.known == nil {
		s.known = map[string]knownSum{}
	}
	s.known[path] = knownSum{user, sum, info.Size, info.Modified}
	return sum
}

var lookForSum = proc.NewLook("sum", func(path string) (string, error) {
	f, err := proc.OpenRegular(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	// Limited: the file may have been replaced since it was looked at.
	hash := sha256.New()
	_, err = io.Copy(hash, io.LimitReader(f, maxSummed))
	return hex.EncodeToString(hash.Sum(nil)), err
})
