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
// become '-'.
func ImportID(file string) string {
	name := filepath.Base(file)
	plain := strings.Map(func(r rune) rune {
		if r < 0x80 && plainByte(byte(r)) { //nolint:gosec // it is below 0x80
			return r
		}
		return '-'
	}, strings.TrimSuffix(name, filepath.Ext(name)))
	// No repository's name begins with '-' or '.'.
	return "local/" + strings.TrimLeft(plain, "-.") + ":" + name
}

// Import puts a file of this machine into the catalog, as the file that id names
// (org/name:file). The catalog gets a hard link to it, so that it takes no space
// twice and must not be changed any more; or a copy, if that is asked for, the file is
// on another file system, or it is a third user's, who could change it. It reads the whole file, for its SHA-256. It is
// for whoever may read the file and write to the library; a running hive need not
// know, the catalog is what is on disk.
//
// Errors: ErrInvalidID, ErrInUse (there is such a model already), ErrDiskFull, ctx's
// cause, and those of the file system.
func (l *Library) Import(ctx context.Context, file, id string, asCopy bool) (Model, error) {
	parsed, err := ParseID(id)
	if err == nil && parsed.File == "" {
		err = fmt.Errorf("%w: %q names no file; expected org/name:%s", ErrInvalidID, clip(id), filepath.Base(file))
	}
	if err != nil {
		return Model{}, err
	}
	source, info, err := openSource(file)
	if err != nil {
		return Model{}, err
	}
	defer func() { _ = source.Close() }() // only read from
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
	f := remoteFile{Path: parsed.File, Size: info.Size(), LFS: "import"}
	if f.sum, err = l.take(ctx, source, info, filepath.Join(l.opts.Dir, from, f.partName()), asCopy); err != nil {
		return Model{}, fmt.Errorf("import %s: %w", file, err)
	}
	if err := l.assemble(root, part, from, parsed, selection{files: []remoteFile{f}, path: f.Path}); err != nil {
		return Model{}, fmt.Errorf("import %s: %w", file, err)
	}
	return l.load(root, parsed)
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
