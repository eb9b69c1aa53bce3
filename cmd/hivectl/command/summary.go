package command

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// stopParallel is how many workers are stopped at the same time. Each waits
// for its worker's grace period, so one after the other would take minutes.
const stopParallel = 16

// stopped is how the stop of one worker went, or its start.
type stopped struct {
	job json.RawMessage // nil: none was needed, or it could not be followed
	id  string          // of the worker
	err error
}

// say prints a line to Stdout where people read it.
func (a *app) say(format string, args ...any) {
	if a.forPeople() {
		fmt.Fprintln(a.env.Stdout, clean(fmt.Sprintf(format, args...)))
	}
}

// summary prints what programs asked for and says what failed. names are the
// workers or types, did is what was done to them.
func (a *app) summary(names []string, results []stopped, did string) error {
	var jobs [][]byte
	var ids []string
	var failures []error
	for i, r := range results {
		if r.job != nil {
			jobs = append(jobs, r.job)
		}
		if r.err != nil {
			failures = append(failures, r.err)
			a.reportOne(len(names) > 1, names[i], r.err)
			continue
		}
		ids = append(ids, r.id)
	}
	list := append(append([]byte(`{"jobs":[`), bytes.Join(jobs, []byte(","))...), "]}"...)
	err := a.print(view{raw: list, ids: ids, table: func(io.Writer) error { return nil }})
	switch {
	case err != nil:
		return err
	case len(failures) == 0:
		return nil
	case len(names) == 1:
		return failures[0]
	}
	return &cliError{code: classify(failures[0]).code, text: fmt.Sprintf("%d of %d workers were not %s", len(failures), len(names), did)}
}

// reportOne prints the failure of one worker among many.
func (a *app) reportOne(many bool, who string, err error) {
	var done *reported
	if many && !errors.As(err, &done) {
		a.notice("%s: %v", who, err)
	}
}
