package output

import (
	"bytes"
	"io"
	"sync"
	"unicode/utf8"

	"rbeehive/store/plain"
)

// Terminal is the one way to Stdout and to Stderr. It makes each Write whole among
// concurrent ones. What goes to a terminal is plain text there but for line ends, tabs
// and the colours of Paint: a name that somebody chose, or the log of a worker, must not
// change the terminal or look like something else on it. A pipe gets what was written,
// which of texts for people is the same (see People).
type Terminal struct {
	mu    sync.Mutex
	w     io.Writer
	shown *shown // nil: it is no terminal
}

// NewTerminal makes the way to w, which is a terminal, or has nothing but texts for people
// and so is treated like one, if is says so.
func NewTerminal(w io.Writer, is bool) *Terminal {
	t := &Terminal{w: w}
	if is {
		t.shown = &shown{}
	}
	return t
}

func (t *Terminal) Write(p []byte) (int, error) { return t.write(p, t.shown) }

// write writes p as it passes the sanitizer.
func (t *Terminal) write(p []byte, s *shown) (int, error) {
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
func (t *Terminal) end(s *shown) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s != nil {
		_, _ = t.w.Write(s.end()) // at its end nothing can be done about an error
	}
}

// IsTerminal reports whether what is written goes to a terminal.
func (t *Terminal) IsTerminal() bool { return t.shown != nil }

// Close writes what is left; the writer below stays open.
func (t *Terminal) Close() { t.end(t.shown) }

// People is the way for texts for people, which may go through a pipe to a pager.
func (t *Terminal) People() io.Writer { return peopleTerminal{t, &shown{}} }

type peopleTerminal struct {
	t     *Terminal
	shown *shown
}

func (p peopleTerminal) Write(b []byte) (int, error) { return p.t.write(b, p.shown) }

// Raw is the way for control sequences of ours. Texts of others in it must be clean.
func (t *Terminal) Raw() io.Writer { return rawTerminal{t} }

type rawTerminal struct{ t *Terminal }

func (r rawTerminal) Write(p []byte) (int, error) { return r.t.write(p, nil) }

// Log is the way for the log of one worker; the caller calls end after it. On a terminal
// the log keeps its colours if it may, and each line ends without one. A CR, as progress
// bars write it, ends a line too: it would write over what is there. It is not safe for
// concurrent use.
func (t *Terminal) Log(coloured bool) (w io.Writer, end func()) {
	if t.shown == nil {
		return t, func() {}
	}
	l := &logTerminal{t, shown{log: true, coloured: coloured}}
	return l, func() { t.end(&l.shown) }
}

type logTerminal struct {
	t     *Terminal
	shown shown
}

func (l *logTerminal) Write(p []byte) (int, error) { return l.t.write(p, &l.shown) }

// sanitizer turns what is written into what a terminal gets.
type shown struct {
	log      bool   // of a worker: see Terminal.Log
	coloured bool   // such a log keeps its colours
	held     []byte // the beginning of a character or a sequence, until it is complete
	painted  bool   // a colour is set
	returned bool   // a CR came last
}

// append appends p sanitized, and keeps an incomplete end for the next call.
func (s *shown) append(b, p []byte) []byte {
	// A character or a sequence may be cut by the end of a write, as a pipe has it.
	p = append(s.held, p...)
	s.held = nil
	for len(p) > 0 {
		if unfinished(p) {
			s.held = bytes.Clone(p)
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
func (s *shown) end() []byte {
	b := []byte(plain.Text(string(s.held)))
	// A log that ends in the middle of a colour must not colour the prompt of the shell.
	if s.held = nil; s.painted {
		s.painted = false
		b = append(b, uncolour...)
	}
	return b
}

// maxColour is the longest sequence that sets a colour, in bytes.
const longestColour = 64

// unfinished reports whether p may be the beginning of a character or of a colour.
func unfinished(p []byte) bool {
	// Past longestColour it can be none, and waiting would hold back all that follows.
	if p[0] == '\x1b' && len(p) < longestColour {
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
		case i == 0 && c == '\x1b', i == 1 && c == '[', i > 1 && i < longestColour && ('0' <= c && c <= '9' || c == ';' || c == ':'):
		case i > 1 && c == 'm':
			return i + 1, true
		default:
			return 0, true
		}
	}
	return 0, false
}

// colour takes a colour from the beginning of p, and returns how long it was.
func (s *shown) colour(b, p []byte) ([]byte, int) {
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
		s.painted = true
		b = append(s.endLine(b), p[:n]...)
	}
	// Without colours the sequence of a log is swallowed, not shown as text.
	return b, n
}

// endLine ends a line after a CR without a newline.
func (s *shown) endLine(b []byte) []byte {
	if !s.returned {
		return b
	}
	s.returned = false
	return s.newline(b)
}

func (s *shown) newline(b []byte) []byte {
	// The next line may be one of hivectl's own.
	if s.painted {
		s.painted = false
		b = append(b, uncolour...)
	}
	return append(b, '\n')
}

// character takes one character from the beginning of p, and returns how long it was.
func (s *shown) character(b, p []byte) ([]byte, int) {
	switch {
	case p[0] == '\n':
		s.returned = false
		return s.newline(b), 1
	case p[0] == '\r' && s.log:
		// Whether it is half of a CRLF or a line end by itself shows with the next byte.
		s.returned = true
		return b, 1
	case p[0] == '\t':
		return append(s.endLine(b), '\t'), 1
	}
	_, n := utf8.DecodeRune(p)
	return append(s.endLine(b), plain.Text(string(p[:n]))...), n
}
