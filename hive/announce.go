package hive

import (
	"context"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"rbeehive/hive/errdefs"
	"rbeehive/hive/rbee"
	"rbeehive/store"
)

// findQueens makes the announcer of the configured queen and of the one that has
// introduced itself in an earlier run: after an upgrade of hive that one would not know that
// it is back.
func (h *Hive) findQueens() error {
	h.queens = rbee.New(rbee.Options{HiveID: h.cfg.HiveID, HiveURL: h.cfg.URL, Log: h.cfg.Log, OnDropped: h.forgetQueen})
	if err := h.queens.Configure(h.cfg.QueenURL); err != nil {
		return fmt.Errorf("hive: queen URL %q: %w", h.cfg.QueenURL, err)
	}
	var met string
	err := h.store.View(func(tx *store.Tx) (err error) {
		met, err = tx.Queen()
		return err
	})
	if err != nil {
		return err
	}
	// No reason to refuse the start: a queen that is there introduces itself again.
	if err := h.queens.Introduce(met); err != nil { // checked when it was written
		h.cfg.Log.WithError(err).WithField("queen_url", met).Warn("the queen that introduced itself is forgotten")
	}
	return nil
}

// forgetQueen takes a queen out of the state file.
func (h *Hive) forgetQueen(queenURL string) {
	// Compared in the transaction: another may have introduced itself since.
	err := h.store.Update(h.run.Context(), func(tx *store.Tx) error {
		met, err := tx.Queen()
		if err != nil || met != queenURL { // another has come meanwhile
			return err
		}
		return tx.SetQueen("")
	})
	h.journal.LogUnlessClosing(err, "forget the queen", queenURL)
}

// announce tells the queens that the hive is there, until the hive closes. None could
// do anything with the path of a socket.
func (h *Hive) announce() {
	if !strings.HasPrefix(h.cfg.URL, "unix:") {
		h.queens.Run(h.run.Context())
	}
}

// MeetQueen remembers a queen that has introduced itself, also over restarts, in the
// place of the last that did, and announces the hive to it, if it has not been told
// yet. It has hive send a POST to a URL: who may name one is for the caller to decide.
// It blocks for a commit if the queen is another one. Errors: an *InputError of kind
// ErrBadRequest, and those of the state file.
func (h *Hive) MeetQueen(ctx context.Context, text string) error {
	clean, err := rbee.NormalizeURL(text)
	if err != nil {
		return &errdefs.InputError{Kind: errdefs.ErrBadRequest, Field: "queen_url", Detail: err.Error()}
	}
	// Else hive would be announced to it twice, and a queen does not notice that.
	if own, err := rbee.NormalizeURL(h.settings().QueenURL); err == nil && own == clean {
		return nil // the configured one, who is told anyway
	}
	var met string
	err = h.store.View(func(tx *store.Tx) (err error) {
		met, err = tx.Queen()
		return err
	})
	// A queen names itself in each request for capabilities, which must not cost a commit each time.
	if err == nil && met != clean {
		err = h.store.Update(ctx, func(tx *store.Tx) error { return tx.SetQueen(clean) })
	}
	if err != nil {
		return fmt.Errorf("remember the queen: %w", err)
	}
	// Recorded first: should hive be killed now, the next one announces itself.
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
	// The queen would look for this hive on its own machine.
	if err == nil && loopbackHost(u.Hostname()) && !loopbackHost(q.Hostname()) {
		return "the queen is on another machine and would be told a loopback address; say how hive is reached from there (advertise)"
	}
	return ""
}

func loopbackHost(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
}
