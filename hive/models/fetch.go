package models

import (
	"context"
	"crypto/sha1" //nolint:gosec // git's hash of a file is SHA-1; the hub lists no other for small files
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"time"
)

const (
	treeDir     = "tree"
	bufferSize  = 256 << 10
	spaceEvery  = 64 << 20 // bytes between two looks at the free space
	minProgress = 64 << 10 // a try that gained less has gained nothing
	maxRestarts = 3
)

// partName is the partial file: by the content that it is to have, and the path,
// because two files can have the same content.
func (f *remoteFile) partName() string {
	path := sha256.Sum256([]byte(f.Path))
	return f.LFS + f.Git + "-" + hex.EncodeToString(path[:4]) + ".part"
}

// etagName is the file with the ETag of the answer that a partial file is from.
func (f *remoteFile) etagName() string { return strings.TrimSuffix(f.partName(), ".part") + ".etag" }

// download is one file on its way.
type download struct {
	l      *Library
	t      *transfer
	part   *os.Root
	remote *remoteFile
	url    string
	commit string

	file     *os.File
	there    int64 // bytes of it on the disk
	at       int64 // of them: that are hashed
	sha256   hash.Hash
	git      hash.Hash // nil: it is not of git itself
	etag     string    // strong; empty: none is known
	resumed  bool      // some of it is from another answer than the rest
	restarts int
}

// fetch makes one file whole, verified and durable.
func (l *Library) fetch(ctx context.Context, t *transfer, part *os.Root, commit string, f *remoteFile) (err error) {
	d := &download{
		l: l, t: t, part: part, remote: f, commit: commit,
		url: l.endpoint.JoinPath(t.id.Repo, "resolve", commit).String() + "/" + escapePath(f.Path),
	}
	if d.file, err = part.OpenFile(f.partName(), os.O_RDWR|os.O_CREATE, 0o644); err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, d.file.Close())
		// Else the partial file stays: whoever asks again goes on from it.
		if err != nil && d.at == 0 { // nothing to go on with
			_, _ = part.Remove(f.partName()), part.Remove(f.etagName())
		}
	}()
	if err := d.readPresent(ctx); err != nil {
		return err
	}
	for {
		if err := d.complete(ctx); err != nil {
			return err
		}
		err := d.verify()
		switch {
		case err == nil:
			// What is on the hub is no model either: to keep it would help nobody.
			if err := checkFormat(d.file, d.at, f.Path); err != nil {
				return errors.Join(err, d.restart())
			}
			f.sum = hex.EncodeToString(d.sha256.Sum(nil))
			return d.file.Sync()
		// What came in one piece would come wrong again.
		case !d.resumed || d.restarts >= maxRestarts:
			return errors.Join(err, d.restart())
		}
		// A part of it may be from before a loss of power, or from another source.
		d.restarts++
		if err := d.restart(); err != nil {
			return err
		}
	}
}

// etagRE is a strong ETag (RFC 9110): what a loss of power has made of a file must not
// become a header that no request can be sent with.
var etagRE = regexp.MustCompile(`^"[!#-~]*"$`)

// readPresent hashes what an earlier download has left.
func (d *download) readPresent(ctx context.Context) error {
	d.begin()
	info, err := d.file.Stat()
	if err != nil {
		return err
	}
	d.there = min(info.Size(), d.remote.Size) // as present says
	if info.Size() > d.remote.Size {
		return d.restart()
	}
	buf := make([]byte, bufferSize)
	for {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		n, err := d.file.Read(buf)
		d.take(buf[:n])
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	d.resumed = d.at > 0
	// By it the next answer is known to be of the same content.
	if raw, err := d.part.ReadFile(d.remote.etagName()); err == nil && d.resumed && etagRE.Match(raw) {
		d.etag = string(raw)
	}
	d.t.fetches(d.remote.Path)
	return nil
}

// begin forgets what was hashed.
func (d *download) begin() {
	d.t.add(-d.at)
	d.at, d.sha256, d.git, d.resumed, d.etag = 0, sha256.New(), nil, false, ""
	if d.remote.LFS == "" {
		d.git = sha1.New() //nolint:gosec // see the import
		if len(d.remote.Git) == 64 {
			d.git = sha256.New()
		}
		// git hashes a header before the content.
		fmt.Fprintf(d.git, "blob %d\x00", d.remote.Size)
	}
}

// restart throws away what is there.
func (d *download) restart() error {
	d.begin()
	if _, err := d.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := d.file.Truncate(0); err != nil {
		return err
	}
	// The space is free again, which other downloads may count on.
	d.t.wrote(-d.there)
	d.there = 0
	return nil
}

// take counts and hashes bytes that are in the file.
func (d *download) take(p []byte) {
	d.sha256.Write(p)
	if d.git != nil {
		d.git.Write(p)
	}
	d.at += int64(len(p))
	d.t.add(int64(len(p)))
}

func (d *download) verify() error {
	want, got := d.remote.LFS, d.sha256
	if d.git != nil {
		want, got = d.remote.Git, d.git
	}
	if sum := hex.EncodeToString(got.Sum(nil)); sum != want {
		return fmt.Errorf("%w: %s has the hash %s, but the hub lists %s", ErrCorrupt, d.remote.Path, sum, want)
	}
	return nil
}

// transient is an error after which a try that goes on where this one ended may
// succeed.
type transient struct{ error }

func (t transient) Unwrap() error { return t.error }

// complete asks for what is missing until nothing is.
func (d *download) complete(ctx context.Context) error {
	for vain := 0; d.at < d.remote.Size; {
		before, restarts := d.at, d.restarts
		err := d.try(ctx)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if _, again := errors.AsType[transient](err); err != nil && !again {
			return err
		}
		// While something comes, a connection that breaks again and again is no reason to give up.
		if d.at-before >= minProgress && d.restarts == restarts {
			vain = 0
		}
		if err == nil {
			continue
		}
		if vain++; vain >= d.l.opts.Tries {
			return err
		}
		wait := min(d.l.opts.RetryMin<<(vain-1), d.l.opts.RetryMax)
		d.t.note(fmt.Sprintf("%v; trying again in %v", err, wait))
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(wait):
		}
		d.t.note("")
	}
	return nil
}

// try asks for the rest of the file and writes what comes.
func (d *download) try(ctx context.Context) error {
	header := http.Header{}
	if d.at > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-", d.at))
		// If-Range: if the file is another by now, all of it comes, and not a part that does not fit.
		if d.etag != "" {
			header.Set("If-Range", d.etag)
		}
	}
	resp, err := d.l.request(ctx, d.url, header, d.t.note)
	if err != nil {
		return transient{err}
	}
	defer func() { _ = resp.Body.Close() }() // only read from
	if err := d.checkSource(resp); err != nil {
		return err
	}
	if err := d.checkAnswer(resp); err != nil {
		return err
	}
	d.resumed = d.resumed || d.at > 0
	return d.receive(resp)
}

// receive writes the body to the file until there is no more.
func (d *download) receive(resp *http.Response) error {
	buf, rest := make([]byte, bufferSize), d.at > 0
	for looked := d.at; ; {
		n, err := resp.Body.Read(buf)
		// More than was listed is wrong, and must not fill the disk.
		if int64(n) > d.remote.Size-d.at {
			return d.unfit(rest, "more")
		}
		// Written first: what is hashed must be in the file.
		if _, err := d.file.Write(buf[:n]); err != nil {
			return d.rewind(err)
		}
		d.there += int64(n)
		d.t.wrote(int64(n))
		d.take(buf[:n])
		if errors.Is(err, io.EOF) && d.at == d.remote.Size {
			return nil
		}
		if err != nil {
			// In order, but too early.
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return transient{fmt.Errorf("%w: %s was cut off after %d of %d bytes: %w", ErrUnavailable, d.remote.Path, d.at, d.remote.Size, err)}
		}
		// Others write to the disk, too, and hive's own file needs room.
		if d.at-looked >= spaceEvery {
			looked = d.at
			if err := d.l.checkSpace(d.t, d.remote.Size-d.at); err != nil {
				return err
			}
		}
	}
}

// rewind takes back a write that came about in part: the file must not hold bytes
// that were not hashed.
func (d *download) rewind(err error) error {
	if _, seek := d.file.Seek(d.at, io.SeekStart); seek != nil {
		return errors.Join(err, seek)
	}
	return errors.Join(err, d.file.Truncate(d.at))
}

// escapePath escapes each element of a path for a URL.
func escapePath(name string) string {
	var b strings.Builder
	for i := range len(name) {
		if c := name[i]; plainByte(c) || c == '/' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
