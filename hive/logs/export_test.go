package logs

import (
	"context"
	"io"
)

// Copy makes the file system one that cannot take blocks out of the head of a file.
func (d *Dir) Copy() {
	d.headUnit() // after this it is not asked for again
	d.unit.Store(0)
}

// Collapses reports whether the file system can take blocks out of the head of a file.
func (d *Dir) Collapses() bool { return d.headUnit() > 0 }

// RotateLog rotates the log of one worker, and returns what Rotate reports.
func (d *Dir) RotateLog(ctx context.Context, id string) error {
	return d.rotate(ctx, d.log(id, d.Path(id)))
}

// Read reads on; io.EOF is the end for now.
func (r *Reader) Read(p []byte) (int, error) {
	for {
		n, at, err := r.readAt(p, r.pos)
		here := at == r.pos
		r.pos = at + int64(n)
		switch {
		case n > 0 || err != nil || len(p) == 0:
			return n, err
		case here:
			return 0, io.EOF
		}
	}
}

// ParseName takes the name of a file in the directory apart.
var ParseName = parseName
