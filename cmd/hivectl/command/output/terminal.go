package output

import (
	"bytes"
	"io"
	"sync"
	"unicode/utf8"

	"rbeehive/store/plain"
)

// Terminal is the only writer to Stdout and to Stderr. It makes each Write atomic among
// concurrent ones. A terminal gets only plain text, line ends, tabs and the colours of
// Paint: a name that somebody chose, or the log of a worker, must not change the terminal
// or look like something else on it. A pipe gets what was written, except for texts for
// people, which are plain there too (see ForPeople).
type Terminal struct {
	mu        sync.Mutex
	w         io.Writer
	sanitizer *sanitizer // nil: it is no terminal
}

// NewTerminal makes the writer to w, which is treated as a terminal if isTerminal is set:
// one it is, or one that gets nothing but texts for people.
func NewTerminal(w io.Writer, isTerminal bool) *Terminal {
	t := &Terminal{w: w}
	if isTerminal {
		t.sanitizer = &sanitizer{}
	}
	return t
}

func (t *Terminal) Write(p []byte) (int, error) { return t.write(p, t.sanitizer) }

// write writes p as it passes the sanitizer.
func (t *Terminal) write(p []byte, s *sanitizer) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	made := p
	if s != nil {
		made = s.append(nil, p)
	}
	if _, err := t.w.Write(made); err != nil {
		return 0, err
	}
	// The number of bytes given, not shown: io.Copy takes another one for a short write.
	return len(p), nil
}

// end writes the bytes of a character that was never completed.
func (t *Terminal) end(s *sanitizer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s != nil {
		_, _ = t.w.Write(s.end()) // at its end nothing can be done about an error
	}
}

// IsTerminal reports whether what is written goes to a terminal.
func (t *Terminal) IsTerminal() bool { return t.sanitizer != nil }

// Close flushes; the writer below stays open.
func (t *Terminal) Close() { t.end(t.sanitizer) }

// ForPeople is the writer for texts for people, which may go through a pipe to a pager.
func (t *Terminal) ForPeople() io.Writer { return plainTerminal{t, &sanitizer{}} }

type plainTerminal struct {
	t         *Terminal
	sanitizer *sanitizer
}

func (p plainTerminal) Write(b []byte) (int, error) { return p.t.write(b, p.sanitizer) }

// Raw is the writer for our own control sequences. Texts from outside in it must be clean.
func (t *Terminal) Raw() io.Writer { return rawTerminal{t} }

type rawTerminal struct{ t *Terminal }

func (r rawTerminal) Write(p []byte) (int, error) { return r.t.write(p, nil) }

// Log is the writer for the log of one worker; the caller calls end after it. On a terminal
// the log keeps its colours if coloured, and each line ends without one. A CR, as progress
// bars write it, ends a line too: it would write over what is there. It is not safe for
// concurrent use.
func (t *Terminal) Log(coloured bool) (w io.Writer, end func()) {
	if t.sanitizer == nil {
		return t, func() {}
	}
	l := &logTerminal{t, sanitizer{log: true, coloured: coloured}}
	return l, func() { t.end(&l.sanitizer) }
}

type logTerminal struct {
	t         *Terminal
	sanitizer sanitizer
}

func (l *logTerminal) Write(p []byte) (int, error) { return l.t.write(p, &l.sanitizer) }

// sanitizer turns what is written into what a terminal gets.
type sanitizer struct {
	log       bool   // of a worker: see Terminal.Log
	coloured  bool   // such a log keeps its colours
	pending   []byte // the beginning of a character or a sequence, until it is complete
	painted   bool   // a colour is set
	pendingCR bool   // a CR came last
}

// append appends p sanitized, and keeps an incomplete end for the next call.
func (s *sanitizer) append(b, p []byte) []byte {
	// A character or a sequence may be cut by the end of a write, as a pipe has it.
	p = append(s.pending, p...)
	s.pending = nil
	for len(p) > 0 {
		if incomplete(p) {
			s.pending = bytes.Clone(p)
			return b
		}
		n := 0
		if b, n = s.colour(b, p); n == 0 {
			b, n = s.character(b, p)
		}
		p = p[n:]
	}
	return b
}

// end flushes what is pending.
func (s *sanitizer) end() []byte {
	b := []byte(plain.Text(string(s.pending)))
	// A log that ends in the middle of a colour must not colour the prompt of the shell.
	if s.pending = nil; s.painted {
		s.painted = false
		b = append(b, uncolour...)
	}
	return b
}

// maxColour is the longest sequence that sets a colour, in bytes.
const maxColour = 64

// incomplete reports whether p may be the beginning of a character or of a colour.
func incomplete(p []byte) bool {
	// Past maxColour it can be none, and waiting would hold back all that follows.
	if p[0] == '\x1b' && len(p) < maxColour {
		_, whole := colourIn(p)
		return !whole
	}
	return !utf8.FullRune(p)
}

// colourIn returns how long the sequence that sets a colour (ECMA-48, SGR) is with which
// p begins; 0: it begins with none. whole is false if it could still become one.
func colourIn(p []byte) (n int, whole bool) {
	for i, c := range p {
		switch {
		case i == 0 && c == '\x1b', i == 1 && c == '[', i > 1 && i < maxColour && ('0' <= c && c <= '9' || c == ';' || c == ':'):
		case i > 1 && c == 'm':
			return i + 1, true
		default:
			return 0, true
		}
	}
	return 0, false
}

// colour takes a colour from the beginning of p, and returns how long it was.
func (s *sanitizer) colour(b, p []byte) ([]byte, int) {
	n, _ := colourIn(p)
	switch {
	case n == 0:
		return b, 0
	case !s.log:
		// The colours of Paint only: a name that somebody chose must not paint the terminal.
		if isPaint(p[:n]) {
			return append(b, p[:n]...), n
		}
		return b, 0
	case s.coloured:
		// Behind endLine, which takes back what was painted before.
		b = append(s.endLine(b), p[:n]...)
		s.painted = true
	}
	// Without colours the sequence of a log is swallowed, not shown as text.
	return b, n
}

// endLine ends a line after a CR without a newline.
func (s *sanitizer) endLine(b []byte) []byte {
	if !s.pendingCR {
		return b
	}
	s.pendingCR = false
	return s.newline(b)
}

func (s *sanitizer) newline(b []byte) []byte {
	// The next line may be one of hivectl's own.
	if s.painted {
		s.painted = false
		b = append(b, uncolour...)
	}
	return append(b, '\n')
}

// character takes one character from the beginning of p, and returns how long it was.
func (s *sanitizer) character(b, p []byte) ([]byte, int) {
	switch {
	case p[0] == '\n':
		s.pendingCR = false
		return s.newline(b), 1
	case p[0] == '\r' && s.log:
		// Whether it is half of a CRLF or a line end by itself shows with the next byte.
		s.pendingCR = true
		return b, 1
	case p[0] == '\t':
		return append(s.endLine(b), '\t'), 1
	}
	_, n := utf8.DecodeRune(p)
	return append(s.endLine(b), plain.Text(string(p[:n]))...), n
}
