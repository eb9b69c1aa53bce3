package models

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// What a model of the catalog can be.
const (
	StatusAvailable = "available"
	StatusDamaged   = "damaged" // a file of it is missing, or has another size than it had
)

// Model is one model of the catalog.
type Model struct {
	ID      string
	Name    string
	Repo    string
	File    string // the file that the id names; empty: none
	Commit  string // of the repository that it is from
	Path    string // absolute: what a program is to be given, a file or a directory
	Size    int64  // bytes of all files
	Status  string
	Files   []File
	AddedAt time.Time
}

// File is one file of a model.
type File struct {
	Path   string `json:"path"` // in the model's repository
	Size   int64  `json:"size_bytes"`
	SHA256 string `json:"sha256"`
}

const (
	metadataName   = "metadata.json"
	metadataFormat = 1
	maxMetadata    = 16 << 20
)

// metadata is metadata.json.
type metadata struct {
	Format   int       `json:"format"`
	ID       string    `json:"id"`
	Repo     string    `json:"repo"`
	File     string    `json:"file"`
	Endpoint string    `json:"endpoint"`
	Commit   string    `json:"commit"`
	Dir      string    `json:"dir"`  // where the files are, relative to this one
	Path     string    `json:"path"` // what a program is given, relative to Dir
	Size     int64     `json:"size_bytes"`
	Files    []File    `json:"files"`
	AddedAt  time.Time `json:"added_at"`
}

// load reads a model. Errors: ErrNotFound if it has no directory or no metadata.
func (l *Library) load(root *os.Root, id ID) (Model, error) {
	name := escape(id.String())
	f, err := root.Open(filepath.Join(name, metadataName))
	if errors.Is(err, fs.ErrNotExist) {
		return Model{}, notHere(id.String())
	}
	if err != nil {
		return Model{}, err
	}
	raw, err := io.ReadAll(io.LimitReader(f, maxMetadata))
	_ = f.Close() // only read from
	if err != nil {
		return Model{}, err
	}
	var meta metadata
	if err := json.Unmarshal(raw, &meta); err != nil {
		return Model{}, fmt.Errorf("%s/%s: %w", name, metadataName, err)
	}
	switch {
	case meta.Format != metadataFormat:
		return Model{}, fmt.Errorf("%s/%s: format %d is unknown to this version", name, metadataName, meta.Format)
	case meta.ID != id.String() && strings.EqualFold(meta.ID, id.String()):
		return Model{}, notHere(id.String()) // a file system that does not tell case apart
	case meta.ID != id.String() || !local(meta.Dir) || !local(meta.Path):
		return Model{}, fmt.Errorf("%s/%s is not of this model", name, metadataName)
	}
	m := Model{
		ID: meta.ID, Name: id.name(), Repo: meta.Repo, File: meta.File, Commit: meta.Commit, Size: meta.Size, Files: meta.Files,
		AddedAt: meta.AddedAt, Path: filepath.Join(l.opts.Dir, name, meta.Dir, meta.Path), Status: StatusAvailable,
	}
	for _, file := range meta.Files {
		// By size only: hashing all files would take minutes.
		info, err := root.Lstat(filepath.Join(name, meta.Dir, file.Path))
		if err != nil || !info.Mode().IsRegular() || info.Size() != file.Size {
			m.Status = StatusDamaged
		}
	}
	return m, nil
}

func local(name string) bool { return name == "" || filepath.IsLocal(name) }

// place is where the files of a model lie, relative to its metadata: beside it, or,
// if the repository has a file of that name, one level deeper.
func place(files []remoteFile) string {
	for _, f := range files {
		if top, _, _ := strings.Cut(f.Path, "/"); strings.EqualFold(top, metadataName) {
			return "files"
		}
	}
	return ""
}

// assemble puts the model together in part/tree, from files that are whole and on
// the disk, and renames it into the catalog. part is opened from the path from.
func (l *Library) assemble(root, part *os.Root, from string, id ID, sel selection) error {
	meta := metadata{
		Format: metadataFormat, ID: id.String(), Repo: id.Repo, File: id.File, Endpoint: l.endpoint.Redacted(), Commit: sel.commit,
		Dir: place(sel.files), Path: sel.path, Size: sel.size(), Files: []File{}, AddedAt: time.Now().UTC().Truncate(time.Millisecond),
	}
	if sel.commit == "" {
		meta.Endpoint = "" // a file of this machine
	}
	if err := part.MkdirAll(treeDir, 0o755); err != nil {
		return err
	}
	for _, f := range sel.files {
		meta.Files = append(meta.Files, File{f.Path, f.Size, f.sum})
		to := filepath.Join(treeDir, meta.Dir, f.Path)
		if err := part.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := part.Rename(f.partName(), to); err != nil {
			return err
		}
	}
	if err := writeMetadata(part, meta); err != nil {
		return err
	}
	// Before the rename: else a power cut could leave a model in the catalog without its files.
	if err := syncTree(part, treeDir); err != nil {
		return err
	}
	name := escape(id.String())
	// rename(2) does not replace a directory that has something in it.
	if err := l.discard(root, name); err != nil && !errors.Is(err, fs.ErrNotExist) { // a damaged one
		return err
	}
	if err := root.Rename(filepath.Join(from, treeDir), name); err != nil {
		return err
	}
	// Only now it is in the catalog for good.
	return syncDir(root, ".")
}

func writeMetadata(part *os.Root, meta metadata) error {
	var raw bytes.Buffer
	enc := json.NewEncoder(&raw)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(meta); err != nil {
		return err
	}
	f, err := part.Create(filepath.Join(treeDir, metadataName))
	if err != nil {
		return err
	}
	_, err = f.Write(raw.Bytes())
	return errors.Join(err, f.Sync(), f.Close())
}

// syncTree makes the names in a tree durable; the files are.
func syncTree(part *os.Root, dir string) error {
	return fs.WalkDir(part.FS(), dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return syncDir(part, name)
	})
}

// takeApart undoes an assembly that was cut short.
func takeApart(part *os.Root, sel selection) error {
	dir := place(sel.files)
	for _, f := range sel.files {
		from := filepath.Join(treeDir, dir, f.Path)
		info, err := part.Lstat(from)
		// Not whole, or of another commit: it is fetched again.
		if err != nil || !info.Mode().IsRegular() || info.Size() != f.Size {
			continue
		}
		if err := part.Rename(from, f.partName()); err != nil {
			return err
		}
	}
	return part.RemoveAll(treeDir)
}

// dropOthers removes what no file of the selection can go on with.
func dropOthers(part *os.Root, sel selection) error {
	wanted := map[string]bool{}
	for _, f := range sel.files {
		wanted[f.partName()], wanted[f.etagName()] = true, true
	}
	entries, err := fs.ReadDir(part.FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if wanted[e.Name()] {
			continue
		}
		if err := part.RemoveAll(e.Name()); err != nil {
			return err
		}
	}
	return nil
}

// join is "a, b and c".
func join(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}
