package proc

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"rbeehive/store"
)

// EndCommands kills what a killed hive of this state has left of its commands, and
// returns what that was: every process with the mark of one, proven by the state's
// secret, or in the cgroup of one. Call it in recovery, before anything is run: commands
// under way would be ended too. Without marks only their cgroups count, and all of /proc
// is read only if there is one. An error names what could not be ended.
func EndCommands(ctx context.Context, stateID string, secret store.Secret, marks bool) (ended []Member, err error) {
	if stateID == "" {
		return nil, nil
	}
	trees := commandCgroups(stateID)
	if marks {
		trees = append(trees, &Tree{mark: markPrefix(stateID), markSecret: secret, UID: NoUser})
	}
	if len(trees) == 0 {
		return nil, nil
	}
	// A process in a cgroup is the cgroup's, so the marks find only those outside.
	found, err := SurveyMembers(ctx, trees)
	if err != nil {
		return nil, fmt.Errorf("end commands: %w", err)
	}
	var left []Member
	for i, t := range trees {
		// An empty cgroup is not skipped: Stop removes it.
		if len(found[i]) == 0 && t.Cgroup == "" {
			continue
		}
		ended = append(ended, found[i]...)
		still, err := t.Stop(ctx, store.Stop{})
		if err != nil {
			return ended, fmt.Errorf("end commands: %w", err)
		}
		left = append(left, still...)
	}
	if len(left) > 0 {
		return ended, fmt.Errorf("end commands: %w", leftError(left))
	}
	return ended, nil
}

// commandCgroups returns a tree for each cgroup of a command: nothing else is known of
// it.
func commandCgroups(stateID string) []*Tree {
	m, err := findCgroupMount()
	if err != nil {
		return nil
	}
	root, err := rootOf(m, stateID)
	if err != nil {
		return nil
	}
	entries, err := os.ReadDir(filepath.Join(m.Dir, root))
	if err != nil {
		return nil // there is none: nothing was started in one
	}
	var trees []*Tree
	for _, e := range entries {
		if e.IsDir() && strings.HasPrefix(e.Name(), commandLeaf) {
			trees = append(trees, &Tree{Cgroup: path.Join(root, e.Name())})
		}
	}
	return trees
}
