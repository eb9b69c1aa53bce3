package models

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"rbeehive/hive/trust"
)

// ImportID is the id that a file gets unless another is asked for:
// local/<its name without the ending>:<its name>. Characters that no id can have
// become '-'. That of a model in parts is made of the first: local/big:big-00001-of-00003.gguf.
func ImportID(file string) string {
	parts := partsOf(filepath.Base(file))
	bare := strings.TrimSuffix(parts[0], filepath.Ext(parts[0]))
	if m := partRE.FindStringSubmatch(parts[0]); len(parts) > 1 && m != nil {
		bare = m[1]
	}
	bare = strings.Map(func(r rune) rune {
		if r < 0x80 && plainByte(byte(r)) { //nolint:gosec // it is below 0x80
			return r
		}
		return '-'
	}, bare)
	// No repository's name begins with '-' or '.'.
	return "local/" + strings.TrimLeft(bare, "-.") + ":" + parts[0]
}

// Import puts a file of this machine into the catalog, as the file that id names
// (org/name:file). A part of a model (name-00001-of-00003.gguf) is imported with the others,
// which must be beside it. The catalog gets a hard link to each, so that it takes no space
// twice and must not be changed any more; or a copy, if that is asked for, the file is
// on another file system, or it is a third user's, who could change it. It reads the whole file, for its SHA-256. It is
// for whoever may read the file and write to the library; a running hive need not
// know, the catalog is what is on disk.
//
// Errors: ErrInvalidID, ErrInUse (there is such a model already), ErrNotFound (a part is
// missing), ErrFormat, ErrDiskFull, ctx's cause, and those of the file system.
func (l *Library) Import(ctx context.Context, file, id string, asCopy bool) (_ Model, err error) {
	defer func() { err = l.onDisk(err) }()
	parsed, err := ParseID(id)
	if err == nil && parsed.File == "" {
		err = fmt.Errorf("%w: %q names no file; expected org/name:%s", ErrInvalidID, clip(id), filepath.Base(file))
	}
	if err != nil {
		return Model{}, err
	}
	sources, err := openSources(file, parsed)
	defer func() {
		for _, s := range sources {
			_ = s.Close() // only read from
		}
	}()
	if err != nil {
		return Model{}, err
	}
	root, err := l.root(true)
	if err != nil {
		return Model{}, err
	}
	defer func() { _ = root.Close() }() // what had to be synced was
	if m, err := l.load(root, parsed); err == nil && m.Status == StatusAvailable {
		return Model{}, fmt.Errorf("%w: a model %s already exists; remove it first, or use another id", ErrInUse, id)
	}
	// Not a name that an id can have: a download of the same model uses that.
	from := filepath.Join(partialDir, "import-"+rand.Text()) // Tidy removes it if this is killed
	if err := root.MkdirAll(from, 0o755); err != nil {
		return Model{}, err
	}
	defer func() { _, _ = root.RemoveAll(from), root.Remove(partialDir) }() // what is left if it failed, and if it is empty
	part, err := root.OpenRoot(from)
	if err != nil {
		return Model{}, err
	}
	defer func() { _ = part.Close() }()
	sel := selection{path: sources[0].name}
	for _, s := range sources {
		f := remoteFile{Path: s.name, Size: s.info.Size(), LFS: "import"}
		if f.sum, err = l.take(ctx, s.File, s.info, filepath.Join(l.opts.Dir, from, f.partName()), asCopy); err != nil {
			return Model{}, fmt.Errorf("import %s: %w", s.Name(), err)
		}
		sel.files = append(sel.files, f)
	}
	if err := l.assemble(root, part, from, parsed, sel); err != nil {
		return Model{}, fmt.Errorf("import %s: %w", file, err)
	}
	return l.load(root, parsed)
}

// source is a file that is imported.
type source struct {
	*os.File
	info fs.FileInfo
	name string // in the catalog
}

// openSources opens a file and, if it is a part of a model, the others beside it. The caller
// closes what is returned, also with an error.
func openSources(file string, id ID) (sources []source, err error) {
	dir, names, as := filepath.Dir(file), partsOf(filepath.Base(file)), partsOf(id.File)
	// Programs find the parts by their names.
	if len(names) != len(as) {
		return nil, fmt.Errorf("%w: %s is %s, and %q names %s", ErrInvalidID, clip(filepath.Base(file)), count(names), clip(id.File), count(as))
	}
	var missing []string
	for i, name := range names {
		path := file
		if len(names) > 1 {
			path = filepath.Join(dir, name)
		}
		f, info, err := openSource(path)
		if len(names) > 1 && errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, name)
			continue
		}
		if err != nil {
			return sources, err
		}
		sources = append(sources, source{f, info, as[i]})
		for _, called := range []string{name, as[i]} {
			if err := checkFormat(f, info.Size(), called); err != nil {
				return sources, err
			}
		}
	}
	if len(missing) > 0 {
		return sources, fmt.Errorf("%w: %s is %s, and these are not in %s: %s", ErrNotFound, clip(filepath.Base(file)), count(names), dir, some(missing))
	}
	return sources, nil
}

// count is what one of some parts is.
func count(parts []string) string {
	if len(parts) == 1 {
		return "a whole model"
	}
	return fmt.Sprintf("one of %d parts of a model", len(parts))
}

// openSource opens a regular file. A fifo, which somebody may have put there, does not
// make it wait.
func openSource(file string) (*os.File, fs.FileInfo, error) {
	// Opened, then looked at: between a stat and an open it could be replaced.
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NONBLOCK, 0) //nolint:gosec // who runs hivectl names it, and has their own rights
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file; expected one model file, such as a .gguf", file)
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, info, nil
}

// take links or copies source to a path that does not exist, and returns the SHA-256
// of what is there then, which is on the disk.
func (l *Library) take(ctx context.Context, source *os.File, info fs.FileInfo, to string, asCopy bool) (string, error) {
	// A third user could change the file later, so theirs is copied.
	if !asCopy && trust.Owned(info) {
		real, err := filepath.EvalSymlinks(source.Name()) // link(2) would link the symbolic link
		if err != nil {
			return "", err
		}
		linked := os.Link(real, to)
		if linked == nil {
			return digestLinked(ctx, source, info, to)
		}
		// Another file system, or one without links: a copy does.
	}
	if free, err := l.opts.Free(filepath.Dir(to)); err == nil && free-l.opts.Reserve < info.Size() {
		return "", fmt.Errorf("%w: it has %d bytes, and %d can be written to %s", ErrDiskFull, info.Size(), max(0, free-l.opts.Reserve), l.opts.Dir)
	}
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644) //nolint:gosec // in the directory of models, and made by this open
	if err != nil {
		return "", err
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(out, sum), untilDone{ctx, source})
	if err := errors.Join(err, out.Sync(), out.Close()); err != nil {
		return "", err
	}
	return unchanged(n, info, sum.Sum(nil))
}

// digestLinked makes sure that the link is of the file that was opened.
func digestLinked(ctx context.Context, source *os.File, info fs.FileInfo, to string) (string, error) {
	linked, err := os.Lstat(to)
	if err != nil {
		return "", err
	}
	// The link was made by name, which may mean another file by now.
	if !os.SameFile(linked, info) {
		return "", errors.New("the file was replaced meanwhile")
	}
	sum := sha256.New()
	n, err := io.Copy(sum, untilDone{ctx, source})
	if err := errors.Join(err, source.Sync()); err != nil {
		return "", err
	}
	return unchanged(n, info, sum.Sum(nil))
}

func unchanged(n int64, info fs.FileInfo, sum []byte) (string, error) {
	if n != info.Size() {
		return "", fmt.Errorf("the file changed while it was read: %d bytes instead of %d", n, info.Size())
	}
	return hex.EncodeToString(sum), nil
}

// untilDone reads until ctx ends.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u untilDone) Read(p []byte) (int, error) {
	if u.ctx.Err() != nil {
		return 0, context.Cause(u.ctx)
	}
	return u.r.Read(p)
}
