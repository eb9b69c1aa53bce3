package main

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"

	"rbeehive/test/harness"
)

// run is one run of the program, which all clients share.
type run struct {
	p       *harness.Program
	hive    *harness.Instance
	history *history
	tally   *harness.Tally

	mu           sync.Mutex
	holders      map[int]*holder    // processes that hold leases, by PID
	origins      map[string]*origin // every lease that hive has shown
	unattributed []*origin          // those of workers that are still to be asked for
	recent       []uint16           // the ports that were leased when last listed
}

func newRun(p *harness.Program, hive *harness.Instance) *run {
	return &run{p: p, hive: hive, history: newHistory(), tally: p.NewTally(), holders: map[int]*holder{}, origins: map[string]*origin{}}
}

// call is Call of the instance. An error that is hive's own fault, and one that says
// that this program is wrong, is a violation too.
func (r *run) call(ctx context.Context, method, path string, body, into any) error {
	err := r.hive.Call(ctx, method, path, body, into)
	refused, ok := errors.AsType[*harness.Refused](err)
	if ok && !errors.Is(err, harness.ErrUnavailable) && (refused.Status >= 500 || refused.Status == http.StatusBadRequest) {
		r.tally.Violation("WRONG", "%s %s %+v: %v", method, path, body, err)
	}
	return err
}

// expected counts an error that a client must live with. Any other is a violation.
func (r *run) expected(doing string, err error, codes ...string) {
	switch code := harness.Code(err); {
	case errors.Is(err, harness.ErrUnavailable):
		r.tally.Add("unavailable", 1)
	case slices.Contains(codes, code):
		r.tally.Add(code, 1)
	default:
		r.tally.Violation("WRONG", "%s: %v", doing, err)
	}
}
