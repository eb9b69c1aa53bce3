package hive

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"rbeehive/hive/access"
	"rbeehive/store"
)

// tokens is the tokens of the state in memory: each request that has one asks. It is
// replaced as a whole after each commit.
type tokens struct {
	byHash  atomic.Pointer[map[[sha256.Size]byte]store.Token]
	changes sync.Mutex // one change at a time, so that the map has what the file has
}

// NewToken is what a token is made from.
type NewToken struct {
	Name      string
	Rights    access.Rights // Read, Operate with types, or Admin
	ExpiresIn time.Duration // 0: never
}

var tokenNameRE = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._@-]{0,62}$`)

// TokenFile is the name of the token in the token file, as others are told of it.
const TokenFile = "token-file"

// secretPrefix lets a person, and a scanner of leaked secrets, see what it is.
const secretPrefix = "hive_"

// leastTokenLife is below what anybody can use.
const leastTokenLife = time.Minute

// DecodeToken reads the body of a request for a token. Errors are *InputError.
func DecodeToken(body []byte) (NewToken, error) {
	var n NewToken
	f, err := decodeObject(body, `{"name": "ci", "level": "read"}`)
	if err != nil {
		return n, err
	}
	if err := f.only("a token", []string{"name", "level", "types", "expires_in"}); err != nil {
		return n, err
	}
	if n.Name, err = f.text("name"); err != nil {
		return n, err
	}
	level, err := f.text("level")
	if err != nil {
		return n, err
	}
	n.Rights = rightsOf(store.Token{Level: level})
	if n.Rights.Level == access.None {
		return n, badField("level", fmt.Sprintf("is %q; expected read, operate or admin", clip(level)))
	}
	if n.Rights.Types, err = f.texts("types"); err != nil {
		return n, err
	}
	if operate := n.Rights.Level == access.Operate; operate != (len(n.Rights.Types) > 0) {
		return n, badField("types", "is for the level operate, and required there: the worker types that may be started and stopped")
	}
	life, err := f.text("expires_in")
	if err != nil || life == "" {
		return n, err
	}
	n.ExpiresIn, err = time.ParseDuration(life)
	if err != nil || n.ExpiresIn < leastTokenLife {
		return n, badField("expires_in", fmt.Sprintf("is %q; expected a duration with a unit of at least 1m, such as 720h", clip(life)))
	}
	return n, nil
}

// loadTokens reads the tokens. It blocks on the file.
func (h *Hive) loadTokens() error {
	all := map[[sha256.Size]byte]store.Token{}
	err := h.store.View(func(tx *store.Tx) error {
		for t, err := range tx.Tokens() {
			if err != nil {
				return err
			}
			sum, err := hex.DecodeString(t.SHA256)
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
	h.tokens.byHash.Store(&all)
	return nil
}

// TokenRights returns the name of the token that has this SHA-256, and what it was
// made for. ok is false for one that is not known, or has expired. It does not block.
func (h *Hive) TokenRights(sum [sha256.Size]byte) (name string, r access.Rights, ok bool) {
	t, ok := (*h.tokens.byHash.Load())[sum]
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

// Tokens returns all tokens by name, also those that have expired.
func (h *Hive) Tokens() []store.Token {
	return slices.SortedFunc(maps.Values(*h.tokens.byHash.Load()), func(a, b store.Token) int { return strings.Compare(a.Name, b.Name) })
}

// AddToken makes a token. The secret is returned and kept nowhere. It is durable and
// counts when it returns. Errors: *InputError, of kind ErrConflict if there is one of
// that name; those of a commit.
func (h *Hive) AddToken(ctx context.Context, by access.Caller, n NewToken) (store.Token, string, error) {
	if err := h.checkToken(n); err != nil {
		return store.Token{}, "", err
	}
	now := time.Now().UTC()
	t := store.Token{Name: n.Name, Level: n.Rights.Level.String(), Types: n.Rights.Types, CreatedAt: now, CreatedBy: by.Record()}
	if n.ExpiresIn > 0 {
		at := now.Add(n.ExpiresIn)
		t.ExpiresAt = &at
	}
	secret := renewed(&t)
	err := h.changeTokens(ctx, func(tx *store.Tx) error {
		_, err := tx.Token(t.Name)
		if err == nil {
			return &InputError{Kind: ErrConflict, Field: "name", Detail: fmt.Sprintf("there is a token %s already; rotate it for a new secret, or revoke it first", t.Name)}
		}
		if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		return tx.PutToken(t)
	})
	if err != nil {
		return store.Token{}, "", err
	}
	h.cfg.Log.WithField("token", t.Name).WithField("rights", n.Rights.String()).WithField("by", by.String()).Info("a token was added")
	return t, secret, nil
}

func (h *Hive) checkToken(n NewToken) error {
	switch {
	case !tokenNameRE.MatchString(n.Name):
		return badField("name", fmt.Sprintf("is %q; expected letters, digits, '.', '_', '@' and '-', at most 63, the first a letter or a digit", clip(n.Name)))
	case n.Name == TokenFile:
		return badField("name", fmt.Sprintf("%s stands for the token in the data directory; choose another", TokenFile))
	case n.Rights.Level == access.None:
		return badField("rights", "is required: read, admin, or types")
	case len(h.Tokens()) >= store.MostTokens:
		return &InputError{Kind: ErrConflict, Detail: fmt.Sprintf("there are %d tokens, and no more are possible; revoke some", store.MostTokens)}
	}
	for _, typ := range n.Rights.Types {
		if _, ok := h.types().Type(typ); !ok {
			return badField("types", fmt.Sprintf("no worker type %q (known: %s)", clip(typ), strings.Join(h.typeNames(), ", ")))
		}
	}
	return nil
}

// RotateToken gives a token another secret; the old one no longer counts when it
// returns. Errors: ErrNotFound; those of a commit.
func (h *Hive) RotateToken(ctx context.Context, by access.Caller, name string) (t store.Token, secret string, err error) {
	err = h.changeTokens(ctx, func(tx *store.Tx) (err error) {
		if t, err = tx.Token(name); err != nil {
			return err
		}
		secret = renewed(&t)
		return tx.PutToken(t)
	})
	if err != nil {
		return store.Token{}, "", noToken(name, err)
	}
	h.cfg.Log.WithField("token", name).WithField("by", by.String()).Info("a token has a new secret")
	return t, secret, nil
}

// RevokeToken removes a token, which no longer counts when it returns: streams that it
// has opened are ended by who serves them. Errors: ErrNotFound; those of a commit.
func (h *Hive) RevokeToken(ctx context.Context, by access.Caller, name string) error {
	err := h.changeTokens(ctx, func(tx *store.Tx) error { return tx.DeleteToken(name) })
	if err == nil {
		h.cfg.Log.WithField("token", name).WithField("by", by.String()).Info("a token was revoked")
	}
	return noToken(name, err)
}

// noToken is err in the words of this package.
func noToken(name string, err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("token %q: %w", clip(name), ErrNotFound)
	}
	return err
}

// changeTokens commits a change and takes it over.
func (h *Hive) changeTokens(ctx context.Context, change func(*store.Tx) error) error {
	if !h.serving.Load() {
		return ErrRecovering
	}
	h.tokens.changes.Lock()
	defer h.tokens.changes.Unlock()
	if err := h.store.UpdateReserved(ctx, change); err != nil {
		return err
	}
	return h.loadTokens()
}

// renewed gives a token a new secret, twice 130 bits in letters and digits that need
// no quotes anywhere, and returns it.
func renewed(t *store.Token) string {
	secret := secretPrefix + rand.Text() + rand.Text()
	sum := sha256.Sum256([]byte(secret))
	t.SHA256 = hex.EncodeToString(sum[:])
	return secret
}

