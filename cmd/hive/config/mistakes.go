package config

import (
	"errors"
	"fmt"
	"slices"

	"rbeehive/store/plain"
)

// ErrConfig is what every *Error unwraps to.
var ErrConfig = errors.New("configuration")

// Error is one mistake in the configuration.
type Error struct {
	Source string // where it is: "hive.yaml:3: ports", "HIVE_PORT" or "--port"
	Reason string // what it is and what was expected
	Line   int    // in the file; 0: it is in none
}

// Error is one line, whatever the file holds: a key or a name in it may have
// line ends of its own.
func (e *Error) Error() string {
	return plain.Text(e.Source + ": " + e.Reason)
}

// Unwrap returns ErrConfig.
func (e *Error) Unwrap() error { return ErrConfig }

// Mistakes is every mistake in the configuration, as far as one does not hide another:
// variables and flags, the file by lines, then each file of types.d.
type Mistakes []*Error

// Error is one line: the first mistake, and how many more there are.
func (m Mistakes) Error() string {
	if len(m) == 1 {
		return m[0].Error()
	}
	return fmt.Sprintf("%v (and %d more: hive check lists them)", m[0], len(m)-1)
}

// Unwrap returns the mistakes one by one.
func (m Mistakes) Unwrap() []error {
	var all []error
	for _, e := range m {
		all = append(all, e)
	}
	return all
}

// maxMistakes is how many are kept: a file of another kind has one in each line.
const maxMistakes = 100

func (m *Mistakes) add(e *Error) {
	if len(*m) < maxMistakes && !slices.ContainsFunc(*m, func(had *Error) bool { return *had == *e }) {
		*m = append(*m, e)
	}
}

// addNew adds a mistake unless there is one of the same place: of a value that could not
// be read, say, nothing that follows from it.
func (m *Mistakes) addNew(e *Error) {
	if !slices.ContainsFunc(*m, func(had *Error) bool { return had.Source == e.Source }) {
		m.add(e)
	}
}

// err is nil if there are none.
func (m Mistakes) err() error {
	if len(m) == 0 {
		return nil
	}
	return m
}

func byLine(a, b *Error) int { return a.Line - b.Line }
