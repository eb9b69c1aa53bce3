package harness

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Tally is what a program has seen: how often something has happened, and which
// promises were broken. It is safe for concurrent use.
type Tally struct {
	p *Program

	mu         sync.Mutex
	counts     map[string]int
	violations map[string]int // by kind
	reported   map[string]bool
}

// NewTally makes an empty one, which prints violations as the program's.
func (p *Program) NewTally() *Tally {
	return &Tally{p: p, counts: map[string]int{}, violations: map[string]int{}, reported: map[string]bool{}}
}

// Add counts what has happened n times.
func (t *Tally) Add(what string, n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts[what] += n
}

// Violation counts and prints a broken promise, each text once.
func (t *Tally) Violation(kind, format string, args ...any) {
	text := kind + ": " + fmt.Sprintf(format, args...)
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.reported[text] {
		t.reported[text] = true
		t.violations[kind]++
		t.p.Printf("%s", text)
	}
}

// Violations is how many there were of a kind.
func (t *Tally) Violations(kind string) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.violations[kind]
}

// Verdict is an error if a promise was broken, or if something did not happen without
// which the run has shown nothing.
func (t *Tally) Verdict(mustHappen ...string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.violations) > 0 {
		return fmt.Errorf("promises were broken: %s", list(t.violations))
	}
	for _, what := range mustHappen {
		if t.counts[what] == 0 {
			return fmt.Errorf("the run has shown nothing: there was no %q", what)
		}
	}
	return nil
}

func (t *Tally) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.violations) == 0 {
		return list(t.counts) + "; nothing violated"
	}
	return list(t.counts) + "; violated: " + list(t.violations)
}

func list(counts map[string]int) string {
	var parts []string
	for _, what := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, fmt.Sprintf("%d %s", counts[what], what))
	}
	return strings.Join(parts, ", ")
}
