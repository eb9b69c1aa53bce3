package main

import "slices"

// components returns the strongly connected components of a directed graph, each sorted,
// by Tarjan's algorithm. A node that is on no cycle is a component of its own.
func components(nodes []string, next map[string][]string) [][]string {
	t := tarjan{next: next, index: map[string]int{}, low: map[string]int{}, open: map[string]bool{}}
	for _, n := range nodes {
		if _, visited := t.index[n]; !visited {
			t.visit(n)
		}
	}
	return t.found
}

type tarjan struct {
	next  map[string][]string
	index map[string]int  // when a node was first visited
	low   map[string]int  // the earliest open node that can be reached from it
	open  map[string]bool // it is on the stack: its component is not complete
	stack []string
	found [][]string
}

func (t *tarjan) visit(n string) {
	t.index[n] = len(t.index)
	t.low[n] = t.index[n]
	t.stack = append(t.stack, n)
	t.open[n] = true
	for _, m := range t.next[n] {
		if _, visited := t.index[m]; !visited {
			t.visit(m)
			t.low[n] = min(t.low[n], t.low[m])
		} else if t.open[m] {
			t.low[n] = min(t.low[n], t.index[m])
		}
	}
	if t.low[n] != t.index[n] {
		return
	}
	// n is the first node of its component; what was stacked since is the rest of it.
	start := slices.Index(t.stack, n)
	component := slices.Sorted(slices.Values(t.stack[start:]))
	for _, m := range component {
		t.open[m] = false
	}
	t.stack = t.stack[:start]
	t.found = append(t.found, component)
}
