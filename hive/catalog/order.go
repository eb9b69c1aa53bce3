package catalog

import (
	"fmt"
	"slices"
	"strings"
)

// checkOrder checks what entries say of the order in which they are started: start_after
// names autostart entries, and leads to no circle, in which all would wait for one another.
func (c *Catalog) checkOrder(entries []Entry) error {
	for i := range entries {
		e := &entries[i]
		fail := func(n int, format string, a ...any) error {
			return &EntryError{Index: i, File: e.File, Name: e.Name, Key: fmt.Sprintf("start_after[%d]", n), Reason: fmt.Sprintf(format, a...)}
		}
		for n, name := range e.StartAfter {
			other := c.types[name]
			switch {
			case !e.Autostart:
				return fail(n, "counts for entries with autostart: true only, and this one has none")
			case other == nil:
				return fail(n, "%q: there is no entry of that name", name)
			case !other.Autostart:
				return fail(n, "%q: expected an entry with autostart: true, which it is not", name)
			}
			if path := c.pathTo(e.Name, other, nil); path != nil {
				return fail(n, "%q: leads back to %s (%s): each would wait for the others", name, e.Name, strings.Join(append([]string{e.Name}, path...), " after "))
			}
		}
	}
	return nil
}

// pathTo is how t leads to the entry of that name by start_after; nil: it does not.
func (c *Catalog) pathTo(name string, t *Type, seen []string) []string {
	if t == nil || slices.Contains(seen, t.Name) {
		return nil
	}
	seen = append(seen, t.Name)
	if t.Name == name {
		return seen
	}
	for _, next := range t.StartAfter {
		if path := c.pathTo(name, c.types[next], slices.Clone(seen)); path != nil {
			return path
		}
	}
	return nil
}
