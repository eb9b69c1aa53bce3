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
	"rbeehive/hive/proc"
)

func catalogViewOf(t TypeView) catalogView {
	return catalogView{
		ID: t.Name, Name: t.Name, WorkerType: t.Name, Platform: runtime.GOOS, Description: t.Description, Source: t.Source,
		Preset: orNull(t.Preset), Installed: t.Program != "", Program: orNull(t.Program), Reason: orNull(t.Missing),
	}
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
		Size: info.Size(), Path: t.Program, Source: t.Source, Preset: orNull(t.Preset), SHA256: orNull(h.sums.of(ctx, t.User, t.Program, info)),
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
	user  string // who could read it
	sum   string
	size  int64
	mtime time.Time
}

// sumLimit is how long the reading of a program may take.
const sumLimit = 10 * time.Second

// of is the SHA-256 of a file that user can read; empty for one that is large or
// cannot be read. With hive's rights it would tell of files that are closed to the
// user, who may have made a link to one in the place of a program.
func (s *sums) of(ctx context.Context, user, path string, info os.FileInfo) string {
	if !info.Mode().IsRegular() || info.Size() > largestSummed {
		return ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if k, ok := s.known[path]; ok && k.user == user && k.size == info.Size() && k.mtime.Equal(info.ModTime()) {
		return k.sum
	}
	ctx, cancel := context.WithTimeout(ctx, sumLimit)
	defer cancel()
	sum, err := proc.AsUser(ctx, user, func() (string, error) {
		f, err := proc.OpenRegular(path)
		if err != nil {
			return "", err
		}
		defer f.Close()
		hash := sha256.New()
		_, err = io.Copy(hash, io.LimitReader(f, largestSummed))
		return hex.EncodeToString(hash.Sum(nil)), err
	})
	if err != nil {
		return ""
	}
	if s.known == nil {
		s.known = map[string]knownSum{}
	}
	s.known[path] = knownSum{user, sum, info.Size(), info.ModTime()}
	return sum
}
