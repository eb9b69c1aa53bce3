package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// inMemory is the longest body that is kept in memory; what is longer goes to a file while it comes.
const inMemory = 1 << 20

// body is the whole body of a request: it is needed again when another replica is tried.
type body struct {
	file *os.File // has no name; nil: the body is in text
	text []byte
	size int64
	// spooled counts the bytes of the files of all requests.
	spooled *atomic.Int64

	// What is sent instead of a part of it; to 0: nothing.
	from, to int64
	instead  []byte
}

// spool reads the body of a request, up to a limit. The errors are *refusal, or the client's.
func (g *Gateway) spool(w http.ResponseWriter, r *http.Request) (*body, error) {
	limited := http.MaxBytesReader(w, r.Body, g.opts.MaxBody)
	head := make([]byte, 0, min(max(r.ContentLength, 512), inMemory)+1)
	buf := bytes.NewBuffer(head)
	n, err := io.CopyN(buf, limited, inMemory+1)
	switch {
	case errors.Is(err, io.EOF):
		return inText(buf.Bytes()), nil
	case err != nil:
		return nil, g.unread(err)
	case n <= inMemory:
		return inText(buf.Bytes()), nil
	}
	b := &body{spooled: &g.spooled}
	if b.file, err = os.CreateTemp(g.opts.SpoolDir, "hive-gateway-"); err != nil {
		return nil, fmt.Errorf("spool a body of more than %d bytes: %w", inMemory, err)
	}
	if err := b.fill(buf, limited, g.opts.MaxSpool); err != nil {
		b.close()
		return nil, g.unread(err)
	}
	return b, nil
}

func inText(text []byte) *body { return &body{text: text, size: int64(len(text))} }

// fill writes the body into its file, which has no name from now on.
func (b *body) fill(head io.Reader, rest io.Reader, most int64) error {
	if err := os.Remove(b.file.Name()); err != nil {
		return err
	}
	from := io.MultiReader(head, rest)
	for {
		n, err := io.CopyN(b.file, from, inMemory)
		b.size += n
		switch {
		case b.spooled.Add(n) > most:
			return refuse(http.StatusServiceUnavailable, "spool_full", "the bodies of all requests together have more than %d bytes (hive gateway --max-spool)", most).again(time.Second)
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
	}
}

// unread is why a body could not be read.
func (g *Gateway) unread(err error) error {
	if refused, ok := errors.AsType[*refusal](err); ok {
		return refused
	}
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return refuse(http.StatusRequestEntityTooLarge, "request_too_large", "the body is longer than %d bytes (hive gateway --max-body)", tooLarge.Limit)
	}
	return fmt.Errorf("read the request: %w", err)
}

// look calls fn with the whole body, which fn may not keep: a file is mapped for so long, and its
// pages are the kernel's to drop.
func (b *body) look(fn func(text []byte) error) error {
	if b.file == nil {
		return fn(b.text)
	}
	text, err := unix.Mmap(int(b.file.Fd()), 0, int(b.size), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map a body of %d bytes: %w", b.size, err)
	}
	return errors.Join(fn(text), unix.Munmap(text))
}

// replace has the bytes from one place to another sent as others.
func (b *body) replace(from, to int64, instead []byte) { b.from, b.to, b.instead = from, to, instead }

// length is how many bytes are sent.
func (b *body) length() int64 { return b.size - (b.to - b.from) + int64(len(b.instead)) }

// reader reads what is sent from its beginning. After close it has errors: a connection that was given
// up may still read.
func (b *body) reader() io.Reader {
	switch {
	case b.file != nil:
		return io.MultiReader(io.NewSectionReader(b.file, 0, b.from), bytes.NewReader(b.instead), io.NewSectionReader(b.file, b.to, b.size-b.to))
	case b.to == 0:
		return bytes.NewReader(b.text)
	}
	// One text, not three: a reader of several takes 32 KiB for each request.
	return bytes.NewReader(slices.Concat(b.text[:b.from], b.instead, b.text[b.to:]))
}

// close lets go of the file.
func (b *body) close() {
	if b != nil && b.file != nil {
		b.spooled.Add(-b.size)
		_ = b.file.Close()
	}
}
