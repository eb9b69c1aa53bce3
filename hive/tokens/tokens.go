package tokens

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"rbeehive/hive/access"
	"rbeehive/hive/catalog"
	"rbeehive/hive/errdefs"
	"rbeehive/hive/input"
	"rbeehive/hive/journal"
	"rbeehive/hive/lock"
	"rbeehive/hive/run"
	"rbeehive/store"
	"rbeehive/store/plain"

	"github.com/sirupsen/logrus"
)

// Set is the tokens of the state in memory: each request that has one asks. It is
// replaced as a whole after each commit.
type Set struct {
	run     *run.State
	journal *journal.Journal
	types   func() *catalog.Catalog // as they are now
	log     *logrus.Logger

	byHash  atomic.Pointer[map[[sha256.Size]byte]store.Token]
	changes lock.Ranked[lock.Tokens] // one change at a time, so that the map has what the file has
}

// Load reads the tokens of a state file.
func Load(r *run.State, j *journal.Journal, types func() *catalog.Catalog, log *logrus.Logger) (*Set, error) {
	s := &Set{run: r, journal: j, types: types, log: log}
	return s, s.load()
}

// Request is what a token is made from.
type Request struct {
	Name      string
	Rights    access.Rights // Read, Operate with types, or Admin
	ExpiresIn time.Duration // 0: never
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,62}$`)

// FileName is the name of the token in the token file, as others are told of it.
const FileName = "token-file"

// secretPrefix lets a person, and a scanner of leaked secrets, see what it is.
const secretPrefix = "hive_"

// minLife is below what anybody can use.
const minLife = time.Minute

// Decode reads the body of a request for a token. Errors are *errdefs.InputError.
func Decode(body []byte) (Request, error) {
	var n Request
	f, err := input.Object(body, `{"name": "ci", "level": "read"}`)
	if err != nil {
		return n, err
	}
	if err := f.Only("a token", []string{"name", "level", "types", "expires_in"}); err != nil {
		return n, err
	}
	if n.Name, err = f.Text("name"); err != nil {
		return n, err
	}
	level, err := f.Text("level")
	if err != nil {
		return n, err
	}
	n.Rights = rightsOf(store.Token{Level: level})
	if n.Rights.Level == access.None {
		return n, errdefs.BadField("level", fmt.Sprintf("is %q; expected read, operate or admin", plain.Short(level)))
	}
	if n.Rights.Types, err = f.Strings("types"); err != nil {
		return n, err
	}
	// Without types operate would allow nothing, and with another level they would mean nothing.
	if operate := n.Rights.Level == access.Operate; operate != (len(n.Rights.Types) > 0) {
		return n, errdefs.BadField("types", "is for the level operate, and required there: the worker types that may be started and stopped")
	}
	life, err := f.Text("expires_in")
	if err != nil || life == "" {
		return n, err
	}
	n.ExpiresIn, err = time.ParseDuration(life)
	if err != nil || n.ExpiresIn < minLife {
		return n, errdefs.BadField("expires_in", fmt.Sprintf("is %q; expected a duration with a unit of at least 1m, such as 720h", plain.Short(life)))
	}
	return n, nil
}

// load reads the tokens again.
func (s *Set) load() error {
	all := map[[sha256.Size]byte]store.Token{}
	err := s.journal.View(func(tx *store.Tx) error {
		for t, err := range tx.Tokens() {
			if err != nil {
				return err
			}
			sum, err := hex.DecodeString(t.SHA256)
			// An error, not left out: a token that silently stopped counting would lock somebody out.
			if err != nil || len(sum) != sha256.Size {
				return fmt.Errorf("token %s: its hash is not one", t.Name)
			}
			all[[sha256.Size]byte(sum)] = t
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the tokens: %w", err)
	}
	s.byHash.Store(&all)
	return nil
}

// Rights returns the name of the token that has this SHA-256, and what it was
// made for. ok is false for one that is not known, or has expired. It does not block.
func (s *Set) Rights(sum [sha256.Size]byte) (name string, r access.Rights, ok bool) {
	t, ok := (*s.byHash.Load())[sum]
	// Expiry is looked at here alone: the token stays in the file until it is revoked.
	if !ok || t.ExpiresAt != nil && !time.Now().Before(*t.ExpiresAt) {
		return "", access.Rights{}, false
	}
	return t.Name, rightsOf(t), true
}

// rightsOf is what a token was made for. A level that this build does not know is none.
func rightsOf(t store.Token) access.Rights {
	for _, level := range []access.Level{access.Read, access.Operate, access.Admin} {
		if level.String() == t.Level {
			return access.Rights{Level: level, Types: t.Types}
		}
	}
	return access.Rights{}
}

// List returns all tokens by name, also those that have expired.
func (s *Set) List() []store.Token {
	return slices.SortedFunc(maps.Values(*s.byHash.Load()), func(a, b store.Token) int { return strings.Compare(a.Name, b.Name) })
}

// Add makes a token. The secret is returned and kept nowhere. It is durable and
// counts when it returns. Errors: *errdefs.InputError, of kind errdefs.ErrConflict if there is one of
// that name; those of a commit.
func (s *Set) Add(ctx context.Context, by access.Caller, n Request) (store.Token, string, error) {
	if err := s.check(n); err != nil {
		return store.Token{}, "", err
	}
	now := time.Now().UTC()
	t := store.Token{Name: n.Name, Level: n.Rights.Level.String(), Types: n.Rights.Types, CreatedAt: now, CreatedBy: by.Record()}
	if n.ExpiresIn > 0 {
		at := now.Add(n.ExpiresIn)
		t.ExpiresAt = &at
	}
	// Only its hash is written: nobody can read the secret from the file or from a backup.
	secret := renewed(&t)
	err := s.commit(ctx, func(tx *store.Tx) error {
		// In the transaction: the same name may be asked for twice at once.
		_, err := tx.Token(t.Name)
		if err == nil {
			return &errdefs.InputError{Kind: errdefs.ErrConflict, Field: "name", Detail: fmt.Sprintf("there is a token %s already; rotate it for a new secret, or revoke it first", t.Name)}
		}
		if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		return tx.PutToken(t)
	})
	if err != nil {
		return store.Token{}, "", err
	}
	s.log.WithField("token", t.Name).WithField("rights", n.Rights.String()).WithField("by", by.String()).Info("a token was added")
	return t, secret, nil
}

func (s *Set) check(n Request) error {
	switch {
	case !nameForm.MatchString(n.Name):
		return errdefs.BadField("name", fmt.Sprintf("is %q; expected letters, digits, '.', '_', '@' and '-', at most 63, the first a letter or a digit", plain.Short(n.Name)))
	// Two callers of one name could not be told apart in jobs and in the log.
	case n.Name == FileName:
		return errdefs.BadField("name", fmt.Sprintf("%s stands for the token in the data directory; choose another", FileName))
	case n.Rights.Level == access.None:
		return errdefs.BadField("rights", "is required: read, admin, or types")
	case len(s.List()) >= store.MaxTokens:
		return &errdefs.InputError{Kind: errdefs.ErrConflict, Detail: fmt.Sprintf("there are %d tokens, and no more are possible; revoke some", store.MaxTokens)}
	}
	for _, typ := range n.Rights.Types {
		if _, ok := s.types().Type(typ); !ok {
			return errdefs.BadField("types", fmt.Sprintf("no worker type %q (known: %s)", plain.Short(typ), strings.Join(s.types().Names(), ", ")))
		}
	}
	return nil
}

// Rotate gives a token another secret; the old one no longer counts when it
// returns. Errors: errdefs.ErrNotFound; those of a commit.
func (s *Set) Rotate(ctx context.Context, by access.Caller, name string) (t store.Token, secret string, err error) {
	err = s.commit(ctx, func(tx *store.Tx) (err error) {
		if t, err = tx.Token(name); err != nil {
			return err
		}
		secret = renewed(&t)
		return tx.PutToken(t)
	})
	if err != nil {
		return store.Token{}, "", noToken(name, err)
	}
	s.log.WithField("token", name).WithField("by", by.String()).Info("a token has a new secret")
	return t, secret, nil
}

// Revoke removes a token, which no longer counts when it returns: streams that it
// has opened are ended by who serves them. Errors: errdefs.ErrNotFound; those of a commit.
func (s *Set) Revoke(ctx context.Context, by access.Caller, name string) error {
	err := s.commit(ctx, func(tx *store.Tx) error { return tx.DeleteToken(name) })
	if err == nil {
		s.log.WithField("token", name).WithField("by", by.String()).Info("a token was revoked")
	}
	return noToken(name, err)
}

// noToken is err in the words of this package.
func noToken(name string, err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("token %q: %w", plain.Short(name), errdefs.ErrNotFound)
	}
	return err
}

// commit commits a change and takes it over.
func (s *Set) commit(ctx context.Context, change func(*store.Tx) error) error {
	if !s.run.Serving() {
		return errdefs.ErrRecovering
	}
	// Held over the commit and the reading: what was read before a later change must not replace it.
	s.changes.Lock()
	defer s.changes.Unlock()
	// From the reserve: a token must be revocable on a full disk.
	if err := s.journal.CommitReserved(ctx, func(b *journal.Batch) error { return change(b.Tx) }); err != nil {
		return err
	}
	return s.load()
}

// renewed gives a token a new secret, twice 130 bits in letters and digits that need
// no quotes anywhere, and returns it.
func renewed(t *store.Token) string {
	secret := secretPrefix + rand.Text() + rand.Text()
	sum := sha256.Sum256([]byte(secret))
	t.SHA256 = hex.EncodeToString(sum[:])
	return secret
}
