package doctor

import (
	"fmt"
	"strings"
)

// checkWanted looks for autostart entries that could not be started.
func checkWanted(f *Facts) Checkup {
	const name = "wanted"
	if len(f.Wanted) == 0 {
		return ok(name, "every autostart entry has a worker, is being started, or was stopped on request")
	}
	var list []string
	again := 0
	for _, w := range f.Wanted {
		if !w.NextTry.IsZero() {
			again++
		}
		if len(list) < listedAtMost {
			list = append(list, w.Name+": "+w.Reason)
		}
	}
	found := fmt.Sprintf("%d that should run could not be started: %s", len(f.Wanted), strings.Join(list, "; "))
	if more := len(f.Wanted) - len(list); more > 0 {
		found += fmt.Sprintf("; and %d more", more)
	}
	do := "remove the cause; hive tries again by itself, and `hivectl reload` at once"
	if again < len(f.Wanted) {
		do = "remove the cause, then `hivectl reload` or `hivectl up NAME`: hive does not try all of them again"
	}
	return warning(name, found, "nobody serves in their place", do)
}
