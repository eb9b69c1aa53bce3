// Package hive has a comment of two lines,
// that are two of its four.
package hive

import "sync"

type Hive struct {
	sync.Mutex     // one
	a, b       int // two
	Keep       int `name:"jobs_keep"`
}

/* A comment in
the other style. */

func (h *Hive) Open() error {
	// One line of a body of three.
	h.a = 1 // is code

	return nil
}

func (h Hive) Close() {}

type generic[T any] struct{ keep T }

func (g generic[T]) Get() T { return g.keep }
