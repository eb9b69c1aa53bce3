package hive

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"rbeehive/hive/errdefs"
	"rbeehive/hive/journal"
	"rbeehive/hive/rbee"
	"rbeehive/hive/run"
	"rbeehive/store"
)

// queens are the queens that the hive is announced to: the configured one, and the last
// that has introduced itself, which the state file remembers.
type queens struct {
	*rbee.Announcer
	run     *run.State
	journal *journal.Journal
	hiveURL string
}

// findQueens makes the announcer of the configured queen and of the one that has
// introduced itself in an earlier run: after an upgrade of hive it would not know that
// it is back.
func findQueens(cfg Config, r *run.State, j *journal.Journal) (*queens, error) {
	q := &queens{run: r, journal: j, hiveURL: cfg.URL}
	q.Announcer = rbee.New(rbee.Options{HiveID: cfg.HiveID, HiveURL: cfg.URL, Log: cfg.Log, OnDropped: q.forget})
	if err := q.Configure(cfg.QueenURL); err != nil {
		return nil, fmt.Errorf("hive: queen URL %q: %w", cfg.QueenURL, err)
	}
	met, err := q.remembered()
	if err != nil {
		return nil, err
	}
	if err := q.Introduce(met); err != nil { // checked when it was written
		cfg.Log.WithError(err).WithField("queen_url", met).Warn("the queen that introduced itself is forgotten")
	}
	return q, nil
}

// remembered returns the queen that the state file remembers; empty: none.
func (q *queens) remembered() (url string, err error) {
	err = q.journal.View(func(tx *store.Tx) error {
		url, err = tx.Queen()
		return err
	})
	return url, err
}

// forget takes a queen out of the state file.
func (q *queens) forget(queenURL string) {
	err := q.journal.Commit(q.run.Context(), func(b *journal.Batch) error {
		met, err := b.Queen()
		if err != nil || met != queenURL { // another has come meanwhile
			return err
		}
		return b.SetQueen("")
	})
	q.journal.LogUnlessClosing(err, "forget the queen", queenURL)
}

// announce tells the queens that the hive is there, until the hive closes. None could
// do anything with the path of a socket.
func (q *queens) announce() {
	if !strings.HasPrefix(q.hiveURL, "unix:") {
		q.Run(q.run.Context())
	}
}

// MeetQueen remembers a queen that has introduced itself, also over restarts, in the
// place of the last that did, and announces the hive to it, if it has not been told
// yet. It has hive send a POST to a URL: who may name one is for the caller to decide.
// It blocks for a commit if the queen is another one. Errors: an *errdefs.InputError
// of kind errdefs.ErrBadRequest, and those of the state file.
func (h *Hive) MeetQueen(ctx context.Context, text string) error {
	clean, err := rbee.NormalizeURL(text)
	if err != nil {
		return &errdefs.InputError{Kind: errdefs.ErrBadRequest, Field: "queen_url", Detail: err.Error()}
	}
	if own, err := rbee.NormalizeURL(h.settings().QueenURL); err == nil && own == clean {
		return nil // the configured one, who is told anyway
	}
	met, err := h.queens.remembered()
	if err == nil && met != clean {
		err = h.journal.Commit(ctx, func(b *journal.Batch) error { return b.SetQueen(clean) })
	}
	if err != nil {
		return fmt.Errorf("remember the queen: %w", err)
	}
	return h.queens.Introduce(clean)
}

// Unreachable says why a queen at queenURL cannot reach a hive at hiveURL; empty: it may.
func Unreachable(queenURL, hiveURL string) string {
	q, err := url.Parse(queenURL)
	if queenURL == "" || err != nil {
		return ""
	}
	if strings.HasPrefix(hiveURL, "unix:") {
		return "hive listens on a socket only; give it an address as well (listen), or say how it is reached (advertise)"
	}
	u, err := url.Parse(hiveURL)
	if err == nil && loopbackHost(u.Hostname()) && !loopbackHost(q.Hostname()) {
		return "the queen is on another machine and would be told a loopback address; say how hive is reached from there (advertise)"
	}
	return ""
}

func loopbackHost(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
}
